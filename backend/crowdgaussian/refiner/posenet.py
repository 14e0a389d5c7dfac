# SPDX-License-Identifier: Apache-2.0
"""PoseNet: the normals of the bodies as a bias on the diffusion network's first features.

The stem of ControlNet (Zhang et al. 2023) with four input channels; its last convolution starts at
zero, so that an untrained PoseNet changes nothing.
"""

import torch
from torch import Tensor, nn

INPUTS = 4  # normal x, y, z in camera axes, and the mask
_WIDTHS = (16, 32, 96, 256)


class PoseNet(nn.Module):
    """[B, 4, H, W] -> [B, channels, H / 8, W / 8]."""

    def __init__(self, channels: int = 320) -> None:
        """channels: of the features it is added to."""
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(INPUTS, _WIDTHS[0], 3, padding=1), nn.SiLU()]
        for narrow, wide in zip(_WIDTHS[:-1], _WIDTHS[1:]):
            layers += [nn.Conv2d(narrow, narrow, 3, padding=1), nn.SiLU(),
                       nn.Conv2d(narrow, wide, 3, padding=1, stride=2), nn.SiLU()]
        self.stem = nn.Sequential(*layers)
        self.out = nn.Conv2d(_WIDTHS[-1], channels, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, normals: Tensor) -> Tensor:
        """normals: [B, 4, H, W], H and W multiples of 8."""
        return self.out(self.stem(normals))


def drop_normals(normals: Tensor) -> Tensor:
    """The input of the ablation without normals."""
    return torch.zeros_like(normals)
