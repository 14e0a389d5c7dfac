# SPDX-License-Identifier: Apache-2.0
"""The losses that need VGG16, from its published files, or a clear sentence why there are none."""

from pathlib import Path

from crowdgaussian_shared.errors import CrowdGaussianError
from torch import Tensor, nn

from ..lpips import Lpips, load_lpips
from .losses import LossWeights, RefinerLoss


class _Distance(nn.Module):
    """LPIPS of pictures as the losses hold them."""

    def __init__(self, lpips: Lpips) -> None:
        super().__init__()
        self.lpips = lpips

    def forward(self, found: Tensor, wanted: Tensor) -> Tensor:
        """[B, 3, H, W] in -1..1 twice -> [B]"""
        return self.lpips(*((picture.movedim(1, -1) + 1) / 2 for picture in (found, wanted)))


def refiner_loss(weights: LossWeights, backbone: Path | None, heads: Path | None) -> RefinerLoss:
    """The loss of a training with the frozen networks that its terms need.

    Args:
        weights: of the terms.
        backbone: torchvision's VGG16, None where it is not here.
        heads: of LPIPS, None where they are not here.

    Raises:
        CrowdGaussianError: a term needs a file that is not here.
    """
    if not weights.needs_vgg:
        return RefinerLoss(weights)
    lpips, reason = load_lpips(backbone, heads)
    if lpips is None:
        raise CrowdGaussianError(
            f"The losses LPIPS and Gram are {reason.rstrip('.')}, or train with --without-vgg.")
    return RefinerLoss(weights, _features(lpips), _Distance(lpips))


def _features(lpips: Lpips) -> nn.Sequential:
    """VGG16's convolutions in their published order, out of LPIPS's blocks."""
    layers = [layer for block in lpips.blocks for layer in block.modules()
              if isinstance(layer, nn.Conv2d | nn.ReLU | nn.MaxPool2d)]
    return nn.Sequential(*layers)
