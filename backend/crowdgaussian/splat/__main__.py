# SPDX-License-Identifier: Apache-2.0
"""Compile the CPU rasteriser ahead of the first render: `python -m crowdgaussian.splat`."""

import time

import numpy as np
import torch

from .cameras import Cameras
from .normals import render_mesh_depth
from .rasterize import rasterize
from .splats import Splats


def compile_kernels() -> float:
    """Run every kernel once on next to nothing; returns the seconds it took."""
    start = time.perf_counter()
    cameras = Cameras.orbit((0, 0, 0), 2.0, 1, size=16)
    leaves = [
        torch.zeros(1, 3),
        torch.ones(1),
        torch.zeros(1, 4, 3),
        torch.ones(1, 4),
        torch.ones(1, 3),
    ]
    means, opacities, sh, quats, scales = (leaf.requires_grad_() for leaf in leaves)
    render = rasterize(Splats(means, opacities, sh, quats, scales), cameras)
    (render.color.sum() + render.depth.sum()).backward()
    render_mesh_depth(np.eye(3), np.array([[0, 1, 2]]), cameras.to_cameras()[0])
    return time.perf_counter() - start


if __name__ == "__main__":
    print(f"compiled the splatting kernels in {compile_kernels():.1f} s")
