# SPDX-License-Identifier: Apache-2.0
"""The one way from Gaussians to images, on whatever device the Gaussians are."""

import time
from collections.abc import Callable

import numpy as np
import torch
from crowdgaussian_shared.errors import InputError, MissingFileError
from torch import Tensor

from .cameras import Cameras
from .cpu import rasterize_cpu
from .normals import render_mesh_depth
from .splats import DEFAULT_CONFIG, RasterConfig, Render, Splats, sh_colors

# The CUDA rasteriser: gsplat 1.5.3, called so that it gives what the CPU kernels give


def _view_colors(splats: Splats, cameras: Cameras) -> Tensor:
    """Colours per camera, for Gaussians whose harmonics have frames of their own.  # [C, N, 3]"""
    return torch.stack([sh_colors(splats, center) for center in cameras.centers])


def _channels(splats: Splats, cameras: Cameras, features: Tensor | None) -> Tensor:
    """Colour and features of every Gaussian in every camera.  # [C, N, 3 + F]"""
    colors = _view_colors(splats, cameras)
    if features is None:
        return colors
    return torch.cat([colors, features.expand(len(cameras), -1, -1)], -1)


def _nothing(
    cameras: Cameras, background: Tensor | None, features: int, device: torch.device
) -> tuple[Tensor, ...]:
    """What cameras see where there are no Gaussians at all."""
    alpha = torch.zeros(len(cameras), cameras.height, cameras.width, device=device)
    color = alpha[:, None].repeat(1, 3, 1, 1)
    if background is not None:
        color += background.to(device).expand(len(cameras), 3)[:, :, None, None]
    return color, alpha.clone(), alpha[:, None].repeat(1, features, 1, 1), alpha


def _gsplat() -> Callable[..., tuple[Tensor, Tensor, dict]]:
    try:
        from gsplat import rasterization
    except ImportError as error:
        raise MissingFileError(
            "Rendering on CUDA needs gsplat: install crowdgaussian[cuda]."
        ) from error
    return rasterization


def rasterize_cuda(
    splats: Splats,
    cameras: Cameras,
    background: Tensor | None,
    features: Tensor | None,
    config: RasterConfig,
) -> tuple[Tensor, ...]:
    """Colour [C, 3, H, W], summed depth [C, H, W], features [C, F, H, W] and alpha [C, H, W].

    Raises:
        MissingFileError: gsplat is not installed.
    """
    rasterization = _gsplat()
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
        splats.means,
        splats.quats,
        splats.scales,
        splats.opacities,
        colors,
        cameras.viewmats,
        cameras.Ks,
        cameras.width,
        cameras.height,
        near_plane=config.near,
        far_plane=config.far,
        eps2d=config.eps2d,
        sh_degree=splats.sh_degree if native else None,
        packed=False,
        backgrounds=behind,
        render_mode="RGB+D",
        covars=splats.covars,
    )  # [C, H, W, 3 + F + 1]
    planes = torch.movedim(out, -1, 1)
    return planes[:, :3], planes[:, -1], planes[:, 3:-1], alpha[..., 0]


def rasterize(
    splats: Splats,
    cameras: Cameras,
    background: Tensor | None = None,
    features: Tensor | None = None,
    config: RasterConfig = DEFAULT_CONFIG,
) -> Render:
    """Render Gaussians by EWA splatting, differentiably in every Gaussian parameter.

    On the CPU our own kernels run (float32, as many threads as torch uses, the same result for
    any number of threads); on CUDA gsplat does. Both follow gsplat 1.5.3: perspective EWA
    projection with its frustum clamp, 0.3 square pixels of dilation, alpha at most 0.999 and at
    least 1/255, and the end of a pixel at transmittance 1e-4. Gradients reach means, opacities,
    sh, quats and scales or covars, sh_frames and features; cameras and background get none.

    Args:
        splats: N Gaussians in the scene frame.
        cameras: C cameras of one size.
        background: sRGB colour behind the Gaussians, [3] or [C, 3]; None is black. For a picture
            as background add ``(1 - alpha)[..., None] * picture`` to the colour.
        features: Anything else to blend per Gaussian (normals, part weights), [N, F].
        config: Near and far plane and dilation.

    Returns:
        Colour [C, H, W, 3], alpha [C, H, W], expected depth [C, H, W] and, if features were
        given, their blend [C, H, W, F]. On the CPU these are views of planar images: use
        ``reshape``, not ``view``, on them.

    Raises:
        InputError: The tensors do not fit together.
    """
    splats.check()
    if features is not None and (features.ndim != 2 or len(features) != len(splats)):
        raise InputError(
            f"features have shape {tuple(features.shape)}, they must be ({len(splats)}, F)."
        )
    if splats.means.is_cuda:
        parts = rasterize_cuda(splats, cameras, background, features, config)
    else:
        parts = rasterize_cpu(splats, cameras, background, features, config)
    color, depth, blended, alpha = parts
    return Render(
        torch.movedim(color, 1, -1),
        alpha,
        depth / alpha.clamp(min=1e-10),
        None if features is None else torch.movedim(blended, 1, -1),
    )


def compile_kernels() -> float:
    """Runs every kernel once on next to nothing, ahead of the first render -> seconds it took."""
    start = time.perf_counter()
    cameras = Cameras.orbit((0, 0, 0), 2.0, 1, size=16)
    leaves = [
        torch.zeros(1, 3),
        torch.ones(1),
        torch.zeros(1, 4, 3),
        torch.ones(1, 4),
        torch.ones(1, 3),
    ]
    means, opacities, sh, quats, scales = (leaf.requires_grad_() for leaf in leaves)
    render = rasterize(Splats(means, opacities, sh, quats, scales), cameras)
    (render.color.sum() + render.depth.sum()).backward()
    render_mesh_depth(np.eye(3), np.array([[0, 1, 2]]), cameras.to_cameras()[0])
    return time.perf_counter() - start
