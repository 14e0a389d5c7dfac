# SPDX-License-Identifier: Apache-2.0
"""Random weights under the names of torchvision's VGG16 and of LPIPS's heads."""

import torch

VGG16 = {
    0: (3, 64),
    2: (64, 64),
    5: (64, 128),
    7: (128, 128),
    10: (128, 256),
    12: (256, 256),
    14: (256, 256),
    17: (256, 512),
    19: (512, 512),
    21: (512, 512),
    24: (512, 512),
    26: (512, 512),
    28: (512, 512),
}  # place in torchvision's features: channels
TAPS = (2, 7, 14, 21, 28)  # relu1_2 ... relu5_3


def write_vgg(folder):
    """Writes vgg16.pth and vgg.pth (heads); returns what is in them."""
    torch.manual_seed(0)
    network = {"classifier.0.weight": torch.zeros(1)}
    for place, (before, after) in VGG16.items():
        network[f"features.{place}.weight"] = torch.randn(after, before, 3, 3) / before**0.5 / 2
        network[f"features.{place}.bias"] = torch.randn(after) / 10
    heads = {
        f"lin{k}.model.1.weight": torch.rand(1, VGG16[place][1], 1, 1)
        for k, place in enumerate(TAPS)
    }
    torch.save(network, folder / "vgg16.pth")
    torch.save(heads, folder / "vgg.pth")
    return network, heads
