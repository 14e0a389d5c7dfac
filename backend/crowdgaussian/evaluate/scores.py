# SPDX-License-Identifier: Apache-2.0
"""The numbers of one result: its renders from all around against what is really seen there."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..lpips import Lpips
from ..metrics import masked_psnr, masked_ssim, psnr, ssim
from ..splat.cameras import Cameras
from ..splat.rasterize import rasterize
from ..splat.splats import DEFAULT_CONFIG, RasterConfig, Splats

METRICS = {  # name: column title
    "psnr": "PSNR dB ↑", "ssim": "SSIM ↑", "lpips": "LPIPS ↓", "masked_psnr": "PSNR dB, person ↑",
    "masked_ssim": "SSIM, person ↑", "masked_lpips": "LPIPS, person ↓", "holes": "holes % ↓",
}
_HOLE = 0.5  # alpha below which the person is missing


@dataclass(frozen=True)
class Views:
    """One result from all around, on white."""

    colour: Tensor  # [C, H, W, 3] 0..1
    alpha: Tensor  # [C, H, W]


@torch.no_grad()
def render_views(splats: Splats, cameras: Cameras, config: RasterConfig = DEFAULT_CONFIG) -> Views:
    """Renders, where the splats are, rounded to the 8 bits of an image file; back on the CPU."""
    white = torch.ones(3, device=splats.means.device)
    views = [rasterize(splats, cameras[i].to(splats.means.device), white, config=config)
             for i in range(len(cameras))]
    colour = torch.cat([view.color for view in views]).cpu().clamp(0, 1)
    return Views((colour * 255).round() / 255, torch.cat([view.alpha for view in views]).cpu())


@torch.no_grad()
def score(views: Views, truth: Tensor, mask: Tensor, lpips: Lpips | None) -> dict[str, float]:
    """Means over the views.

    ``masked_lpips`` is that of the images with everything outside the true mask white. ``holes`` is
    the share of the true mask, in percent, that the result leaves more than half transparent.

    Args:
        views: of the result.
        truth: what is really seen, on white.  # [C, H, W, 3]
        mask: which pixels really show the person.  # [C, H, W] bool
        lpips: None where its files are not here; the columns are left out then.
    """
    colour = views.colour
    values = {"psnr": psnr(colour, truth), "ssim": ssim(colour, truth),
              "masked_psnr": masked_psnr(colour, truth, mask),
              "masked_ssim": masked_ssim(colour, truth, mask),
              "holes": 100 * (mask & (views.alpha < _HOLE)).sum((1, 2)) / mask.sum((1, 2))}
    if lpips is not None:
        only = (torch.where(mask[..., None], image, 1.0) for image in (colour, truth))
        values |= {"lpips": _in_turn(lpips, colour, truth), "masked_lpips": _in_turn(lpips, *only)}
    return {name: float(value.nanmean()) for name, value in values.items()}


def _in_turn(lpips: Lpips, image: Tensor, truth: Tensor) -> Tensor:
    """One view at a time, which bounds the memory."""
    return torch.cat([lpips(a[None], b[None]) for a, b in zip(image, truth, strict=True)])
