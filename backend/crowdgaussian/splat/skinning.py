# SPDX-License-Identifier: Apache-2.0
"""Posing Gaussians in torch: the differentiable twin of crowdgaussian_shared.geometry.skinning.

A Gaussian with centre c and covariance V under the blended affine x -> M x + t becomes the one
with centre M c + t and covariance M V M^T. Its colours turn with the rotation of M's polar
decomposition: instead of its spherical harmonics, ``Splats.sh_frames`` takes that rotation, and
the rasteriser turns the view direction back. Blending is that of SMPL (Loper et al. 2015, sec. 3).
"""

from dataclasses import replace

import torch
from crowdgaussian_shared.geometry.sh import SH_C0
from torch import Tensor

from ..core.rotations import blend_transforms, polar_rotations, quats_to_matrices
from .splats import Splats


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


def pose_splats(splats: Splats, affines: Tensor, sh_frames: Tensor | None = None) -> Splats:
    """Move each Gaussian by its own affine.

    Args:
        splats: Canonical Gaussians, without sh_frames of their own.
        affines: From ``blend_affines``.  # [N, 3, 4]
        sh_frames: ``polar_rotations(affines[:, :, :3])`` where the caller has kept them.

    Returns:
        Posed Gaussians with covars; with sh_frames too where the colours depend on the view.
    """
    linear, offset = affines[:, :, :3], affines[:, :, 3]
    means = (linear * splats.means[:, None, :]).sum(-1) + offset
    if splats.covars is None:
        factors = linear @ (quats_to_matrices(splats.quats) * splats.scales[:, None, :])
        covars = factors @ factors.transpose(1, 2)
    else:
        covars = linear @ splats.covars @ linear.transpose(1, 2)
    if splats.sh.shape[1] > 1 and sh_frames is None:
        sh_frames = polar_rotations(linear)
    return replace(
        splats,
        means=means,
        covars=covars,
        quats=None,
        scales=None,
        sh_frames=sh_frames if splats.sh.shape[1] > 1 else None,
    )


def sh_basis(directions: Tensor, degree: int) -> Tensor:
    """Real spherical harmonics with the signs of 3DGS.  # [N, 3] unit -> [N, (degree + 1)^2]"""
    x, y, z = directions.unbind(-1)
    terms = [torch.full_like(x, SH_C0)]
    if degree > 0:
        terms += [-0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x]
    if degree > 1:
        terms += [
            1.0925484305920792 * x * y,
            -1.0925484305920792 * y * z,
            0.31539156525252005 * (2 * z * z - x * x - y * y),
            -1.0925484305920792 * x * z,
            0.5462742152960396 * (x * x - y * y),
        ]
    if degree > 2:
        terms += [
            -0.5900435899266435 * y * (3 * x * x - y * y),
            2.890611442640554 * x * y * z,
            -0.4570457994644658 * y * (4 * z * z - x * x - y * y),
            0.3731763325901154 * z * (2 * z * z - 3 * x * x - 3 * y * y),
            -0.4570457994644658 * x * (4 * z * z - x * x - y * y),
            1.445305721320277 * z * (x * x - y * y),
            -0.5900435899266435 * x * (x * x - 3 * y * y),
        ]
    return torch.stack(terms, -1)


def sh_colors(splats: Splats, center: Tensor) -> Tensor:
    """Colours of the Gaussians seen from a point in the scene.  # [3] -> [N, 3]"""
    directions = torch.nn.functional.normalize(splats.means - center, dim=-1)
    if splats.sh_frames is not None:
        directions = (splats.sh_frames.transpose(1, 2) @ directions[:, :, None])[:, :, 0]
    basis = sh_basis(directions, splats.sh_degree)
    return torch.clamp(0.5 + (basis[:, :, None] * splats.sh).sum(1), min=0.0)
