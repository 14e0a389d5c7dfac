# SPDX-License-Identifier: Apache-2.0
"""Which network a training begins with, and where it goes when it is trained."""

from pathlib import Path

import torch
from torch import nn

from .small import SmallConfig, SmallRefiner
from .small_files import load_small, save_small
from .training import RefinerTraining
from .types import Refiner

SMALL, TURBO = "refiner.safetensors", "refiner"


def new_network(base: Path | None, normals: bool, seed: int) -> nn.Module:
    """An untrained refiner: on Stable Diffusion's folder, or the small one where there is none."""
    torch.manual_seed(seed)
    if base is None:
        return SmallRefiner(SmallConfig(normals=normals))
    from .turbo import TurboConfig  # diffusers takes seconds to load
    from .turbo_files import from_stable_diffusion

    return from_stable_diffusion(base, TurboConfig(normals=normals))


def save_trained(network: nn.Module, out: Path, config: RefinerTraining) -> Path:
    """Writes OUT/refiner.safetensors of the small network, or the folder OUT/refiner."""
    if not isinstance(network, SmallRefiner):
        from .turbo_files import save_refiner

        save_refiner(network, out / TURBO)
        return out / TURBO
    save_small(network, out / SMALL, facts(config))
    return out / SMALL


def facts(config: RefinerTraining) -> dict[str, str]:
    """What a file says about its training."""
    return {"steps": str(config.steps), "batch": str(config.batch), "seed": str(config.seed),
            "perceptual losses": "LPIPS and Gram on VGG16" if config.losses.needs_vgg
            else "none: trained without VGG16",
            "self-calibrated learning": str(config.calibration.clean)}


def load_any(path: Path) -> Refiner:
    """A trained refiner of either kind.

    Raises:
        CrowdGaussianError: it is missing, damaged or of another architecture.
    """
    if not path.is_dir():
        return load_small(path)
    from .turbo_files import load_refiner

    return load_refiner(path).eval()
