# SPDX-License-Identifier: Apache-2.0
"""A plain torch tile rasteriser, the yardstick of benchmarks/rasterise.py.

What one writes without a kernel: projection and shading in vectorised torch, Gaussians sorted by
tile and depth, then per 16x16 tile all of its Gaussians at all of its pixels in a handful of
tensor operations. Autograd does the backward pass. Same mathematics and cut-offs as ``rasterize``.
"""

import torch
from crowdgaussian.core.rotations import quats_to_matrices
from crowdgaussian.splat import Cameras, RasterConfig, Splats
from crowdgaussian.splat.splats import sh_colors
from torch import Tensor

TILE = 16  # pixels


def _project(splats: Splats, cameras: Cameras, config: RasterConfig) -> tuple[Tensor, ...]:
    """2D means [N, 2], conics [N, 3], depths [N] and pixel radii [N, 2] (0 where not drawn)."""
    viewmat, K = cameras.viewmats[0], cameras.Ks[0]
    rotation, focal, centre = viewmat[:3, :3], K[(0, 1), (0, 1)], K[:2, 2]
    points = splats.means @ rotation.T + viewmat[:3, 3]
    z = points[:, 2].clamp(min=config.near)
    size = torch.tensor([cameras.width, cameras.height])
    tangent, margin = points[:, :2] / z[:, None], 0.15 * size / focal
    clamped = torch.minimum(
        torch.maximum(tangent, -centre / focal - margin), (size - centre) / focal + margin
    )
    zero = torch.zeros_like(z)
    jacobian = torch.stack(
        [
            focal[0] / z,
            zero,
            -focal[0] * clamped[:, 0] / z,
            zero,
            focal[1] / z,
            -focal[1] * clamped[:, 1] / z,
        ],
        -1,
    )
    assert splats.quats is not None and splats.scales is not None
    axes = quats_to_matrices(splats.quats) * splats.scales[:, None, :]
    factor = jacobian.reshape(-1, 2, 3) @ rotation @ axes
    cov = factor @ factor.mT
    xx, xy, yy = cov[:, 0, 0] + config.eps2d, cov[:, 0, 1], cov[:, 1, 1] + config.eps2d
    conics = torch.stack([yy, -xy, xx], -1) / (xx * yy - xy * xy)[:, None]
    extent = torch.sqrt(2 * torch.log(splats.opacities.detach().clamp(min=1 / 255) * 255))
    radii = torch.ceil(extent[:, None] * torch.stack([xx, yy], -1).detach().sqrt())
    drawn = (points[:, 2] >= config.near) & (splats.opacities >= 1 / 255)
    return tangent * focal + centre, conics, points[:, 2], radii * drawn[:, None]


@torch.no_grad()
def _tile_lists(
    means2d: Tensor,
    radii: Tensor,
    depths: Tensor,
    across: int,
    down: int,
) -> tuple[Tensor, list[int]]:
    """Gaussian indices sorted by tile, then near to far, and how many each tile has."""
    limit = torch.tensor([across, down])
    low = torch.minimum(((means2d - radii) / TILE).floor().clamp(min=0), limit).long()
    high = torch.minimum(((means2d + radii) / TILE).ceil().clamp(min=0), limit).long()
    order = torch.argsort(depths)
    counts = ((high - low).prod(-1) * (radii > 0).all(-1))[order]
    index = torch.repeat_interleave(order, counts)
    within = torch.arange(len(index)) - torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    width = (high - low)[index, 0].clamp(min=1)
    tile = (low[index, 1] + within // width) * across + low[index, 0] + within % width
    tile, place = torch.sort(tile, stable=True)
    return index[place], torch.bincount(tile, minlength=across * down).tolist()


def _blend_tile(pixels: Tensor, part: Tensor) -> Tensor:
    """Channels and alpha of one tile.  # [P, 2], [G, 6 + D] -> [P, D + 1]"""
    delta = pixels[None] - part[:, None, :2]
    sigma = (
        0.5 * (part[:, 2:3] * delta[..., 0] ** 2 + part[:, 4:5] * delta[..., 1] ** 2)
        + part[:, 3:4] * delta[..., 0] * delta[..., 1]
    )
    alpha = torch.clamp(part[:, 5:6] * torch.exp(-sigma), max=0.999)
    alpha = torch.where(alpha < 1 / 255, 0.0, alpha)
    after = torch.cumprod(1 - alpha, 0)
    before = torch.cat([torch.ones_like(after[:1]), after[:-1]])
    weights = torch.where(after <= 1e-4, 0.0, alpha * before)
    return torch.cat([weights.T @ part[:, 6:], weights.sum(0)[:, None]], 1)


def rasterize_plain(splats: Splats, cameras: Cameras) -> Tensor:
    """Colour, summed depth and alpha of the first camera, black background.  # [5, H, W]"""
    means2d, conics, depths, radii = _project(splats, cameras, RasterConfig())
    across, down = -(-cameras.width // TILE), -(-cameras.height // TILE)
    index, counts = _tile_lists(means2d, radii, depths, across, down)
    colors = sh_colors(splats, cameras.centers[0])
    packed = torch.cat([means2d, conics, splats.opacities[:, None], colors, depths[:, None]], 1)
    grid = torch.arange(TILE) + 0.5
    corner = torch.stack(torch.meshgrid(grid, grid, indexing="xy"), -1).reshape(-1, 2)
    empty, tiles = torch.zeros(TILE * TILE, 5), []
    for tile, part in enumerate(packed[index].split(counts)):
        offset = torch.tensor([tile % across * TILE, tile // across * TILE])
        tiles.append(_blend_tile(corner + offset, part) if len(part) else empty)
    image = torch.stack(tiles).reshape(down, across, TILE, TILE, 5).permute(4, 0, 2, 1, 3)
    return image.reshape(5, down * TILE, across * TILE)[:, : cameras.height, : cameras.width]
