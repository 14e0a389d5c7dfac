# SPDX-License-Identifier: Apache-2.0
"""The one way from Gaussians to images, on whatever device the Gaussians are."""

import torch
from crowdgaussian_shared.errors import CrowdGaussianError
from torch import Tensor

from .cameras import Cameras
from .cpu import rasterize_cpu
from .splats import DEFAULT_CONFIG, RasterConfig, Render, Splats


def rasterize(splats: Splats, cameras: Cameras, background: Tensor | None = None,
              features: Tensor | None = None, config: RasterConfig = DEFAULT_CONFIG) -> Render:
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
        CrowdGaussianError: The tensors do not fit together.
    """
    splats.check()
    if features is not None and (features.ndim != 2 or len(features) != len(splats)):
        raise CrowdGaussianError(
            f"features have shape {tuple(features.shape)}, they must be ({len(splats)}, F).")
    if splats.means.is_cuda:
        from .cuda import rasterize_cuda  # gsplat, which only CUDA machines need

        parts = rasterize_cuda(splats, cameras, background, features, config)
    else:
        parts = rasterize_cpu(splats, cameras, background, features, config)
    color, depth, blended, alpha = parts
    return Render(torch.movedim(color, 1, -1), alpha, depth / alpha.clamp(min=1e-10),
                  None if features is None else torch.movedim(blended, 1, -1))
