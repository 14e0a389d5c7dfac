# SPDX-License-Identifier: Apache-2.0
"""Corrections with the real stages: a corrected arm fits the photo better; people in boxes."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from _support.avatar_scene import crowd_of, paint
from crowdgaussian.body.load import load_body
from crowdgaussian.core.metrics import masked_psnr
from crowdgaussian.people.crowd import into_scene, rest_pelvis
from crowdgaussian.people.types import Crowd
from crowdgaussian.pipeline import checkpoint
from crowdgaussian.pipeline.config import configured
from crowdgaussian.pipeline.reconstruct import Job, reconstruct
from crowdgaussian.pipeline.stages import Stages, load_stage
from crowdgaussian.splat.cameras import Cameras
from crowdgaussian.splat.rasterize import rasterize
from crowdgaussian.splat.splats import Splats
from crowdgaussian_shared.geometry.camera import Camera
from crowdgaussian_shared.geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX
from crowdgaussian_shared.geometry.skinning import pose_avatar
from crowdgaussian_shared.scene.edit import PoseEdit, SceneEdit, SceneEdits
from PIL import Image

SMALL = {"avatar.gaussians": "3000", "avatar.colour_steps": "15", "stages.refiner": "none"}


@dataclass
class WrongArm:
    """A people stage that has one arm pointing up where the photo has it down."""

    scene: object

    def estimate(self, photo, focal_px, report):
        parameters = self.scene.parameters
        pose = parameters.pose.copy()
        pose[JOINT_INDEX["left_shoulder"]] = 0, 0, 0.8
        return crowd_of(self.scene, replace(parameters, pose=pose))


def camera_of(pitch, height):
    """A camera above the floor that looks down by a pitch, radians."""
    turn = axis_angle_to_matrix(np.array([pitch, 0, 0]))
    viewmat = np.eye(4)
    viewmat[:3, :3] = turn @ np.diag([1.0, -1, -1])
    viewmat[:3, 3] = -viewmat[:3, :3] @ (0, height, 0)
    return Camera(np.array([[500.0, 0, 200], [0, 500, 150], [0, 0, 1]]), viewmat, 400, 300)


@pytest.mark.parametrize("size, stood", [(1.2, True), (0.8, True), (1.0, False)])
def test_somebody_found_alone_lands_where_they_are(size, stood):
    """The same picture of one person under another camera, nearer and smaller or the reverse."""
    body = load_body()
    here, there = camera_of(0.1, 1.6), camera_of(0.3, 0.9)
    rng = np.random.default_rng(0)
    person = (
        crowd_of(paint(body, 42, 56))
        .people[0]
        .with_params(
            betas=rng.normal(0, 0.5, body.num_betas).astype(np.float32),
            pose=rng.normal(0, 0.1, (55, 3)),
        )
    )
    low = body.posed(person.with_params(transl=np.array([1.0, 1.0, -5])).params).lowest
    person = person.with_params(transl=np.array([1.0, 1.0 - low, -5]))  # the soles touch the floor
    change = np.linalg.inv(there.viewmat) @ np.diag([size, size, size, 1]) @ here.viewmat
    turn = change[:3, :3] / size
    pelvis = change @ np.append(rest_pelvis(body, person.betas, 1.0) + person.transl, 1.0)
    pose = person.pose.copy()
    pose[0] = matrix_to_axis_angle(turn @ axis_angle_to_matrix(pose[0]))
    alone = person.with_params(
        pose=pose, scale=size, transl=pelvis[:3] - rest_pelvis(body, person.betas, size)
    )
    crowd, found = Crowd((), here, "exif", ()), Crowd((alone,), there, "exif", (stood,))
    placed, standing = into_scene(found, crowd, body)
    assert standing == stood and placed.scale == pytest.approx(1.0, abs=1e-5)
    np.testing.assert_allclose(placed.transl, person.transl, atol=1e-4)
    np.testing.assert_allclose(placed.pose, person.pose, atol=1e-5)


def psnr(folder, scene):
    """Of the render against the photo, where the photo shows the person."""
    splats = Splats.from_gaussians(pose_avatar(folder.read_avatar(0)))
    with torch.no_grad():
        render = rasterize(splats, Cameras.from_cameras(scene.camera))
    photo = torch.from_numpy(scene.photo / 255.0)[None].float()
    return float(masked_psnr(render.color.clamp(0, 1), photo, torch.from_numpy(scene.mask)[None]))


def test_a_corrected_arm_fits_the_photo_better(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "files_for", lambda config: [])
    body = load_body()
    scene = paint(body, 168, 224)
    photo = tmp_path / "photo.png"
    Image.fromarray(scene.photo).save(photo)

    def stages(config):
        return Stages(
            body,
            WrongArm(scene),
            load_stage("segment", config, body),
            load_stage("avatar", config, body),
            lambda *_: {},
        )

    job = Job(photo, tmp_path / "base", configured("open", SMALL))
    base = reconstruct(job, make_stages=stages)
    truth = PoseEdit(scene.parameters.pose, scene.parameters.transl)
    edits = SceneEdits((SceneEdit({0: truth}),))
    refit = reconstruct(
        replace(job, out=tmp_path / "out", base=base.path, edits=edits), make_stages=stages
    )
    np.testing.assert_allclose(refit.read_avatar(0).pose, scene.parameters.pose, atol=1e-6)
    before, after = psnr(base, scene), psnr(refit, scene)
    print(f"PSNR in the mask: {before:.1f} dB before, {after:.1f} dB after")
    assert after > before + 3
