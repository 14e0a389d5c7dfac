# SPDX-License-Identifier: Apache-2.0
"""Clouds under affine maps: against matrix algebra that knows nothing of quaternions."""

import numpy as np
import pytest
from _support.made_up import covariances, make_gaussians
from crowdgaussian_shared.geometry.rotations import axis_angle_to_matrix
from crowdgaussian_shared.geometry.sh import eval_sh
from crowdgaussian_shared.geometry.skinning import join_gaussians, transform_gaussians


def affine(linear, shift=(0.5, -2.0, 3.0)):
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = linear, shift
    return matrix


def directions(count, seed=1):
    d = np.random.default_rng(seed).normal(size=(count, 3))
    return d / np.linalg.norm(d, axis=1, keepdims=True)


TURN = axis_angle_to_matrix(np.array([0.4, -1.1, 0.7]))
LINEARS = {
    "turned": TURN,
    "stretched": TURN @ np.diag([0.5, 2.0, 1.3]),
    "sheared": np.array([[1.0, 0.4, 0.0], [0.0, 1.2, -0.3], [0.1, 0.0, 0.8]]),
    "mirrored": np.diag([-1.0, 1.0, 1.0]),
    "flat": np.diag([1.0, 1.0, 1e-9]),
}


@pytest.mark.parametrize("name", LINEARS)
def test_centres_and_covariances(name):
    cloud, matrix = make_gaussians(200), affine(LINEARS[name])
    moved = transform_gaussians(cloud, matrix)
    linear, shift = matrix[:3, :3], matrix[:3, 3]
    np.testing.assert_allclose(moved.means, cloud.means @ linear.T + shift, atol=1e-5)
    wanted = linear @ covariances(cloud) @ linear.T
    scale = np.abs(wanted).max(axis=(1, 2), keepdims=True)
    assert (np.abs(covariances(moved) - wanted) / scale).max() < 1e-5
    np.testing.assert_allclose(np.linalg.norm(moved.quats, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(moved.opacities, cloud.opacities)


def test_colours_turn_with_the_cloud_to_degree_three():
    cloud, seen = make_gaussians(50, degree=3), directions(50)
    moved = transform_gaussians(cloud, affine(TURN))
    np.testing.assert_allclose(eval_sh(moved.sh, seen @ TURN.T), eval_sh(cloud.sh, seen), atol=1e-5)


def test_stretching_along_the_axes_does_not_turn_colours():
    cloud = make_gaussians(20, degree=3)
    moved = transform_gaussians(cloud, affine(np.diag([0.5, 3.0, 1.0])))
    np.testing.assert_allclose(moved.sh, cloud.sh, atol=1e-5)


def test_there_and_back_again():
    cloud, matrix = make_gaussians(100), affine(TURN @ np.diag([0.5, 2.0, 1.3]))
    back = transform_gaussians(transform_gaussians(cloud, matrix), np.linalg.inv(matrix))
    np.testing.assert_allclose(back.means, cloud.means, atol=1e-5)
    np.testing.assert_allclose(covariances(back), covariances(cloud), rtol=1e-3, atol=1e-9)


def test_joined_clouds_keep_their_colours():
    plain, rich = make_gaussians(4, degree=0), make_gaussians(6, degree=2, seed=3)
    both, seen = join_gaussians([plain, rich]), directions(10)
    assert both.sh.shape == (10, 9, 3)
    np.testing.assert_allclose(eval_sh(both.sh, seen)[:4], eval_sh(plain.sh, seen[:4]), atol=1e-6)
    np.testing.assert_allclose(eval_sh(both.sh, seen)[4:], eval_sh(rich.sh, seen[4:]), atol=1e-6)
    np.testing.assert_array_equal(both.means, np.concatenate([plain.means, rich.means]))
