# SPDX-License-Identifier: Apache-2.0
"""Which network a training begins with, and where it goes when it is trained."""

from pathlib import Path

import torch
from crowdgaussian_shared.errors import CrowdGaussianError
from torch import nn

from .bases import Base
from .card import write_card
from .small import SmallConfig, SmallRefiner
from .small_files import load_small, save_small

SMALL, TURBO = "refiner.safetensors", "refiner"


def new_network(base: Base | None, normals: bool, seed: int, skips: bool = False) -> nn.Module:
    """An untrained refiner: on Stable Diffusion, or the small one where no base is given.

    Args:
        base: of the diffusion refiner.
        normals: False: the ablation that sees no normals.
        seed: of what is drawn at random.
        skips: from the VAE's encoder to its decoder, which needs a base.

    Raises:
        CrowdGaussianError: skips without a base, or its folder cannot be read.
    """
    torch.manual_seed(seed)
    if base is None:
        if skips:
            raise CrowdGaussianError("Skips run from a VAE's encoder to its decoder; give --base "
                                     "too, or leave out --skips.")
        return SmallRefiner(SmallConfig(normals=normals))
    from .turbo import TurboConfig  # diffusers takes seconds to load
    from .turbo_files import from_stable_diffusion

    return from_stable_diffusion(base.folder, TurboConfig(normals=normals, skips=skips))


def save_trained(network: nn.Module, out: Path, facts: dict[str, str]) -> Path:
    """Writes OUT/refiner.safetensors of the small network, or the folder OUT/refiner, and a card.

    Args:
        network: trained.
        out: folder of the training.
        facts: what is said of it beside the weights and in the card.
    """
    if isinstance(network, SmallRefiner):
        path = out / SMALL
        save_small(network, path, facts)
    else:
        from .turbo_files import save_refiner

        path = out / TURBO
        save_refiner(network, path, facts)
    write_card(out, path.name, network, facts)
    return path


def load_any(path: Path) -> nn.Module:
    """A refiner of either kind: a small one's file, or a folder as load_turbo takes it.

    Raises:
        CrowdGaussianError: it is missing, damaged or of another architecture.
    """
    if not path.is_dir():
        return load_small(path)
    from .turbo_files import load_turbo

    return load_turbo(path)
