# SPDX-License-Identifier: Apache-2.0
"""Sampling, binding and the contour steps that give the body its clothes."""

import numpy as np
import pytest
from _support.avatar_scene import paint, view_of
from crowdgaussian.avatar.gaussians import bind, dense_weights, face_density, top_four
from crowdgaussian.avatar.pose_refine import refine_pose
from crowdgaussian.avatar.surface import fit_surface, offset_limits
from crowdgaussian.avatar.types import PhotoFitConfig
from crowdgaussian.avatar.visibility import make_view
from crowdgaussian.body import load_body
from crowdgaussian.body.parts import HAND, find_regions, sample_surface
from crowdgaussian.core.mesh import (
    cotangent_laplacian,
    projection_jacobian,
    vertex_areas,
    vertex_normals,
)
from crowdgaussian.splat.normals import render_mesh_depth
from crowdgaussian_shared.geometry.avatar import BodyParams
from crowdgaussian_shared.geometry.skinning import blend_transforms
from scipy.spatial import cKDTree


@pytest.fixture(scope="module")
def body():
    return load_body()


@pytest.fixture(scope="module")
def scene(body):
    return paint(body)


@pytest.fixture(scope="module")
def view(scene):
    return make_view(view_of(scene), 0, 0.08, 320)


def iou_of(vertices, faces, view):
    depth, _ = render_mesh_depth(vertices.astype(np.float32), faces, view.camera)
    drawn = np.isfinite(np.asarray(depth))
    return (drawn & view.visible).sum() / (drawn | view.visible).sum()


def square(n):
    x, y = np.meshgrid(np.linspace(0, 1, n), np.linspace(0, 1, n))
    a = (np.arange(n - 1)[:, None] * n + np.arange(n - 1)).ravel()
    faces = np.concatenate([np.stack([a, a + 1, a + n], 1), np.stack([a + 1, a + n + 1, a + n], 1)])
    return np.stack([x.ravel(), y.ravel(), np.zeros(n * n)], 1), faces


def test_laplacian_measures_the_slope_of_a_linear_field():
    vertices, faces = square(12)
    field = vertices @ (2.0, -1.0, 0.0)
    assert np.isclose(field @ (cotangent_laplacian(vertices, faces) @ field), 5.0, rtol=0.05)
    assert np.isclose(vertex_areas(vertices, faces).sum(), 1.0)
    assert np.allclose(vertex_normals(vertices, faces), (0, 0, 1))


def test_projection_jacobian_matches_differences(scene):
    points = np.random.default_rng(0).normal(0, 0.3, (5, 3)) + (0, 1, -3)
    step = 1e-6 * np.eye(3)
    moved = np.stack([scene.camera.project(points + d)[0] for d in step], -1)
    numeric = (moved - scene.camera.project(points)[0][..., None]) / 1e-6
    assert np.allclose(projection_jacobian(points, scene.camera), numeric, rtol=1e-3, atol=1e-2)


def test_samples_are_even_and_follow_the_density():
    vertices, faces = square(20)
    density = np.where(vertices[faces].mean(1)[:, 0] < 0.5, 4.0, 1.0)
    points = sample_surface(vertices, faces, density, 2000, 0)
    assert 1700 < len(points.face) < 2300
    places = points.on(vertices, faces)
    left = places[:, 0] < 0.5
    assert 3.0 < left.sum() / (~left).sum() < 5.0
    nearest = cKDTree(places[left]).query(places[left], k=2)[0][:, 1]
    assert nearest.min() > 0.4 * np.median(nearest)


def test_samples_leave_bare_faces_bare():
    vertices, faces = square(10)
    density = (vertices[faces].mean(1)[:, 0] < 0.5).astype(float)
    assert (density[sample_surface(vertices, faces, density, 300, 0).face] > 0).all()


def test_top_four_keeps_the_largest_and_sums_to_one():
    dense = np.random.default_rng(1).random((50, 55))
    joints, weights = top_four(dense)
    assert np.allclose(weights.sum(1), 1)
    assert np.array_equal(np.sort(joints, 1), np.sort(np.argsort(-dense, 1)[:, :4], 1))


def test_bound_discs_lie_on_the_posed_surface(body, scene):
    regions = find_regions(body, scene.posed)
    density = face_density(np.zeros(len(scene.posed.rest)), scene.posed, regions, PhotoFitConfig())
    points = sample_surface(scene.posed.rest, scene.posed.faces, density, 3000, 0)
    cloud = bind(points, scene.posed.rest, scene.posed, regions, np.asarray(body.mirror_vertices))
    matrices = blend_transforms(cloud.skin_joints, cloud.skin_weights, scene.posed.transforms)
    posed = np.einsum("nij,nj->ni", matrices[:, :, :3], cloud.means) + matrices[:, :, 3]
    on_mesh = points.on(scene.posed.pose_points(scene.posed.rest), scene.posed.faces)
    assert np.linalg.norm(posed - on_mesh, axis=1).mean() < 2e-3
    assert np.allclose(cloud.frames.transpose(0, 2, 1) @ cloud.frames, np.eye(3), atol=1e-6)
    assert np.allclose(np.linalg.det(cloud.frames), 1)
    mirrored = cloud.means * (-1, 1, 1)
    assert np.linalg.norm(cloud.mirrored - mirrored, axis=1).mean() < 2e-3
    assert np.allclose(dense_weights(scene.posed).sum(1), 1)


def test_regions_of_head_and_hands(body, scene):
    regions = find_regions(body, scene.posed)
    rest = scene.posed.rest
    front, back = rest[regions.face > 0.9], rest[regions.scalp > 0.9]
    assert front[:, 2].mean() > back[:, 2].mean() + 0.1
    assert (regions.face * regions.scalp).max() < 0.3
    assert np.abs(rest[regions.group == HAND][:, 0]).min() > 0.5


def test_surface_grows_clothes_and_hair(body, scene, view):
    config = PhotoFitConfig()
    regions = find_regions(body, scene.posed)
    before = iou_of(scene.posed.pose_points(scene.posed.rest), scene.posed.faces, view)
    surface = fit_surface(scene.posed, regions, view, config)
    after = iou_of(scene.posed.pose_points(surface.vertices), scene.posed.faces, view)
    assert before < 0.9 and after > 0.95
    upper, lower = offset_limits(regions, config)
    assert (surface.offset <= upper).all() and (surface.offset >= lower).all()
    assert surface.offset[regions.scalp > 0.9].mean() > 0.03
    assert np.abs(surface.offset[regions.face > 0.9]).max() < 0.02


def posed_joints(body, params):
    """Joints in the scene frame.  # [55, 3]"""
    return body.posed(params).joints


def test_contour_steps_bring_a_turned_arm_back(body, view):
    bare = paint(body, shirt=0.0, hair=0.0)
    seen = make_view(view_of(bare), 0, 0.08, 320)
    pose = bare.parameters.pose.copy()
    pose[16] += (0, 0, 0.15)
    pose[4] += (0, 0, 0.08)
    wrong = BodyParams(bare.parameters.betas, pose, bare.parameters.transl + np.float32(0.01), 1.0)
    started = refine_pose(body, wrong, seen, PhotoFitConfig(pose_steps=0))
    refined = refine_pose(body, wrong, seen, PhotoFitConfig(pose_steps=6))
    start = iou_of(started.pose_points(started.rest), started.faces, seen)
    end = iou_of(refined.pose_points(refined.rest), refined.faces, seen)
    assert end > 0.87 and end > start + 0.1  # 2 cm may be cloth and move nothing
    truth = bare.parameters.pose[16]
    assert np.abs(refined.params.pose[16] - truth)[2] < 0.1
    # Landmarks that are sure hold the limbs: an outline may be a neighbour's, or cloth.
    held = refine_pose(body, wrong, seen, PhotoFitConfig(pose_steps=6), np.full(33, 0.95))
    joints, told, free = (
        posed_joints(body, one.params)[[4, 5, 7, 8, 18, 19, 20, 21]]
        for one in (held, started, refined)
    )
    assert np.linalg.norm(joints - told, axis=1).max() < 0.03
    assert np.linalg.norm(free - told, axis=1).max() > 0.05


def test_cloth_does_not_move_or_fatten_a_right_body(body):
    """Loose clothes of 2 cm all around: the body under them is left where it is."""
    loose = paint(body, shirt=0.02, hair=0.0)
    seen = make_view(view_of(loose), 0, 0.08, 320)
    refined = refine_pose(body, loose.parameters, seen, PhotoFitConfig())
    moved = np.linalg.norm(
        refined.pose_points(refined.rest) - loose.posed.pose_points(loose.posed.rest), axis=1
    )
    assert moved.mean() < 0.004
    assert np.abs(refined.params.betas).max() < 0.2
