# SPDX-License-Identifier: Apache-2.0
"""Torch in and out: python brighten.py SPLATS.ply OUT.ply

Colours follow a gradient until the splats, seen from the front, are as bright as asked. Any number
that a picture gives works the same way, so do torch's optimisers.
"""

import sys
from dataclasses import replace

import crowdgaussian
import torch
from crowdgaussian.splat import Cameras

BRIGHTNESS, STEPS = 0.6, 5  # mean of the colours where splats are
read = crowdgaussian.read_splats(sys.argv[1])  # in the scene frame, whatever the file's axes
splats = crowdgaussian.Splats.from_gaussians(read.gaussians)
low, high = splats.means.amin(0), splats.means.amax(0)
distance = 1.5 * float((high - low).norm())
camera = Cameras.orbit((low + high) / 2, distance, 1, size=128).to_cameras()[0]

for _ in range(STEPS):
    sh = splats.sh.clone().requires_grad_()
    picture = crowdgaussian.render(replace(splats, sh=sh), camera)  # [128, 128, 4]
    mean = picture[..., :3].sum() / (3 * picture[..., 3].sum())
    (slope,) = torch.autograd.grad(mean, sh)
    change = (BRIGHTNESS - mean.detach()) * slope.sign() / slope.abs().sum()
    splats = replace(splats, sh=splats.sh + change)  # all that is seen, by the same
crowdgaussian.write_splats(sys.argv[2], splats.to_gaussians())
print(f"{len(splats)} splats, brightness {mean.item():.2f} -> {sys.argv[2]}")
