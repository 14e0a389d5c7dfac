# SPDX-License-Identifier: Apache-2.0
"""Bringing images to the square that an encoder wants."""

from torch import Tensor, nn


def square(images: Tensor, side: int) -> Tensor:
    """Pads with white to a centred square and resizes.  # [B, 3, h, w] 0..1 -> [B, 3, side, side]

    Bicubic, corners aligned, with antialiasing, as the published encoders do.
    """
    height, width = images.shape[-2:]
    across, down = max(height - width, 0), max(width - height, 0)
    if across or down:
        edges = (across // 2, across - across // 2, down // 2, down - down // 2)
        images = nn.functional.pad(images, edges, value=1.0)
    if images.shape[-1] == side:
        return images
    return nn.functional.interpolate(images.float(), size=(side, side), mode="bicubic",
                                     align_corners=True, antialias=True)
