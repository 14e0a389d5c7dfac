# SPDX-License-Identifier: Apache-2.0
"""The rasteriser again, plain and slow: every Gaussian at every pixel, torch and autograd only.

Tests compare the kernels with it. It has no tiles and no boxes, and runs in the dtype of the
Gaussians (float64 in tests). Memory grows with N x H x W: a few hundred Gaussians, small images.
The mathematics is that of gsplat 1.5.3 (nerfstudio-project/gsplat, Apache-2.0).
"""

import torch
from torch import Tensor

from .cameras import Cameras
from .splats import DEFAULT_CONFIG, RasterConfig, Render, Splats


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


def covariances(splats: Splats) -> Tensor:
    """Covariances in the scene frame, square metres.  # [N, 3, 3]"""
    if splats.covars is not None:
        return splats.covars
    quats, scales = splats.axes
    factors = quats_to_matrices(quats) * scales[:, None, :]
    return factors @ factors.transpose(1, 2)


def sh_basis(directions: Tensor, degree: int) -> Tensor:
    """Real spherical harmonics with the signs of 3DGS.  # [N, 3] unit -> [N, (degree + 1)^2]"""
    x, y, z = directions.unbind(-1)
    terms = [torch.full_like(x, 0.28209479177387814)]
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


def _project(
    points: Tensor,
    covars: Tensor,
    K: Tensor,
    size: tuple[int, int],
    eps2d: float,
) -> tuple[Tensor, Tensor]:
    """2D means [N, 2] and dilated covariances [N, 2, 2] of camera-space Gaussians."""
    focal, centre = K[(0, 1), (0, 1)], K[:2, 2]
    extent = torch.tensor(size, dtype=points.dtype)
    z = points[:, 2:]
    tangent = points[:, :2] / z
    margin = 0.15 * extent / focal
    clamped = torch.minimum(
        torch.maximum(tangent, -centre / focal - margin), (extent - centre) / focal + margin
    )
    jacobian = points.new_zeros(len(points), 2, 3)
    jacobian[:, 0, 0], jacobian[:, 1, 1] = focal[0] / z[:, 0], focal[1] / z[:, 0]
    jacobian[:, :, 2] = -focal * clamped / z
    cov2d = jacobian @ covars @ jacobian.transpose(1, 2)
    cov2d = 0.5 * (cov2d + cov2d.transpose(1, 2)) + eps2d * torch.eye(2, dtype=points.dtype)
    return tangent * focal + centre, cov2d


def _alphas(means2d: Tensor, cov2d: Tensor, opacities: Tensor, size: tuple[int, int]) -> Tensor:
    """Alpha of every Gaussian at every pixel, cut off as gsplat does.  # [N, H, W]"""
    width, height = size
    ys, xs = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    delta = torch.stack([xs, ys], -1).to(means2d) - means2d[:, None, None]  # [N, H, W, 2]
    sigma = 0.5 * torch.einsum("nhwi,nij,nhwj->nhw", delta, torch.linalg.inv(cov2d), delta)
    alpha = torch.clamp(opacities[:, None, None] * torch.exp(-sigma), max=0.999)
    return torch.where(alpha < 1.0 / 255.0, 0.0, alpha)


def _blend_weights(alphas: Tensor) -> tuple[Tensor, Tensor]:
    """Weights alpha T [N, H, W] of near-to-far Gaussians, and what light is left [H, W]."""
    after = torch.cumprod(1.0 - alphas, 0)
    alphas = torch.where(after <= 1e-4, 0.0, alphas)  # once below, below for all behind
    after = torch.cumprod(1.0 - alphas, 0)
    before = torch.cat([torch.ones_like(after[:1]), after[:-1]])
    return alphas * before, after[-1]


def _one_view(
    splats: Splats, cameras: Cameras, background: Tensor, features: Tensor, config: RasterConfig
) -> tuple[Tensor, Tensor]:
    viewmat, K = cameras.viewmats[0].to(splats.means), cameras.Ks[0].to(splats.means)
    size, rotation = (cameras.width, cameras.height), viewmat[:3, :3]
    points = splats.means @ rotation.T + viewmat[:3, 3]
    depth = points[:, 2].detach()
    drawn = (depth >= config.near) & (depth <= config.far) & (splats.opacities >= 1 / 255)
    order = torch.argsort(torch.where(drawn, depth, torch.inf), stable=True)[: int(drawn.sum())]
    covars = rotation @ covariances(splats)[order] @ rotation.T
    means2d, cov2d = _project(points[order], covars, K, size, config.eps2d)
    colors = sh_colors(splats, -torch.linalg.solve(rotation, viewmat[:3, 3]))
    channels = torch.cat([colors, points[:, 2:], features], -1)[order]
    if not len(order):
        blank = splats.means.new_zeros(channels.shape[1], *size[::-1])
        return torch.cat([blank[:3] + background[:, None, None], blank[3:]]), blank[0]
    weights, rest = _blend_weights(_alphas(means2d, cov2d, splats.opacities[order], size))
    image = torch.einsum("nhw,nc->chw", weights, channels)
    lit = image[:3] + rest * background[:, None, None]
    return torch.cat([lit, image[3:]]), 1.0 - rest


def rasterize_reference(
    splats: Splats,
    cameras: Cameras,
    background: Tensor | None = None,
    features: Tensor | None = None,
    config: RasterConfig = DEFAULT_CONFIG,
) -> Render:
    """What ``rasterize`` computes, with the same arguments, in the dtype of the Gaussians."""
    blank = splats.means.new_zeros(len(splats), 0)
    behind = splats.means.new_zeros(3) if background is None else background.to(splats.means)
    behind = behind.expand(len(cameras), 3)
    pairs = [
        _one_view(splats, cameras[k], behind[k], blank if features is None else features, config)
        for k in range(len(cameras))
    ]
    images, alpha = (torch.stack(part) for part in zip(*pairs, strict=True))
    depth = images[:, 3] / alpha.clamp(min=1e-10)
    blended = None if features is None else torch.movedim(images[:, 4:], 1, -1)
    return Render(torch.movedim(images[:, :3], 1, -1), alpha, depth, blended)
