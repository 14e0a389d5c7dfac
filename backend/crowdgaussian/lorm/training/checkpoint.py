# SPDX-License-Identifier: Apache-2.0
"""Where a training is: adapters, optimiser and step, in folders that are whole or not there.

OUT/checkpoints/step_000200/adapters.safetensors   the LoRA, as save_adapters writes it
                            optimizer.safetensors  AdamW's moments, and torch's random state
                            state.json             step, settings and people
"""

import json
import os
import shutil
from pathlib import Path

import torch
from crowdgaussian_shared.errors import DamagedFileError, SettingError, disk_error
from peft import set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..model.adapters import save_adapters, trainable
from ..model.lorm import LormModel

ADAPTERS, OPTIMIZER, STATE = "adapters.safetensors", "optimizer.safetensors", "state.json"
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def save_state(
    out: Path, model: LormModel, optimizer: torch.optim.Optimizer, step: int, about: dict
) -> Path:
    """Writes a checkpoint beside its place, then renames it; the one before the last is removed.

    Args:
        out: folder of the training.
        model: with adapters.
        optimizer: AdamW of the adapters' parameters, in their order.
        step: iterations done.
        about: what has to be the same when the training goes on.

    Raises:
        ResourceError: the disk is full or the folder cannot be written.
    """
    place = out / "checkpoints" / f"step_{step:06d}"
    beside = place.with_name(f".{place.name}.part")
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        save_adapters(model, beside / ADAPTERS)
        save_file(_moments(model, optimizer), beside / OPTIMIZER)
        text = json.dumps({"step": step, "about": about}, indent=1)
        (beside / STATE).write_text(text, encoding="utf-8")
        shutil.rmtree(place, ignore_errors=True)
        os.replace(beside, place)
        for old in checkpoints(out)[:-2]:
            shutil.rmtree(old, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise disk_error(
            error,
            f"The checkpoint {place} cannot be written ({error}); free some "
            "space and run the same command again.",
        ) from error
    return place


def checkpoints(out: Path) -> list[Path]:
    """The whole checkpoints of a training, oldest first."""
    return sorted(path.parent for path in out.glob(f"checkpoints/step_*/{STATE}"))


def load_state(place: Path, model: LormModel, optimizer: torch.optim.Optimizer, about: dict) -> int:
    """Reads a checkpoint into a model with adapters and its optimiser; returns the step.

    Raises:
        CrowdGaussianError: it is damaged, or of a training with other settings or people.
    """
    try:
        stored = json.loads((place / STATE).read_text(encoding="utf-8"))
        adapters = load_file(place / ADAPTERS)
        moments = load_file(place / OPTIMIZER)
        changed = [key for key, value in about.items() if stored["about"].get(key) != value]
        step = int(stored["step"])
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise DamagedFileError(
            f"The checkpoint {place} is damaged; remove that folder to go on from the one before."
        ) from error
    if changed:
        raise SettingError(
            f"{place.parent.parent} holds a training with another {changed[0]}; give the same "
            "settings to go on with it, or another output folder."
        )
    set_peft_model_state_dict(model.transformer, adapters)
    for index, parameter in enumerate(trainable(model)):
        optimizer.state[parameter] = {
            name: moments[f"{index:04d}.{name}"].to("cpu" if name == "step" else parameter.device)
            for name in _MOMENTS
            if f"{index:04d}.{name}" in moments
        }
    torch.set_rng_state(moments["random"])
    return step


def _moments(model: LormModel, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    tensors = {"random": torch.get_rng_state()}
    for index, parameter in enumerate(trainable(model)):
        for name, value in optimizer.state[parameter].items():
            tensors[f"{index:04d}.{name}"] = value.detach().cpu().contiguous().clone()
    return tensors
