# SPDX-License-Identifier: Apache-2.0
"""Linear blend skinning of points and of whole Gaussians: the reference every engine must match.

A Gaussian with centre c, axes R and standard deviations S under the blended affine x -> M x + t
becomes the Gaussian with centre M c + t and covariance (M R S)(M R S)^T. Its colours turn with the
rotation of M's polar decomposition. Blending is that of SMPL (Loper et al. 2015, section 3).
"""

from collections.abc import Sequence
from itertools import permutations

import numpy as np

from .avatar import Avatar, Gaussians
from .rotations import axis_angle_to_matrix, matrix_to_quat, polar_rotation, quat_to_matrix
from .sh import num_coefficients, rotate_sh
from .skeleton import PARENTS

_RIGID = 1e-6  # |M^T M - I| below which a blended affine counts as a rigid motion
_ORDERS = np.array(list(permutations(range(3))))  # [6, 3]


def joint_transforms(rest_joints: np.ndarray, pose: np.ndarray, transl: np.ndarray) -> np.ndarray:
    """Forward kinematics: the affine that carries each joint's surroundings to the posed body.

    Args:
        rest_joints: [55, 3] metres, canonical frame.
        pose: [55, 3] axis-angle, radians, each relative to its parent; pose[0] turns the body
            about the rest pelvis.
        transl: [3] metres, added last.

    Returns:
        [55, 4, 4] float64, canonical -> posed; all identities for a zero pose and transl.
    """
    rest = np.asarray(rest_joints, dtype=np.float64)
    local = np.zeros((len(rest), 4, 4))
    local[:, :3, :3] = axis_angle_to_matrix(np.asarray(pose, dtype=np.float64))
    local[:, 3, 3] = 1
    local[0, :3, 3] = rest[0]
    local[1:, :3, 3] = rest[1:] - rest[list(PARENTS[1:])]
    world = local.copy()
    for joint, parent in enumerate(PARENTS):
        if parent >= 0:
            world[joint] = world[parent] @ local[joint]
    world[:, :3, 3] += np.asarray(transl, dtype=np.float64) - np.einsum(
        "jab,jb->ja", world[:, :3, :3], rest
    )
    return world


def blend_transforms(
    skin_joints: np.ndarray, skin_weights: np.ndarray, transforms: np.ndarray
) -> np.ndarray:
    """The affine of each point: sum_k w_k A[j_k].  # [N, K], [N, K], [J, 4, 4] -> [N, 3, 4]"""
    affines = np.asarray(transforms, dtype=np.float64)[:, :3, :]
    blended = np.zeros((len(skin_joints), 3, 4))
    for k in range(skin_joints.shape[1]):
        weights = skin_weights[:, k].astype(np.float64)
        blended += weights[:, None, None] * affines[skin_joints[:, k]]
    return blended


def move_points(affines: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Each point under its own affine map.  # [N, 3, 4], [N, 3] -> [N, 3]"""
    return np.einsum("nab,nb->na", affines[:, :, :3], points) + affines[:, :, 3]


def skin(
    points: np.ndarray, skin_joints: np.ndarray, skin_weights: np.ndarray, transforms: np.ndarray
) -> np.ndarray:
    """Move points by their blended affines.

    Args:
        points: [N, 3] metres, canonical frame.
        skin_joints: [N, 4] indices into the joints.
        skin_weights: [N, 4] rows sum to 1.
        transforms: [55, 4, 4] from joint_transforms.

    Returns:
        [N, 3] posed points in the dtype of points.
    """
    affines = blend_transforms(skin_joints, skin_weights, transforms)
    return move_points(affines, points).astype(points.dtype)


def skin_gaussians(
    gaussians: Gaussians,
    skin_joints: np.ndarray,
    skin_weights: np.ndarray,
    transforms: np.ndarray,
) -> Gaussians:
    """Pose Gaussians exactly: centres, covariances and spherical harmonics.

    Args:
        gaussians: N canonical Gaussians.
        skin_joints: [N, 4] indices into the joints.
        skin_weights: [N, 4] rows sum to 1.
        transforms: [55, 4, 4] from joint_transforms.

    Returns:
        N posed Gaussians in the dtype of gaussians.means: quats are unit, proper and have w >= 0,
        and axes keep their order, so that a rigid motion leaves the scales as they are.
    """
    affines = blend_transforms(skin_joints, skin_weights, transforms)
    linear = affines[:, :, :3]  # [N, 3, 3], M
    rotations = _polar_rotations(linear)
    axes, scales = _transform_axes(gaussians, linear, rotations)
    dtype = gaussians.means.dtype
    return Gaussians(
        means=move_points(affines, gaussians.means).astype(dtype),
        quats=matrix_to_quat(axes).astype(dtype),
        scales=scales.astype(dtype),
        opacities=gaussians.opacities.copy(),
        sh=rotate_sh(gaussians.sh, rotations.astype(gaussians.sh.dtype)),
    )


def pose_avatar(
    avatar: Avatar, pose: np.ndarray | None = None, transl: np.ndarray | None = None
) -> Gaussians:
    """The avatar's Gaussians in the scene frame, in the photo's pose unless another is given.

    Args:
        avatar: the person.
        pose: [55, 3] axis-angle, radians, or None for avatar.pose.
        transl: [3] metres, scene frame, or None for avatar.transl.
    """
    transforms = joint_transforms(
        avatar.rest_joints,
        avatar.pose if pose is None else pose,
        avatar.transl if transl is None else transl,
    )
    return skin_gaussians(avatar.gaussians, avatar.skin_joints, avatar.skin_weights, transforms)


def pose_body(
    avatar: Avatar, pose: np.ndarray | None = None, transl: np.ndarray | None = None
) -> np.ndarray:
    """The avatar's body vertices in the scene frame, posed as in pose_avatar.  # [V, 3]"""
    transforms = joint_transforms(
        avatar.rest_joints,
        avatar.pose if pose is None else pose,
        avatar.transl if transl is None else transl,
    )
    body = avatar.body
    return skin(body.vertices, body.skin_joints, body.skin_weights, transforms)


def _polar_rotations(linear: np.ndarray) -> np.ndarray:
    """polar_rotation, with the SVD left out where the matrix already is a rotation."""
    rotations = linear.copy()
    bent = ~_is_rigid(linear)
    rotations[bent] = polar_rotation(linear[bent])
    return rotations


def _is_rigid(linear: np.ndarray) -> np.ndarray:
    gram = linear.transpose(0, 2, 1) @ linear
    close = np.abs(gram - np.eye(3)).max(axis=(1, 2)) < _RIGID
    return close & (np.linalg.det(linear) > 0)


def _transform_axes(
    gaussians: Gaussians, linear: np.ndarray, rotations: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Factor (M R S)(M R S)^T into axes [N, 3, 3] (proper rotations) and scales [N, 3]."""
    axes = rotations @ quat_to_matrix(gaussians.quats.astype(np.float64))
    scales = gaussians.scales.astype(np.float64)
    bent = ~_is_rigid(linear)
    if bent.any():
        rest_axes = quat_to_matrix(gaussians.quats[bent].astype(np.float64))
        u, stretched, _ = np.linalg.svd(linear[bent] @ rest_axes * scales[bent][:, None, :])
        axes[bent], scales[bent] = _keep_order(u, stretched, axes[bent])
    return axes, scales


def _keep_order(
    u: np.ndarray, stretched: np.ndarray, wanted: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Reorder and sign the columns of u to lie nearest the columns of wanted, without mirroring."""
    overlap = wanted.transpose(0, 2, 1) @ u  # [N, 3, 3], wanted column x u column
    fit = np.abs(overlap)[:, np.arange(3), _ORDERS].sum(axis=2)  # [N, 6]
    order = _ORDERS[fit.argmax(axis=1)]  # [N, 3]
    axes = np.take_along_axis(u, order[:, None, :], axis=2)
    dots = np.take_along_axis(overlap, order[:, :, None], axis=2)[..., 0]  # [N, 3]
    axes = axes * np.where(dots < 0, -1.0, 1.0)[:, None, :]
    mirrored = np.linalg.det(axes) < 0
    weakest = np.abs(dots).argmin(axis=1)
    axes[mirrored, :, weakest[mirrored]] *= -1
    return axes, np.take_along_axis(stretched, order, axis=1)


# Whole clouds of Gaussians moved, turned, stretched and joined


def transform_gaussians(gaussians: Gaussians, matrix: np.ndarray) -> Gaussians:
    """The cloud under one affine map.

    Args:
        gaussians: N Gaussians.
        matrix: [4, 4] affine, the last row is (0, 0, 0, 1).

    Returns:
        N Gaussians; axes keep their order, so a rigid map leaves the scales as they are.
    """
    joints = np.zeros((len(gaussians), 1), np.uint8)
    weights = np.ones((len(gaussians), 1), np.float32)
    return skin_gaussians(gaussians, joints, weights, np.asarray(matrix, np.float64)[None])


def join_gaussians(clouds: Sequence[Gaussians]) -> Gaussians:
    """All clouds as one, in their order; colours take the highest degree among them.

    Args:
        clouds: at least one.
    """
    degree = max(cloud.sh_degree for cloud in clouds)
    return Gaussians(
        means=np.concatenate([cloud.means for cloud in clouds]),
        quats=np.concatenate([cloud.quats for cloud in clouds]),
        scales=np.concatenate([cloud.scales for cloud in clouds]),
        opacities=np.concatenate([cloud.opacities for cloud in clouds]),
        sh=np.concatenate([_pad(cloud.sh, num_coefficients(degree)) for cloud in clouds]),
    )


def _pad(sh: np.ndarray, count: int) -> np.ndarray:
    """Coefficients with zeros for the bands that are missing.  # [N, count, 3]"""
    missing = count - sh.shape[1]
    return np.pad(sh, ((0, 0), (0, missing), (0, 0))) if missing else sh
