# SPDX-License-Identifier: Apache-2.0
"""Rotations in torch: the differentiable twins of crowdgaussian_shared.geometry.rotations."""

import torch
from crowdgaussian_shared.geometry.skeleton import PARENTS
from torch import Tensor


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


def skin(vertices: Tensor, skin_weights: Tensor, transforms: Tensor) -> Tensor:
    """Linear blend skinning.  # [B, V, 3], [V, 55], [B, 55, 4, 4] -> [B, V, 3]"""
    flat = transforms[:, :, :3].flatten(2)  # [B, 55, 12]
    blended = (skin_weights @ flat).unflatten(-1, (3, 4))  # [B, V, 3, 4]
    return (blended[..., :3] @ vertices[..., None])[..., 0] + blended[..., 3]
