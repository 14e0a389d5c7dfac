# SPDX-License-Identifier: Apache-2.0
"""Steps of the GPU check that draw Gaussians: gsplat against kernels and oracle, distillation."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import torch

from .measure import Figure, Machine, below, milliseconds, named

ROOT = Path(__file__).resolve().parents[2]
_SAME = 1e-3  # largest difference of a rendering, as tests/backend/splat/test_cuda.py allows
_PEOPLE = 6  # of the cluster that is distilled
_TEST_FILES = ("tests/backend/splat/test_cuda.py",)  # all that skip themselves without CUDA


def rasteriser(machine: Machine) -> list[Figure]:
    """This device's rasteriser beside the CPU kernels and the plain twin, then its speed."""
    from _support.splat_scenes import OUTPUTS, backward, both_renders, off_centre_cameras
    from _support.splat_scenes import random_splats as drawn
    from crowdgaussian.splat import Splats, rasterize

    figures = []
    for by_covars in (False, True):
        values = drawn(machine.pick(150, 40), 2, by_covars)
        background = torch.tensor([0.2, 0.5, 0.9])
        (ours, leaves), (twin, _) = both_renders(values, off_centre_cameras(), background)
        moved = {
            name: value.detach().to(machine.device).requires_grad_()
            for name, value in leaves.items()
        }
        features = moved["features"]
        splats = Splats(**{name: moved[name] for name in moved if name != "features"})
        here = rasterize(splats, off_centre_cameras(), background.to(machine.device), features)
        kind = "covariances" if by_covars else "quaternions"
        for name in OUTPUTS[:3]:
            for other, render in (("CPU kernels", ours), ("oracle", twin)):
                apart = getattr(here, name).detach().cpu() - getattr(render, name).detach()
                title = f"{kind}, {name}: difference from the {other}"
                figures.append(below(title, float(apart.abs().max()), _SAME))
        for render in (here, ours):
            backward(render)
        for name in ("means", "opacities", "sh"):
            expected = leaves[name].grad
            apart = (moved[name].grad.cpu() - expected).abs().max() / expected.abs().max()
            figures.append(below(f"{kind}, gradient of {name}: share", float(apart), _SAME))
    return figures + _speed(machine)


def _speed(machine: Machine) -> list[Figure]:
    from crowdgaussian.splat import Cameras, Splats, rasterize

    count, size = machine.pick(240_000, 500), machine.pick(1024, 48)
    make = torch.Generator().manual_seed(0)
    leaves = {
        "means": 0.5 * torch.randn(count, 3, generator=make),
        "opacities": torch.rand(count, generator=make),
        "sh": 0.3 * torch.randn(count, 1, 3, generator=make),
        "quats": torch.randn(count, 4, generator=make),
        "scales": torch.full((count, 3), 0.004),
    }
    leaves = {name: value.to(machine.device).requires_grad_() for name, value in leaves.items()}
    camera = Cameras.orbit((0, 0, 0), 4.0, 1, size=size)

    def draw() -> torch.Tensor:
        return rasterize(Splats(**leaves), camera).color

    with torch.no_grad():
        figures = named(f"{count:,} Gaussians, {size} pixels", milliseconds(machine, draw))
    both = milliseconds(machine, lambda: draw().sum().backward())
    return figures + named("the same with gradients", both)


def distillation(machine: Machine) -> list[Figure]:
    """One round after the other on a cluster of six people, with the small network."""
    from crowdgaussian.refiner.networks.small_unet import SmallRefiner
    from crowdgaussian.refiner.stage import CrowdRefinement
    from crowdgaussian.refiner.types import TURBO_VIEW, RefineConfig
    from refine_clusters import refined

    people, gaussians = machine.pick(_PEOPLE, 2), machine.pick(32_000, 200)
    config = RefineConfig(reach=99.0, most_people=people)
    config = replace(config, distil=replace(config.distil, size=TURBO_VIEW))
    if machine.small:
        least = replace(config.distil, size=32, views=2, rounds=1, steps=2)
        config = replace(config, photo_px=48, distil=least)
    stage = CrowdRefinement(config, SmallRefiner().to(machine.device).eval())
    costs: list = []

    def work() -> None:
        costs[:] = refined(stage, people, gaussians)

    figures = milliseconds(replace(machine, small=True), work)  # a second run is enough
    one = Figure("clusters", len(costs), "", "1", len(costs) == 1)
    distil = config.distil
    words = f"{people} people of {gaussians:,} Gaussians, {distil.views} views of {distil.size}"
    return named(words, [*figures, one])


def cuda_tests(machine: Machine) -> list[Figure]:
    """The project's tests that need a GPU; without one they skip themselves."""
    places = os.pathsep.join([str(ROOT / "backend"), str(ROOT / "shared")])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *_TEST_FILES],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": places},
        capture_output=True,
        text=True,
    )
    last = (done.stdout.strip().splitlines() or ["nothing"])[-1]
    words = last.replace(",", "").split()
    counts = dict(zip(words[1::2], words[::2]))
    figures = [
        Figure(f"tests {state}", float(counts.get(state, 0)))
        for state in ("passed", "skipped", "failed")
    ]
    if done.returncode or (machine.device == "cuda" and "passed" not in counts):
        raise RuntimeError(f"pytest ended with {done.returncode}: {last}")
    return figures
