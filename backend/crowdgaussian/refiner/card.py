# SPDX-License-Identifier: Apache-2.0
"""A refiner's model card: what it is, what it was trained on and how, and who may use it."""

import json
from pathlib import Path

from crowdgaussian_shared.files import write_bytes
from torch import nn

from .bases import Base
from .pairs import FILE, PairDataset
from .train_config import RefinerTraining

CARD = "refiner_card.md"
OWN_LICENCE = "Apache-2.0"
_OWN_COARSE = {"damage", "photo_fit"}  # made by nothing but this program


def training_facts(config: RefinerTraining, data: PairDataset, base: Base | None,
                   command: str) -> dict[str, str]:
    """What there is to say of a training, for the weights' file and the card.

    Args:
        config: how it was trained.
        data: on what.
        base: from which network; None: the small one.
        command: that did it.
    """
    about = json.loads((data.scenes[0] / FILE).read_text(encoding="utf-8"))
    calibration = config.calibration
    return {
        "licence": _licence(base, about),
        "base": "none: trained from nothing" if base is None else f"{base.name} ({base.licence})",
        "data": _data(data, about), "command": command, "steps": str(config.steps),
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


def _licence(base: Base | None, about: dict) -> str:
    if base is not None:
        return f"a derivative of {base.name}: {base.licence}"
    foreign = set(about["settings"].get("coarse", ())) - _OWN_COARSE
    if foreign:
        return f"that of {', '.join(sorted(foreign))}, which made coarse views of the data"
    return OWN_LICENCE


def _data(data: PairDataset, about: dict) -> str:
    settings = ", ".join(f"{name} {value}" for name, value in about["settings"].items())
    return f"{len(data)} views of {len(data.scenes)} training scenes ({settings})"
