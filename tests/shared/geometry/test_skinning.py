# SPDX-License-Identifier: Apache-2.0
"""Skinning: exact covariances, rigid motions, identity, forward kinematics."""

from dataclasses import replace

import numpy as np
import pytest
from _support.made_up import covariances, make_avatar, make_gaussians, make_skin
from crowdgaussian_shared.geometry import skinning
from crowdgaussian_shared.geometry.avatar import Gaussians
from crowdgaussian_shared.geometry.rotations import (
    axis_angle_to_matrix,
    quat_normalize,
    quat_to_matrix,
)
from crowdgaussian_shared.geometry.sh import eval_sh
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX, PARENTS
from hypothesis import given, settings
from hypothesis import strategies as st

_parts = st.floats(-3, 3, allow_nan=False)
vectors = st.tuples(_parts, _parts, _parts).map(np.array)


def rest_joints(seed=0):
    return np.random.default_rng(seed).normal(size=(55, 3))


def random_pose(seed=0, size=0.4):
    return np.random.default_rng(seed).normal(0, size, size=(55, 3))


def float64(gaussians: Gaussians) -> Gaussians:
    wide = {name: value.astype(np.float64) for name, value in vars(gaussians).items()}
    return Gaussians(**wide | {"quats": quat_normalize(wide["quats"])})


def test_zero_pose_is_the_identity():
    transforms = skinning.joint_transforms(rest_joints(), np.zeros((55, 3)), np.zeros(3))
    np.testing.assert_allclose(transforms, np.broadcast_to(np.eye(4), (55, 4, 4)), atol=1e-12)


def test_forward_kinematics_by_hand():
    """Each joint turns what hangs below it about its own posed place."""
    rest, pose, transl = rest_joints(), random_pose(), np.array([1.0, 2, 3])
    transforms = skinning.joint_transforms(rest, pose, transl)
    point = rest[JOINT_INDEX["left_wrist"]] + [0.1, 0.0, 0.0]
    joint, expected = JOINT_INDEX["left_wrist"], point
    while joint >= 0:
        expected = axis_angle_to_matrix(pose[joint]) @ (expected - rest[joint]) + rest[joint]
        joint = PARENTS[joint]
    posed = transforms[JOINT_INDEX["left_wrist"]] @ [*point, 1]
    np.testing.assert_allclose(posed[:3], expected + transl, atol=1e-12)


def test_bones_keep_their_length():
    rest = rest_joints()
    transforms = skinning.joint_transforms(rest, random_pose(size=1.5), np.ones(3))
    posed = np.einsum("jab,jb->ja", transforms[:, :3, :3], rest) + transforms[:, :3, 3]
    parents = list(PARENTS[1:])
    np.testing.assert_allclose(
        np.linalg.norm(posed[1:] - posed[parents], axis=1),
        np.linalg.norm(rest[1:] - rest[parents], axis=1),
    )


def test_identity_pose_changes_nothing():
    cloud = make_gaussians(200)
    transforms = skinning.joint_transforms(rest_joints(), np.zeros((55, 3)), np.zeros(3))
    posed = skinning.skin_gaussians(cloud, *make_skin(200), transforms)
    for name, value in vars(cloud).items():
        np.testing.assert_allclose(getattr(posed, name), value, atol=5e-6, err_msg=name)
    np.testing.assert_array_equal(posed.scales, cloud.scales)


@settings(max_examples=30)
@given(vectors, vectors)
def test_a_rigid_motion_moves_everything_exactly(turn, shift):
    pose = np.zeros((55, 3))
    pose[0] = turn
    rest = rest_joints()
    transforms = skinning.joint_transforms(rest, pose, shift)
    cloud = float64(make_gaussians(40))
    joints, weights = make_skin(40)
    weights = weights.astype(np.float64)
    weights /= weights.sum(axis=1, keepdims=True)
    posed = skinning.skin_gaussians(cloud, joints, weights, transforms)
    rotation = axis_angle_to_matrix(turn)
    expected = (cloud.means - rest[0]) @ rotation.T + rest[0] + shift
    np.testing.assert_allclose(posed.means, expected, atol=1e-9)
    np.testing.assert_array_equal(posed.scales, cloud.scales)
    np.testing.assert_allclose(
        quat_to_matrix(posed.quats), rotation @ quat_to_matrix(cloud.quats), atol=1e-9
    )
    directions = cloud.means / np.linalg.norm(cloud.means, axis=1, keepdims=True)
    np.testing.assert_allclose(
        eval_sh(posed.sh, directions @ rotation.T), eval_sh(cloud.sh, directions), atol=1e-9
    )


@pytest.mark.parametrize("size", [0.3, 2.0])
def test_covariance_is_that_of_the_blended_affine(size):
    cloud = float64(make_gaussians(500))
    joints, weights = make_skin(500)
    transforms = skinning.joint_transforms(rest_joints(), random_pose(size=size), np.ones(3))
    posed = skinning.skin_gaussians(cloud, joints, weights, transforms)
    linear = np.einsum("nk,nkab->nab", weights.astype(float), transforms[joints])[:, :3, :3]
    expected = linear @ covariances(cloud) @ linear.transpose(0, 2, 1)
    largest = np.abs(expected).max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(covariances(posed) / largest, expected / largest, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(posed.quats, axis=1), 1, atol=1e-12)
    assert (posed.quats[:, 0] >= 0).all()
    assert (posed.scales >= 0).all()


def test_centres_are_skinned_like_points():
    cloud, (joints, weights) = make_gaussians(60), make_skin(60)
    transforms = skinning.joint_transforms(rest_joints(), random_pose(), np.ones(3))
    by_hand = [
        sum(w * (transforms[j] @ [*p, 1])[:3] for j, w in zip(js, ws, strict=True))
        for p, js, ws in zip(cloud.means, joints, weights, strict=True)
    ]
    points = skinning.skin(cloud.means, joints, weights, transforms)
    np.testing.assert_allclose(points, by_hand, atol=1e-5)
    posed = skinning.skin_gaussians(cloud, joints, weights, transforms)
    np.testing.assert_array_equal(posed.means, points)
    assert posed.means.dtype == posed.quats.dtype == posed.sh.dtype == np.float32


def test_weights_are_a_partition_of_unity():
    """When all joints move alike, the weights must not matter."""
    affine = np.eye(4)
    affine[:3, :3] = np.random.default_rng(4).normal(size=(3, 3))
    affine[:3, 3] = [3.0, -2.0, 1.0]
    joints, weights = make_skin(100)
    blended = skinning.blend_transforms(joints, weights, np.broadcast_to(affine, (55, 4, 4)))
    np.testing.assert_allclose(blended, np.broadcast_to(affine[:3], (100, 3, 4)), atol=1e-6)


def test_flat_needle_and_round_gaussians_survive_a_bend():
    cloud = make_gaussians(6)
    scales = [[0.1, 0.1, 0], [0.1, 0, 0], [0, 0, 0], [0.1, 0.1, 0.1], [1e-7, 0.1, 5], [1, 1, 1e-9]]
    cloud = float64(replace(cloud, scales=np.array(scales, dtype=np.float32)))
    joints, weights = make_skin(6)
    transforms = skinning.joint_transforms(rest_joints(), random_pose(size=1.0), np.ones(3))
    posed = skinning.skin_gaussians(cloud, joints, weights, transforms)
    linear = skinning.blend_transforms(joints, weights, transforms)[:, :, :3]
    expected = linear @ covariances(cloud) @ linear.transpose(0, 2, 1)
    np.testing.assert_allclose(covariances(posed), expected, atol=1e-9)
    assert np.isfinite(posed.quats).all()


def test_colours_turn_with_the_polar_rotation():
    """A stretched affine has the SH of its rotation alone."""
    cloud = float64(make_gaussians(1))
    rotation = axis_angle_to_matrix(np.array([0.4, 0.9, -0.3]))
    stretch = np.array([[1.4, 0.2, 0], [0.2, 0.8, 0.1], [0, 0.1, 1.1]])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ stretch
    joints, weights = np.zeros((1, 4), dtype=np.uint8), np.array([[1.0, 0, 0, 0]])
    posed = skinning.skin_gaussians(cloud, joints, weights, np.stack([affine] * 55))
    direction = np.array([[0.6, 0.0, 0.8]])
    np.testing.assert_allclose(
        eval_sh(posed.sh, direction @ rotation.T), eval_sh(cloud.sh, direction), atol=1e-12
    )


def test_pose_avatar_uses_the_photo_unless_told_otherwise():
    avatar = make_avatar()
    transforms = skinning.joint_transforms(avatar.rest_joints, avatar.pose, avatar.transl)
    skin = avatar.skin_joints, avatar.skin_weights
    expected = skinning.skin_gaussians(avatar.gaussians, *skin, transforms)
    np.testing.assert_array_equal(skinning.pose_avatar(avatar).means, expected.means)
    rest = skinning.pose_avatar(avatar, pose=np.zeros((55, 3)), transl=np.zeros(3))
    np.testing.assert_allclose(rest.means, avatar.gaussians.means, atol=1e-5)
    body = skinning.pose_body(avatar, pose=np.zeros((55, 3)), transl=np.array([0.0, 1, 0]))
    np.testing.assert_allclose(body, avatar.body.vertices + [0, 1, 0], atol=1e-5)
