# SPDX-License-Identifier: Apache-2.0
"""Skirts that close between the legs and long hair that falls down the back."""

from dataclasses import replace

import numpy as np
import pytest
from _support.avatar_scene import crowd_of, paint
from crowdgaussian.avatar.loose import drape, find_hair, find_hem
from crowdgaussian.avatar.surface import fit_surface
from crowdgaussian.avatar.types import PhotoFitConfig
from crowdgaussian.avatar.visibility import make_view
from crowdgaussian.body import load_body
from crowdgaussian.body.model import pose_body
from crowdgaussian.body.parts import LEG, find_regions
from crowdgaussian.segment.types import CrowdView, PersonMask
from crowdgaussian.splat.normals import render_mesh_depth
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX

KNEE = -0.45  # height at rest


@pytest.fixture(scope="module")
def body():
    return load_body()


@pytest.fixture(scope="module")
def scene(body):
    return paint(body, shirt=0.0, hair=0.0)


@pytest.fixture(scope="module")
def regions(body, scene):
    return find_regions(body, scene.posed)


def view_with(scene, more):
    """The scene's photo where `more` pixels are the person's too."""
    mask = scene.mask | more
    view = CrowdView(scene.photo, crowd_of(scene), [PersonMask(mask, mask, 0.0)])
    return make_view(view, 0, 0.08, 320)


def silhouette(vertices, posed, camera):
    depth, _ = render_mesh_depth(vertices.astype(np.float32), posed.faces, camera)
    return np.isfinite(np.asarray(depth))


@pytest.fixture(scope="module")
def skirt_view(scene, regions):
    """Every row of the legs above the knee is filled from leg to leg."""
    posed = scene.posed
    legs = (regions.group == LEG) & (posed.rest[:, 1] > KNEE)
    pixels, _ = scene.camera.project(posed.pose_points(posed.rest)[legs])
    more = np.zeros_like(scene.mask)
    for row in range(int(pixels[:, 1].min()), int(pixels[:, 1].max())):
        near = pixels[np.abs(pixels[:, 1] - row) < 8, 0]
        more[row, int(near.min()) : int(near.max())] = True
    return view_with(scene, more)


def test_a_skirt_is_seen_between_the_legs_and_its_hem_found(scene, regions, skirt_view):
    hem = find_hem(scene.posed, regions, skirt_view)
    assert hem is not None and abs(hem - KNEE) < 0.07


def test_bare_legs_and_wide_trousers_are_no_skirt(body, scene, regions):
    assert find_hem(scene.posed, regions, view_with(scene, scene.mask & False)) is None
    wide = paint(body, shirt=0.0, hair=0.0)
    rim = np.zeros_like(scene.mask)
    for shift in (-2, -1, 1, 2):  # 2 pixels are 16 mm
        rim |= np.roll(wide.mask, shift, 1)
    assert find_hem(scene.posed, regions, view_with(scene, rim)) is None


def test_a_skirt_stays_closed_in_a_stride(body, scene, regions, skirt_view):
    hangs = drape(scene.posed, regions, skirt_view, PhotoFitConfig())
    assert hangs.cloth.max() > 0.99 and hangs.wall.any()
    pose = np.zeros((55, 3), np.float32)
    pose[JOINT_INDEX["left_hip"], 0], pose[JOINT_INDEX["right_hip"], 0] = -0.45, 0.45
    pose[0, 1] = np.pi / 2  # seen from the side
    walking = pose_body(body, replace(scene.parameters, pose=pose))
    worn = replace(hangs.posed, transforms=walking.transforms)
    legs = silhouette(walking.pose_points(walking.rest), walking, scene.camera)
    cloth = silhouette(worn.pose_points(worn.rest), worn, scene.camera)
    thighs = (regions.group == LEG) & (np.abs(walking.rest[:, 1] + 0.36) < 0.04)
    pixels, _ = scene.camera.project(walking.pose_points(walking.rest)[thighs])
    row, columns = int(pixels[:, 1].mean()), slice(*pixels[:, 0][[*extremes(pixels)]].astype(int))
    assert (~legs[row, columns]).sum() >= 4 and cloth[row, columns].all()


def extremes(pixels):
    """The leftmost and the rightmost."""
    return pixels[:, 0].argmin(), pixels[:, 0].argmax()


def test_the_body_below_a_skirt_stays_as_it_is(scene, regions, skirt_view):
    surface = fit_surface(scene.posed, regions, skirt_view, PhotoFitConfig())
    under = surface.hangs.cloth > 0
    assert np.abs(surface.body - scene.posed.rest)[under].max() < 1e-9
    assert np.abs(surface.vertices - scene.posed.rest)[under].max() > 0.03


def test_clothes_stay_close_when_told_to(scene, regions, skirt_view):
    tight = drape(scene.posed, regions, skirt_view, PhotoFitConfig(loose=False))
    assert tight.posed is scene.posed and not tight.cloth.any()


def test_long_hair_is_told_by_its_colour_beside_the_neck(scene, regions):
    posed = scene.posed
    scalp = posed.pose_points(posed.rest)[regions.scalp > 0.6]
    pixels, _ = scene.camera.project(scalp)
    left, top = pixels.min(0).astype(int) - 4
    right, bottom = pixels.max(0).astype(int) + 4
    beside = np.zeros_like(scene.mask)
    beside[(top + bottom) // 2 : bottom + 22, left : left + 10] = True
    beside[(top + bottom) // 2 : bottom + 22, right - 9 : right + 1] = True
    photo = scene.photo.copy()
    photo[beside] = np.array([30, 20, 13])
    assert find_hair(posed, regions, view_with(scene, scene.mask & False)) is None
    tips = find_hair(posed, regions, view_with(replace(scene, photo=photo), beside))
    neck = posed.joints[JOINT_INDEX["neck"], 1]
    assert tips is not None and tips < neck + 0.03
    hangs = drape(posed, regions, view_with(replace(scene, photo=photo), beside), PhotoFitConfig())
    moved = np.linalg.norm(hangs.posed.rest - posed.rest, axis=1) > 0.01
    behind = moved & (posed.rest[:, 1] < neck + 0.05) & (posed.rest[:, 1] > tips)
    assert behind.sum() > 20 and (hangs.regions.scalp[behind] > 0.1).all()
