# SPDX-License-Identifier: Apache-2.0
"""Rotations and skinning in torch: the differentiable twins of those of the shared geometry."""

import torch
from crowdgaussian_shared.geometry.skeleton import PARENTS
from torch import Tensor

_NEWTON_STEPS = 10
_SINGULAR = 1e-3  # determinant below which the polar rotation comes from an SVD, without gradient


def quats_to_matrices(quats: Tensor) -> Tensor:
    """Rotations of quaternions wxyz of any length.  # [N, 4] -> [N, 3, 3]"""
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z),
        2 * (x * y - w * z),
        2 * (x * z + w * y),
        2 * (x * y + w * z),
        1 - 2 * (x * x + z * z),
        2 * (y * z - w * x),
        2 * (x * z - w * y),
        2 * (y * z + w * x),
        1 - 2 * (x * x + y * y),
    ]
    return torch.stack(rows, -1).reshape(-1, 3, 3)


def matrices_to_quats(matrices: Tensor) -> Tensor:
    """Unit quaternions of matrices that are only nearly rotations.  # [..., 3, 3] -> [..., 4] wxyz

    The four ways to read a quaternion off a matrix disagree when it is no rotation; the one with
    the largest pivot is taken, as in PyTorch3D, on which LHM relies.
    """
    m = matrices
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    squares = torch.stack(
        [1 + xx + yy + zz, 1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz], dim=-1
    )
    x, y, z = (
        m[..., 2, 1] - m[..., 1, 2],
        m[..., 0, 2] - m[..., 2, 0],
        m[..., 1, 0] - m[..., 0, 1],
    )
    xy, xz, yz = (
        m[..., 1, 0] + m[..., 0, 1],
        m[..., 0, 2] + m[..., 2, 0],
        m[..., 2, 1] + m[..., 1, 2],
    )
    w2, x2, y2, z2 = squares.unbind(-1)
    rows = (w2, x, y, z, x, x2, xy, xz, y, xy, y2, yz, z, xz, yz, z2)
    candidates = torch.stack(rows, dim=-1).unflatten(-1, (4, 4))
    pivot = squares.argmax(dim=-1)[..., None]
    chosen = candidates.gather(-2, pivot[..., None].expand(*pivot.shape, 4))[..., 0, :]
    return torch.nn.functional.normalize(chosen, dim=-1)


def multiply_quats(a: Tensor, b: Tensor) -> Tensor:
    """First b, then a; the real part is never negative.  # [..., 4] wxyz"""
    aw, av = a[..., :1], a[..., 1:]
    bw, bv = b[..., :1], b[..., 1:]
    cross = torch.linalg.cross(av.expand_as(bv), bv.expand_as(av))
    scalar = aw * bw - (av * bv).sum(-1, keepdim=True)
    product = torch.cat([scalar, aw * bv + bw * av + cross], dim=-1)
    return torch.where(scalar < 0, -product, product)


def polar_rotations(linear: Tensor) -> Tensor:
    """The nearest rotations to 3x3 matrices, differentiably.  # [N, 3, 3] -> [N, 3, 3]

    Newton's iteration for the polar decomposition, R <- (g R + R^-T / g) / 2 with Higham's scaling
    g (Higham 1986, "Computing the polar decomposition"). Matrices that mirror or are all but
    singular get the proper rotation of their SVD, without gradient.
    """
    singular = (torch.linalg.det(linear) < _SINGULAR).detach()
    rotation = torch.where(singular[:, None, None], torch.eye(3).to(linear), linear)
    for _ in range(_NEWTON_STEPS):
        a, b, c = rotation.unbind(1)
        cofactors = torch.stack(
            [torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)], 1
        )
        inverse = cofactors / (a * cofactors[:, 0]).sum(-1)[:, None, None]  # transposed
        norms = inverse.square().sum((1, 2)) / rotation.square().sum((1, 2))
        g = norms.detach().pow(0.25)[:, None, None]
        rotation = 0.5 * (g * rotation + inverse / g)
    if singular.any():
        u, _, vh = torch.linalg.svd(linear.detach()[singular])
        sign = torch.linalg.det(u @ vh)
        u = torch.cat([u[:, :, :2], u[:, :, 2:] * sign[:, None, None]], 2)
        rotation = rotation.index_put((singular,), u @ vh)
    return rotation


# Differentiable forward kinematics and skinning: the torch twin of shared skinning


def axis_angle_to_matrix(axis_angle: Tensor) -> Tensor:
    """Rodrigues' formula, smooth at zero.  # [..., 3] -> [..., 3, 3]"""
    squared = axis_angle.square().sum(dim=-1)
    small = squared < 1e-8
    angle = torch.where(small, torch.ones_like(squared), squared).sqrt()
    sine = torch.where(small, 1 - squared / 6, angle.sin() / angle)  # sin(a) / a
    cosine = torch.where(small, 0.5 - squared / 24, (1 - angle.cos()) / angle.square())
    x, y, z = axis_angle.unbind(dim=-1)
    zero = torch.zeros_like(x)
    rows = (zero, -z, y, z, zero, -x, -y, x, zero)
    cross = torch.stack(rows, dim=-1).unflatten(-1, (3, 3))
    outer = axis_angle[..., :, None] * axis_angle[..., None, :]
    identity = torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
    diagonal = (1 - cosine * squared)[..., None, None] * identity
    return diagonal + sine[..., None, None] * cross + cosine[..., None, None] * outer


def joint_transforms(
    rest_joints: Tensor, rotations: Tensor, transl: Tensor
) -> tuple[Tensor, Tensor]:
    """Affines that carry each joint's surroundings from the rest pose to the posed body.

    Args:
        rest_joints: [B, 55, 3] metres.
        rotations: [B, 55, 3, 3], each relative to its parent; the first turns the body about
            the rest pelvis.
        transl: [B, 3] metres, added last.

    Returns:
        transforms [B, 55, 4, 4] and posed joints [B, 55, 3].
    """
    turns, places = [rotations[:, 0]], [rest_joints[:, 0] + transl]
    for joint in range(1, len(PARENTS)):
        parent = PARENTS[joint]
        offset = rest_joints[:, joint] - rest_joints[:, parent]
        turns.append(turns[parent] @ rotations[:, joint])
        places.append(places[parent] + (turns[parent] @ offset[..., None])[..., 0])
    turn, place = torch.stack(turns, dim=1), torch.stack(places, dim=1)
    shift = place - (turn @ rest_joints[..., None])[..., 0]
    upper = torch.cat([turn, shift[..., None]], dim=-1)  # [B, 55, 3, 4]
    last = upper.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*upper.shape[:2], 1, 4)
    return torch.cat([upper, last], dim=-2), place


def blend_transforms(skin_weights: Tensor, transforms: Tensor) -> Tensor:
    """The affine of each point.  # [N, 55], [..., 55, 4, 4] -> [..., N, 3, 4]"""
    return (skin_weights @ transforms[..., :3, :].flatten(-2)).unflatten(-1, (3, 4))


def blend_affines(skin_joints: Tensor, skin_weights: Tensor, transforms: Tensor) -> Tensor:
    """The affine of each point, sum_k w_k A[j_k].

    Args:
        skin_joints: Indices into the joints.  # [N, 4] any integer type
        skin_weights: Rows sum to 1.  # [N, 4]
        transforms: Canonical frame -> posed, of every joint.  # [55, 4, 4]

    Returns:
        # [N, 3, 4]. Where the pose is fixed, make it once and call ``pose_splats`` many times.
    """
    dense = skin_weights.new_zeros(len(skin_joints), len(transforms))
    dense = dense.scatter_add(1, skin_joints.long(), skin_weights)
    return blend_transforms(dense, transforms.to(dense.dtype))


def move_points(affines: Tensor, points: Tensor) -> Tensor:
    """Each point under its own affine map.  # [..., N, 3, 4], [..., N, 3] -> [..., N, 3]"""
    return (affines[..., :3] @ points[..., None])[..., 0] + affines[..., 3]


def skin(vertices: Tensor, skin_weights: Tensor, transforms: Tensor) -> Tensor:
    """Linear blend skinning.  # [B, V, 3], [V, 55], [B, 55, 4, 4] -> [B, V, 3]"""
    return move_points(blend_transforms(skin_weights, transforms), vertices)
