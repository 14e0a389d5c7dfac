# SPDX-License-Identifier: Apache-2.0
"""A refiner's model card: what it is, what it was trained on and how, and who may use it."""

import json
from collections import Counter
from pathlib import Path

from crowdgaussian_shared.files import write_bytes
from torch import nn

from .bases import Base
from .pairs import DAMAGE, FILE, PairDataset
from .train_config import RefinerTraining
from .used_files import OWN_LICENCE, derivative

CARD = "refiner_card.md"
_OWN_COARSE = {DAMAGE, "photo_fit"}  # made by nothing but this program


def training_facts(config: RefinerTraining, data: PairDataset, base: Base | None,
                   command: str) -> dict[str, str]:
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
        "scenes": ", ".join(f"{name} {value}" for name, value in scenes[0]["settings"].items()
                            if name not in ("people", "coarse")),
        "command": command, "steps": str(config.steps),
        "batch": f"{config.batch} crops of {config.crop} pixels in each process",
        "learning rate": f"{config.lr:g}", "seed": str(config.seed),
        "losses": config.losses.in_words(),
        "self-calibrated learning": f"clean inputs {calibration.clean:g}, half-clean inputs "
        f"{calibration.half_clean:g}" if calibration.clean + calibration.half_clean else "off",
        "averaged weights": f"decay {config.ema:g}" if config.ema else "no",
    }


def write_card(out: Path, name: str, network: nn.Module, facts: dict[str, str]) -> None:
    """Writes OUT/refiner_card.md.

    Args:
        out: folder of the training.
        name: of the weights in it.
        network: that was trained.
        facts: of training_facts.
    """
    trained = sum(value.numel() for value in network.parameters() if value.requires_grad)
    rows = {"parameters trained": f"{trained:,}",
            "normals": "used" if network.config.normals else "not used", **facts}
    lines = [f"# {name}", "", "A refiner of CrowdGaussian for Blender: a coarse view of people and "
             "the normals of their bodies go in, a clean view comes out, in one step.", ""]
    lines += [f"- **{key}:** {value}" for key, value in rows.items()]
    lines += ["", "How good it is: `crowdgaussian evaluate refiner DATA -o REPORT --refiner "
              f"mine={name}`.", ""]
    write_bytes(out / CARD, "\n".join(lines).encode())


def _licence(base: Base | None, people: list[str], coarse: Counter[str]) -> str:
    """Our own where nothing but this program had a hand in it; else whose terms hold too."""
    terms = [derivative(base.name, base.licence)] if base is not None else []
    terms += [f"trained on scans ({name}), whose terms hold" for name in people if name]
    terms += [f"coarse views made by {kind}, whose terms hold"
              for kind in coarse if kind not in _OWN_COARSE]
    return "; ".join(terms) or OWN_LICENCE
