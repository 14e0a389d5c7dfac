# SPDX-License-Identifier: Apache-2.0
"""A refiner's model card: what it is, what it was trained on and how, and who may use it."""

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import torch
from crowdgaussian_shared.errors import SettingError
from crowdgaussian_shared.formats.atomic import write_bytes

from ..networks.small_unet import SmallConfig, SmallRefiner, load_small, save_small
from ..weights import OWN_LICENCE, Base, derivative
from .dataset import DAMAGE, FILE, PairDataset
from .losses import RefinerTraining

if TYPE_CHECKING:
    from ..networks.sd_turbo import TurboRefiner  # diffusers takes seconds to load

    AnyRefiner: TypeAlias = SmallRefiner | TurboRefiner

CARD = "refiner_card.md"
_OWN_COARSE = {DAMAGE, "photo_fit"}  # made by nothing but this program


def training_facts(
    config: RefinerTraining, data: PairDataset, base: Base | None, command: str
) -> dict[str, str]:
    """What there is to say of a training, for the weights' file and the card.

    Args:
        config: how it was trained.
        data: on what.
        base: from which network; None: the small one.
        command: that did it.
    """
    scenes = [json.loads((scene / FILE).read_text(encoding="utf-8")) for scene in data.scenes]
    coarse = Counter(scene.get("coarse", DAMAGE) for scene in scenes)
    people = sorted({scene["settings"].get("people", "") for scene in scenes})
    calibration = config.calibration
    return {
        "licence": _licence(base, people, coarse),
        "base": "none: trained from nothing" if base is None else f"{base.name} ({base.licence})",
        "data": f"{len(data)} views of {len(scenes)} scenes",
        "people": ", ".join(name or "made up by the program" for name in people),
        "coarse views": ", ".join(f"{kind} ({count} scenes)" for kind, count in coarse.items()),
        "scenes": ", ".join(
            f"{name} {value}"
            for name, value in scenes[0]["settings"].items()
            if name not in ("people", "coarse")
        ),
        "command": command,
        "steps": str(config.steps),
        "batch": f"{config.batch} crops of {config.crop} pixels in each process",
        "learning rate": f"{config.lr:g}",
        "seed": str(config.seed),
        "losses": config.losses.in_words(),
        "self-calibrated learning": f"clean inputs {calibration.clean:g}, half-clean inputs "
        f"{calibration.half_clean:g}"
        if calibration.clean + calibration.half_clean
        else "off",
        "averaged weights": f"decay {config.ema:g}" if config.ema else "no",
    }


def write_card(out: Path, name: str, network: "AnyRefiner", facts: dict[str, str]) -> None:
    """Writes OUT/refiner_card.md.

    Args:
        out: folder of the training.
        name: of the weights in it.
        network: that was trained.
        facts: of training_facts.
    """
    trained = sum(value.numel() for value in network.parameters() if value.requires_grad)
    rows = {
        "parameters trained": f"{trained:,}",
        "normals": "used" if network.config.normals else "not used",
        **facts,
    }
    lines = [
        f"# {name}",
        "",
        "A refiner of CrowdGaussian for Blender: a coarse view of people and "
        "the normals of their bodies go in, a clean view comes out, in one step.",
        "",
    ]
    lines += [f"- **{key}:** {value}" for key, value in rows.items()]
    lines += [
        "",
        f"How good it is: `crowdgaussian evaluate refiner DATA -o REPORT --refiner mine={name}`.",
        "",
    ]
    write_bytes(out / CARD, "\n".join(lines).encode())


def _licence(base: Base | None, people: list[str], coarse: Counter[str]) -> str:
    """Our own where nothing but this program had a hand in it; else whose terms hold too."""
    terms = [derivative(base.name, base.licence)] if base is not None else []
    terms += [f"trained on scans ({name}), whose terms hold" for name in people if name]
    terms += [
        f"coarse views made by {kind}, whose terms hold"
        for kind in coarse
        if kind not in _OWN_COARSE
    ]
    return "; ".join(terms) or OWN_LICENCE


# Which network a training begins with, and where it goes when it is trained

SMALL, TURBO = "refiner.safetensors", "refiner"


def new_network(base: Base | None, normals: bool, seed: int, skips: bool = False) -> "AnyRefiner":
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
            raise SettingError(
                "Skips run from a VAE's encoder to its decoder; give --base "
                "too, or leave out --skips."
            )
        return SmallRefiner(SmallConfig(normals=normals))
    from ..networks.sd_checkpoint import from_stable_diffusion
    from ..networks.sd_turbo import TurboConfig  # diffusers takes seconds to load

    return from_stable_diffusion(base.folder, TurboConfig(normals=normals, skips=skips))


def save_trained(network: "AnyRefiner", out: Path, facts: dict[str, str]) -> Path:
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
        from ..networks.sd_checkpoint import save_refiner

        path = out / TURBO
        save_refiner(network, path, facts)
    write_card(out, path.name, network, facts)
    return path


def load_any(path: Path) -> "AnyRefiner":
    """A refiner of either kind: a small one's file, or a folder as load_turbo takes it.

    Raises:
        CrowdGaussianError: it is missing, damaged or of another architecture.
    """
    if not path.is_dir():
        return load_small(path)
    from ..networks.sd_checkpoint import load_turbo

    return load_turbo(path)
