# SPDX-License-Identifier: Apache-2.0
"""A small refiner of our own: one step of a convolutional network, light enough for a CPU.

A U-Net (Ronneberger et al. 2015) of residual blocks that begins at half the picture's size, with
picture, normals and mask side by side in its channels (pixel unshuffle, Shi et al. 2016). It says
what to add to the picture. Its last convolution starts at zero: untrained, it changes nothing.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...core.device import load_network, save_network
from ...weights import local
from ..types import SMALL_VIEW
from .tiling import INPUTS, check_input, drop_normals, tiled

_TILE, _OVERLAP = 768, 64  # pixels


@dataclass(frozen=True)
class SmallConfig:
    """How large the network is; the default has 1 million parameters."""

    widths: tuple[int, ...] = (32, 64, 96, 128)  # channels at 1/2, 1/4, ... of the picture's size
    blocks: int = 1  # residual blocks on each size, down and up
    normals: bool = True  # False: the ablation that sees no normals


class SmallRefiner(nn.Module):
    """As Refiner; forward is the same without tiles and clamping, and differentiable."""

    trained_at = SMALL_VIEW

    def __init__(self, config: SmallConfig = SmallConfig()) -> None:
        super().__init__()
        self.config, widths = config, config.widths
        self.stem = nn.Conv2d(4 * (3 + INPUTS), widths[0], 3, padding=1)
        pairs = list(zip(widths[:-1], widths[1:]))
        self.down = nn.ModuleList(_blocks(width, config.blocks) for width in widths)
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairs)
        self.grow = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in pairs)
        self.up = nn.ModuleList(_blocks(a, config.blocks) for a in widths[:-1])
        self.out = nn.Conv2d(widths[0], 4 * 3, 3, padding=1)
        for start in self.out.parameters():
            nn.init.zeros_(start)

    @property
    def stride(self) -> int:
        """Sides that are multiples of this need no padding."""
        return 2 ** len(self.config.widths)

    def forward(self, images: Tensor, normals: Tensor) -> Tensor:
        """[B, 3, H, W] and [B, 4, H, W] of any size -> [B, 3, H, W]."""
        height, width = images.shape[-2:]
        if not self.config.normals:
            normals = drop_normals(normals)
        pad = (0, -width % self.stride, 0, -height % self.stride)
        both = functional.pad(torch.cat([images - 0.5, normals], 1), pad, mode="replicate")
        hidden = self.stem(functional.pixel_unshuffle(both, 2))
        kept = []
        for level, blocks in enumerate(self.down):
            hidden = blocks(hidden)
            if level < len(self.shrink):
                kept.append(hidden)
                hidden = self.shrink[level](hidden)
        for level in reversed(range(len(self.up))):
            wider = functional.pixel_shuffle(self.grow[level](hidden), 2)
            hidden = self.up[level](kept[level] + wider)
        change = functional.pixel_shuffle(self.out(hidden), 2)
        return images + change[..., :height, :width].to(images.dtype)

    @torch.no_grad()
    def refine(self, images: Tensor, normals: Tensor) -> Tensor:
        """As Refiner.

        Raises:
            CrowdGaussianError: see check_input; or not enough memory for even a small tile.
        """
        check_input(images, normals)
        return tiled(self, images, normals, _TILE, _OVERLAP).clamp(0, 1)


class _Block(nn.Module):
    """Two convolutions that add to what comes in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + self.second(functional.silu(self.first(functional.silu(hidden))))


def _blocks(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(_Block(width) for _ in range(count)))


# SmallRefiner to and from one safetensors file that says what it is

KIND = "crowdgaussian small refiner"


def save_small(refiner: SmallRefiner, path: Path, about: dict[str, str] | None = None) -> None:
    """Writes weights and facts; an older file stays until the new one is whole.

    Args:
        refiner: on any device.
        path: of the file.
        about: more facts, such as licence, data and command.
    """
    save_network(refiner, path, {**(about or {}), "kind": KIND})


def load_small(path: Path) -> SmallRefiner:
    """A refiner that save_small wrote, in evaluation mode.

    Raises:
        CrowdGaussianError: the file is missing, damaged or of another architecture.
    """

    def build(**settings: Any) -> SmallRefiner:
        return SmallRefiner(SmallConfig(**settings))

    return load_network(path, read_facts(path), build)


def read_facts(path: Path) -> dict[str, str]:
    """What a file says of itself.

    Raises:
        CrowdGaussianError: the file cannot be read or is no small refiner.
    """
    return local.read_facts(path, KIND, "refiner")
