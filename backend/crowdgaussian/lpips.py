# SPDX-License-Identifier: Apache-2.0
"""LPIPS (Zhang et al. 2018, version 0.1, VGG16): how different two images look to a network.

Needs two published files that are not part of the program: torchvision's VGG16 and the linear heads
of the lpips package. Without exactly these there is no number: another backbone, or random weights,
would give something that is not LPIPS.
"""

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn

BACKBONE_SHA256 = "397923af"  # its start, as in the name of torchvision's file
HEADS_SHA256 = "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"
_PLAN = (64, 64, "tap", 128, 128, "tap", 256, 256, 256, "tap", 512, 512, 512, "tap",
         512, 512, 512, "tap")
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_EPS = 1e-10


class Lpips(nn.Module):
    """The distance; make one with ``load_lpips``."""

    def __init__(self) -> None:
        super().__init__()
        blocks: list[nn.Sequential] = [nn.Sequential()]
        channels = [3]
        for entry in _PLAN:
            if entry == "tap":
                blocks.append(nn.Sequential(nn.MaxPool2d(2)))
            else:
                blocks[-1] += nn.Sequential(nn.Conv2d(channels[-1], entry, 3, padding=1), nn.ReLU())
                channels.append(entry)
        self.blocks = nn.ModuleList(blocks[:-1])
        taps = [block[-2].out_channels for block in self.blocks]
        self.heads = nn.ParameterList(torch.zeros(width) for width in taps)
        self.register_buffer("shift", torch.tensor(_SHIFT)[:, None, None])
        self.register_buffer("scale", torch.tensor(_SCALE)[:, None, None])

    def forward(self, image: Tensor, truth: Tensor) -> Tensor:
        """Distance of each pair, 0 for equal ones.  # [B, H, W, 3] sRGB 0..1 twice -> [B]"""
        x, y = ((2 * picture.movedim(-1, 1) - 1 - self.shift) / self.scale
                for picture in (image, truth))
        total = image.new_zeros(len(image))
        for block, head in zip(self.blocks, self.heads, strict=True):
            x, y = block(x), block(y)
            apart = (_unit(x) - _unit(y)).square()  # [B, C, h, w]
            total = total + (apart * head[:, None, None]).sum(1).mean((1, 2))
        return total


def load_lpips(backbone: Path | None, heads: Path | None) -> tuple[Lpips | None, str]:
    """The distance, or None and one sentence that says why there is none.

    Args:
        backbone: torchvision's VGG16, None where it is not here.
        heads: vgg.pth of the lpips package, None where it is not here.
    """
    wanted = ((backbone, BACKBONE_SHA256, "torchvision's VGG16", "vgg16"),
              (heads, HEADS_SHA256, "its linear heads", "lpips-vgg-heads"))
    for path, digest, what, name in wanted:
        if path is None or not path.is_file():
            return None, (f"not available: the file of {what} is not on this machine; run "
                          f"`crowdgaussian weights fetch {name}`.")
        if not hashlib.sha256(path.read_bytes()).hexdigest().startswith(digest):
            return None, f"not available: {path} is not the published file of {what}."
    model = Lpips()
    convolutions = [m for m in model.blocks.modules() if isinstance(m, nn.Conv2d)]
    published = torch.load(backbone, map_location="cpu", weights_only=True)
    places = [name[:-7] for name in published
              if name.startswith("features.") and name.endswith(".weight")]
    for layer, place in zip(convolutions, places, strict=True):
        layer.load_state_dict({part: published[f"{place}.{part}"] for part in ("weight", "bias")})
    lines = torch.load(heads, map_location="cpu", weights_only=True)
    for index, head in enumerate(model.heads):
        head.data = lines[f"lin{index}.model.1.weight"].flatten()
    return model.eval().requires_grad_(False), ""


def _unit(features: Tensor) -> Tensor:
    """Each pixel's features at length one.  # [B, C, h, w]"""
    return features / (features.square().sum(1, keepdim=True).sqrt() + _EPS)
