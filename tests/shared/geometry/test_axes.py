# SPDX-License-Identifier: Apache-2.0
"""Frames: every change of frame is a rotation, round trips, and the cameras agree."""

from itertools import permutations, product

import numpy as np
import pytest
from _support.made_up import covariances, make_gaussians
from crowdgaussian_shared.geometry import axes
from crowdgaussian_shared.geometry.rotations import axis_angle_to_matrix, quat_to_matrix
from crowdgaussian_shared.geometry.sh import eval_sh
from hypothesis import given
from hypothesis import strategies as st

FRAMES = ("opencv", "scene", "blender")
PAIRS = list(permutations(FRAMES, 2))
_unit = st.floats(-1, 1, allow_nan=False)


def test_the_documented_directions():
    up, front = np.array([0.0, 1, 0]), np.array([0.0, 0, 1])  # scene
    np.testing.assert_array_equal(axes.scene_to_blender(up), [0, 0, 1])
    np.testing.assert_array_equal(axes.scene_to_blender(front), [0, -1, 0])
    seen = axes.convert_points(np.stack([up, front]), "scene", "opencv")
    np.testing.assert_array_equal(seen, [[0, -1, 0], [0, 0, -1]])
    np.testing.assert_array_equal(axes.scene_to_blender(np.array([1.0, 2, 3])), [1, -3, 2])


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_changes_are_proper_rotations_and_round_trip(source, target):
    change = axes.frame_matrix(source, target)
    np.testing.assert_array_equal(change @ change.T, np.eye(3))
    assert np.linalg.det(change) == pytest.approx(1)
    points = np.random.default_rng(0).normal(size=(4, 5, 3)).astype(np.float32)
    back = axes.convert_points(axes.convert_points(points, source, target), target, source)
    np.testing.assert_array_equal(back, points)
    assert back.dtype == np.float32


@pytest.mark.parametrize(("a", "b", "c"), list(product(FRAMES, repeat=3)))
def test_going_through_a_third_frame_is_the_same(a, b, c):
    np.testing.assert_array_equal(
        axes.frame_matrix(b, c) @ axes.frame_matrix(a, b), axes.frame_matrix(a, c)
    )


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_rotations_commute_with_the_change(source, target):
    rng = np.random.default_rng(1)
    vector, point = rng.normal(size=3), rng.normal(size=3)
    rotation = axis_angle_to_matrix(vector)
    turned_first = axes.convert_points(rotation @ point, source, target)
    moved = axes.convert_rotations(rotation, source, target)
    np.testing.assert_allclose(moved @ axes.convert_points(point, source, target), turned_first)
    np.testing.assert_allclose(
        axis_angle_to_matrix(axes.convert_points(vector, source, target)), moved, atol=1e-12
    )


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_gaussians_change_frame_as_a_whole(source, target):
    cloud = make_gaussians(30)
    moved = axes.convert_gaussians(cloud, source, target)
    change = axes.frame_matrix(source, target)
    expected = change @ covariances(cloud) @ change.T
    np.testing.assert_allclose(covariances(moved), expected, atol=1e-6 * np.abs(expected).max())
    directions = np.random.default_rng(2).normal(size=(30, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    np.testing.assert_allclose(
        eval_sh(moved.sh, directions @ change.T), eval_sh(cloud.sh, directions), atol=1e-5
    )
    np.testing.assert_allclose(
        quat_to_matrix(moved.quats),
        axes.convert_orientations(quat_to_matrix(cloud.quats), source, target),
        atol=1e-6,
    )
    back = axes.convert_gaussians(moved, target, source)
    np.testing.assert_allclose(back.sh, cloud.sh, atol=1e-5)


def test_a_level_camera_sees_the_scene_upright():
    viewmat = axes.scene_viewmat(1.6)
    eye = viewmat @ [0, 1.6, 0, 1]
    np.testing.assert_allclose(eye, [0, 0, 0, 1], atol=1e-12)
    ahead_right_above = viewmat @ [1, 2.6, -4, 1]
    np.testing.assert_allclose(ahead_right_above, [1, -1, 4, 1], atol=1e-12)


def test_pitch_looks_down_and_roll_turns_the_picture():
    horizon = axes.scene_viewmat(1.6, pitch=0.2) @ [0, 1.6, -10, 1]
    assert horizon[1] < 0  # the horizon rises in the picture
    above = axes.scene_viewmat(0, roll=0.2) @ [0, 1, -10, 1]
    assert above[0] < 0 and above[1] < 0


@given(st.tuples(_unit, _unit, _unit), st.tuples(_unit, _unit, _unit))
def test_blender_camera_round_trip_and_agreement(turn, place):
    viewmat = np.eye(4)
    viewmat[:3, :3] = axis_angle_to_matrix(np.array(turn))
    viewmat[:3, 3] = place
    world = axes.viewmat_to_blender_camera(viewmat)
    np.testing.assert_allclose(axes.blender_camera_to_viewmat(world), viewmat, atol=1e-12)
    point = np.array([0.3, -0.2, 1.7])
    in_opencv = viewmat[:3, :3] @ point + viewmat[:3, 3]
    in_blender = np.linalg.inv(world) @ [*axes.scene_to_blender(point), 1]
    np.testing.assert_allclose(in_blender[:3], in_opencv * [1, -1, -1], atol=1e-12)
