# SPDX-License-Identifier: Apache-2.0
"""Rotations in torch: the differentiable twins of crowdgaussian_shared.geometry.rotations."""

import torch
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
