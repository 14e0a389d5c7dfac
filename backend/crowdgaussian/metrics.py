# SPDX-License-Identifier: Apache-2.0
"""How alike two images are: PSNR and SSIM, over whole images and inside masks, differentiable.

SSIM is that of Wang et al. 2004 (Gaussian window of 11 pixels, sigma 1.5, K1 = 0.01, K2 = 0.03,
biased covariances), averaged over the pixels whose whole window lies inside the image and over the
colour channels. This is what scikit-image computes with gaussian_weights=True and
use_sample_covariance=False. Images are sRGB in 0..1.
"""

import torch
from torch import Tensor
from torch.nn.functional import conv2d

WINDOW, SIGMA = 11, 1.5  # pixels
_C1, _C2 = 0.01**2, 0.03**2
_LEAST_ERROR = 1e-10  # equal images have 100 dB


def mse(image: Tensor, truth: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared error per image; 0 where a mask is empty.

    Args:
        image: [B, H, W, 3], 0..1.
        truth: [B, H, W, 3].
        mask: pixels that count, [B, H, W] bool, or weights 0..1; None: all.

    Returns:
        # [B]
    """
    return _mean((image - truth).square().mean(-1), mask)


def psnr(image: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio over whole images, decibels.  # [B, H, W, 3] twice -> [B]"""
    return -10 * mse(image, truth).clamp(min=_LEAST_ERROR).log10()


def masked_psnr(image: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Peak signal-to-noise ratio inside masks [B, H, W], decibels; NaN where one is empty.

    Over a whole image the error is diluted by the background: a person who fills the fraction f of
    it gains -10 log10 f decibels. Inside the mask that does not happen.
    """
    value = -10 * mse(image, truth, mask).clamp(min=_LEAST_ERROR).log10()
    return torch.where(mask.flatten(1).any(1), value, torch.nan)


def ssim(image: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity over whole images, 1 for equal ones.  # [B, H, W, 3] twice -> [B]"""
    return ssim_map(image, truth).mean((1, 2))


def masked_ssim(image: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Structural similarity averaged over the pixels of masks [B, H, W]; NaN where one is empty.

    The windows are those of the whole image; pixels nearer than half a window to its edge do not
    count.
    """
    edge = WINDOW // 2
    inner = mask[:, edge:-edge, edge:-edge]
    value = _mean(ssim_map(image, truth), inner)
    return torch.where(inner.flatten(1).any(1), value, torch.nan)


def ssim_map(image: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity of each pixel whose window lies inside, mean over the channels.

    Args:
        image: [B, H, W, C], 0..1; H and W at least 11.
        truth: [B, H, W, C].

    Returns:
        # [B, H - 10, W - 10]
    """
    x, y = image.movedim(-1, 1), truth.movedim(-1, 1)  # [B, C, H, W]
    moments = torch.cat([x, y, x * x, y * y, x * y])
    mean_x, mean_y, square_x, square_y, cross = _blur(moments).chunk(5)
    var_x, var_y = square_x - mean_x**2, square_y - mean_y**2
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    structure = (2 * (cross - mean_x * mean_y) + _C2) / (var_x + var_y + _C2)
    return (luminance * structure).mean(1)


def _blur(images: Tensor) -> Tensor:
    """Gaussian averages over whole windows only.  # [B, C, H, W] -> [B, C, H - 10, W - 10]"""
    at = torch.arange(WINDOW, dtype=images.dtype, device=images.device) - WINDOW // 2
    kernel = torch.exp(-0.5 * (at / SIGMA) ** 2)
    kernel = kernel / kernel.sum()
    flat = images.flatten(0, 1)[None]  # [1, B C, H, W]; one group a picture is fastest
    count = flat.shape[1]
    rows = conv2d(flat, kernel.expand(count, 1, 1, WINDOW), groups=count)
    flat = conv2d(rows, kernel[:, None].expand(count, 1, WINDOW, 1), groups=count)
    return flat[0].unflatten(0, images.shape[:2])


def _mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over the pixels that count.  # [B, H, W] -> [B]"""
    if mask is None:
        return values.mean((1, 2))
    weights = mask.to(values.dtype)
    return (values * weights).sum((1, 2)) / weights.sum((1, 2)).clamp(min=1e-9)
