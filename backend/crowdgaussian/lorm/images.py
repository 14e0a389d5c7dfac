# SPDX-License-Identifier: Apache-2.0
"""Bringing images to the square that an encoder wants."""

import torch
from torch import Tensor, nn


def square(images: Tensor, side: int) -> Tensor:
    """Pads with white to a centred square and resizes.  # [B, 3, h, w] 0..1 -> [B, 3, side, side]

    Bicubic with aligned corners, after a slight blur where the image shrinks: what both published
    encoders do (kornia.geometry.resize with antialias).
    """
    height, width = images.shape[-2:]
    across, down = max(height - width, 0), max(width - height, 0)
    if across or down:
        edges = (across // 2, across - across // 2, down // 2, down - down // 2)
        images = nn.functional.pad(images, edges, value=1.0)
    factor = images.shape[-1] / side
    if factor == 1:
        return images
    images = _blurred(images.float(), (factor - 1) / 2) if factor > 1 else images.float()
    return nn.functional.interpolate(images, size=(side, side), mode="bicubic", align_corners=True)


def _blurred(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur over 4 sigma, at least 3 pixels, mirrored at the border.  # [B, 3, s, s]"""
    radius = max(int(max(4 * sigma, 3)) // 2, 1)
    steps = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    kernel = torch.softmax(-0.5 * (steps / sigma) ** 2, dim=0)
    channels = images.shape[1]
    for shape, edges in (((1, -1), (radius, radius, 0, 0)), ((-1, 1), (0, 0, radius, radius))):
        padded = nn.functional.pad(images, edges, mode="reflect")
        weight = kernel.view(1, 1, *shape).repeat(channels, 1, 1, 1)
        images = nn.functional.conv2d(padded, weight, groups=channels)
    return images
