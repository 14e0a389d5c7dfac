# SPDX-License-Identifier: Apache-2.0
"""Forward + backward time of the CPU rasteriser against a plain torch tile rasteriser.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/rasterise.py [--counts 10000 40000] [--repeats 5]

Both render the same Gaussians in float32 with the same number of threads into 512x512, and take
the gradient of every parameter. Two scenes: a person of 1.75 m filling the picture, whose splats
cover the body's surface the more finely the more there are (5.5 mm at 40,000), and a generic cube
of Gaussians of a spread of sizes (1 cm in 2 m, up to 3 cm). The best of the repeats counts.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable

import torch
from crowdgaussian.splat import Cameras, Splats, rasterize
from plain_tiles import rasterize_plain
from torch import Tensor

SIZE = 512
REQUIRED_RATIO = 15.0
# capsules of a person: ends in metres (y up), radius, share of the surface
CAPSULES = (
    ((0.0, 0.95, 0.0), (0.0, 1.40, 0.0), 0.16, 4.0),
    ((0.0, 1.55, 0.0), (0.0, 1.65, 0.0), 0.10, 1.2),
    ((0.2, 1.40, 0.0), (0.65, 1.40, 0.0), 0.05, 1.2),
    ((-0.2, 1.40, 0.0), (-0.65, 1.40, 0.0), 0.05, 1.2),
    ((0.1, 0.05, 0.0), (0.10, 0.90, 0.0), 0.08, 2.0),
    ((-0.1, 0.05, 0.0), (-0.10, 0.90, 0.0), 0.08, 2.0),
)


def _splats(means: Tensor, scales: Tensor, make: torch.Generator) -> dict[str, Tensor]:
    n = len(means)
    values = {
        "means": means,
        "scales": scales,
        "quats": torch.randn(n, 4, generator=make),
        "opacities": torch.sigmoid(torch.randn(n, generator=make) + 2.5),
        "sh": torch.randn(n, 1, 3, generator=make) * 0.5,
    }
    return {name: value.requires_grad_() for name, value in values.items()}


def person(n: int) -> dict[str, Tensor]:
    """n Gaussians on the surface of a capsule person."""
    make = torch.Generator().manual_seed(0)
    which = torch.multinomial(torch.tensor([c[3] for c in CAPSULES]), n, True, generator=make)
    start, end, radius = (torch.tensor([c[k] for c in CAPSULES])[which] for k in range(3))
    outward = torch.nn.functional.normalize(torch.randn(n, 3, generator=make), dim=1)
    along = torch.rand(n, 1, generator=make)
    scales = 0.0055 * (40_000 / n) ** 0.5 * torch.exp(0.25 * torch.randn(n, 3, generator=make))
    return _splats(start + along * (end - start) + radius[:, None] * outward, scales, make)


def cube(n: int) -> dict[str, Tensor]:
    """n Gaussians of mixed sizes in a cube of 2 m."""
    make = torch.Generator().manual_seed(1)
    means = torch.rand(n, 3, generator=make) * 2 - 1 + torch.tensor([0.0, 0.9, 0.0])
    return _splats(means, 0.01 * torch.exp(0.5 * torch.randn(n, 3, generator=make)), make)


def _kernels(splats: Splats, cameras: Cameras) -> Tensor:
    render = rasterize(splats, cameras)
    depth = render.depth * render.alpha
    return torch.cat([render.color[0].permute(2, 0, 1), depth, render.alpha])


def _timed(
    render: Callable[[Splats, Cameras], Tensor], leaves: dict[str, Tensor], cameras: Cameras
) -> tuple[float, float, Tensor]:
    """Seconds of the forward and backward pass, and the image [5, H, W]."""
    for leaf in leaves.values():
        leaf.grad = None
    start = time.perf_counter()
    image = render(Splats(**leaves), cameras)
    middle = time.perf_counter()
    image[(0, 1, 2, 4), :, :].sum().backward()
    return middle - start, time.perf_counter() - middle, image.detach()


def _row(name: str, n: int, leaves: dict[str, Tensor], repeats: int) -> float:
    cameras = Cameras.orbit((0.0, 0.9, 0.0), 5.0, 1, fov=0.42, size=SIZE)
    _timed(_kernels, leaves, cameras)
    ours = [_timed(_kernels, leaves, cameras) for _ in range(3 * repeats)]
    plain = [_timed(rasterize_plain, leaves, cameras) for _ in range(repeats)]
    times = [min(run[k] for run in runs) for runs in (ours, plain) for k in (0, 1)]
    ratio = (times[2] + times[3]) / (times[0] + times[1])
    error = float((ours[0][2] - plain[0][2])[:3].abs().mean())
    print(
        f"{name:8}{n:8}{times[0] * 1e3:10.1f}{times[1] * 1e3:10.1f}{times[2] * 1e3:11.0f}"
        f"{times[3] * 1e3:11.0f}{ratio:9.1f}x{error:12.1e}",
        flush=True,
    )
    return float(ratio)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 40_000, 100_000])
    parser.add_argument("--repeats", type=int, default=2, help="of the plain rasteriser")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{SIZE}x{SIZE}, {options.threads} threads, torch {torch.__version__}; milliseconds")
    print(
        f"{'scene':8}{'count':>8}{'forward':>10}{'backward':>10}{'plain fwd':>11}"
        f"{'plain bwd':>11}{'ratio':>10}{'mean diff':>12}"
    )
    ratios = [
        _row(make.__name__, n, make(n), options.repeats)
        for make in (person, cube)
        for n in options.counts
    ]
    worst = min(ratios)
    print(f"smallest ratio {worst:.1f}x, required {REQUIRED_RATIO:.0f}x")
    return 0 if worst >= REQUIRED_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
