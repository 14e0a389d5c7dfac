# SPDX-License-Identifier: Apache-2.0
"""A face that the photo shows stays that face: completion and refiner leave it alone."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from _support.avatar_scene import paint, view_of
from crowdgaussian.avatar.photo_fit import PhotoFit
from crowdgaussian.avatar.types import PhotoFitConfig
from crowdgaussian.body import load_body
from crowdgaussian.completion.config import CompleteConfig
from crowdgaussian.completion.stage import open_completion
from crowdgaussian.core.progress import silent
from crowdgaussian.pipeline.reconstruct import refine_crowd
from crowdgaussian.refiner.stage import small_refinement
from crowdgaussian.refiner.types import DistilConfig, RefineConfig
from crowdgaussian.splat.cameras import Cameras
from crowdgaussian.splat.rasterize import rasterize
from crowdgaussian.splat.splats import Splats
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX
from crowdgaussian_shared.geometry.skinning import move_points, pose_avatar

CONFIG = PhotoFitConfig(gaussians=7000, max_crop_px=400, colour_steps=8, pose_steps=0)
REFINE = RefineConfig(photo_px=400, distil=DistilConfig(views=4, size=96, rounds=1, steps=12))
EYES = [JOINT_INDEX[f"{side}_eye_smplhf"] for side in ("left", "right")]
DRAWN = (8, 9, 40)  # sRGB 0..255
AROUND = 5  # pixels of an eye's place in which it is looked for


@pytest.fixture(scope="module")
def scene():
    """A painted person with two dark eyes, and where they are in the photo."""
    painted = paint(load_body(), 360, 480)
    places, _ = painted.camera.project(
        move_points(painted.posed.transforms[EYES, :3], painted.posed.joints[EYES])
    )
    photo = painted.photo.copy()
    for place in places.round().astype(int):
        cv2.circle(photo, place.tolist(), 2, DRAWN, -1)
    return replace(painted, photo=photo), places


@pytest.fixture(scope="module")
def stages(scene):
    """The avatar by rules alone, with the network that ships, and refined by the one that does."""
    body, view = load_body(), view_of(scene[0])
    plain, full = (
        next(PhotoFit(CONFIG, body, network).reconstruct(view, [0], silent)).result()
        for network in (None, open_completion(CompleteConfig(), body))
    )
    (cluster,) = refine_crowd(small_refinement(REFINE), view, {0: full}, silent)
    assert not cluster.error
    return {"rules": plain, "completed": full, "refined": cluster.avatars[0]}


def pictures(scene, stages):
    """The photo's view of each, with the eyes' surroundings cut out.  # [H, W, 3] sRGB"""
    cameras = Cameras.from_cameras(scene[0].camera)
    for name, avatar in stages.items():
        with torch.no_grad():
            render = rasterize(Splats.from_gaussians(pose_avatar(avatar)), cameras)
        yield name, render.color[0].clamp(0, 1).numpy()


def eyes_in(picture, places):
    """Where the darkness around each place has its middle.  # [2, 2] pixels"""
    found = []
    for x, y in places.round().astype(int):
        window = picture[y - AROUND : y + AROUND + 1, x - AROUND : x + AROUND + 1].mean(2)
        dark = np.clip(np.median(window) - 0.1 - window, 0, None)
        rows, columns = np.mgrid[: len(dark), : len(dark)]
        assert dark.sum() > 0.2, "an eye is gone"
        middle = np.array([(columns * dark).sum(), (rows * dark).sum()]) / dark.sum()
        found.append(middle - AROUND + (x, y))
    return np.array(found)


def test_a_face_seen_in_front_is_not_touched(scene, stages):
    """Colours within noise of the photo fit's, and the eyes where they were."""
    drawn = dict(pictures(scene, stages))
    (x0, y0), (x1, y1) = scene[1].min(0) - AROUND, scene[1].max(0) + AROUND
    face = np.s_[round(y0) : round(y1) + 1, round(x0) : round(x1) + 1]
    before = eyes_in(drawn["rules"], scene[1])
    assert np.abs(before - scene[1]).max() < 1.5  # they are the photo's
    for name, noise, moved in (("completed", 0.002, 0.05), ("refined", 0.015, 0.4)):
        assert np.abs(drawn[name][face] - drawn["rules"][face]).mean() < noise, name
        assert np.abs(eyes_in(drawn[name], scene[1]) - before).max() < moved, name


def test_the_back_of_the_same_person_is_touched(stages):
    """So the test above would see it if the face were."""
    one, other = (stages[name].gaussians.sh for name in ("rules", "completed"))
    assert np.abs(one - other).max() > 0.2
