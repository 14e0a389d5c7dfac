# SPDX-License-Identifier: Apache-2.0
"""The CUDA rasteriser: gsplat 1.5.3, called so that it gives what the CPU kernels give."""

import torch
from crowdgaussian_shared.errors import CrowdGaussianError
from torch import Tensor

from .cameras import Cameras
from .reference import sh_colors
from .splats import RasterConfig, Splats


def _view_colors(splats: Splats, cameras: Cameras) -> Tensor:
    """Colours per camera, for Gaussians whose harmonics have frames of their own.  # [C, N, 3]"""
    return torch.stack([sh_colors(splats, center) for center in cameras.centers])


def _channels(splats: Splats, cameras: Cameras, features: Tensor | None) -> Tensor:
    """Colour and features of every Gaussian in every camera.  # [C, N, 3 + F]"""
    colors = _view_colors(splats, cameras)
    if features is None:
        return colors
    return torch.cat([colors, features.expand(len(cameras), -1, -1)], -1)


def _nothing(cameras: Cameras, background: Tensor | None, features: int,
             device: torch.device) -> tuple[Tensor, ...]:
    """What cameras see where there are no Gaussians at all."""
    alpha = torch.zeros(len(cameras), cameras.height, cameras.width, device=device)
    color = alpha[:, None].repeat(1, 3, 1, 1)
    if background is not None:
        color += background.to(device).expand(len(cameras), 3)[:, :, None, None]
    return color, alpha.clone(), alpha[:, None].repeat(1, features, 1, 1), alpha


def rasterize_cuda(splats: Splats, cameras: Cameras, background: Tensor | None,
                   features: Tensor | None, config: RasterConfig) -> tuple[Tensor, ...]:
    """Colour [C, 3, H, W], summed depth [C, H, W], features [C, F, H, W] and alpha [C, H, W].

    Raises:
        CrowdGaussianError: gsplat is not installed.
    """
    try:
        from gsplat import rasterization
    except ImportError as error:
        raise CrowdGaussianError(
            "Rendering on CUDA needs gsplat: install crowdgaussian[cuda].") from error
    device = splats.means.device
    cameras = cameras.to(device)
    if not len(splats):
        return _nothing(cameras, background, 0 if features is None else features.shape[1], device)
    native = splats.sh_frames is None and features is None
    colors = splats.sh if native else _channels(splats, cameras, features)
    behind = None
    if background is not None:
        behind = torch.zeros(len(cameras), 3 if native else colors.shape[-1], device=device)
        behind[:, :3] = background.to(device)
    out, alpha, _ = rasterization(
        splats.means, splats.quats, splats.scales, splats.opacities, colors, cameras.viewmats,
        cameras.Ks, cameras.width, cameras.height, near_plane=config.near, far_plane=config.far,
        eps2d=config.eps2d, sh_degree=splats.sh_degree if native else None, packed=False,
        backgrounds=behind, render_mode="RGB+D", covars=splats.covars)  # [C, H, W, 3 + F + 1]
    planes = torch.movedim(out, -1, 1)
    return planes[:, :3], planes[:, -1], planes[:, 3:-1], alpha[..., 0]
