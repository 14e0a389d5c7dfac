# SPDX-License-Identifier: Apache-2.0
"""SmallRefiner to and from one safetensors file that says what it is."""

import json
from dataclasses import asdict
from pathlib import Path

from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.files import write_bytes
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from .small import SmallConfig, SmallRefiner

KIND = "crowdgaussian small refiner"


def save_small(refiner: SmallRefiner, path: Path, about: dict[str, str] | None = None) -> None:
    """Writes weights and facts; an older file stays until the new one is whole.

    Args:
        refiner: on any device.
        path: of the file.
        about: more facts, such as licence, data and command.
    """
    facts = {**(about or {}), "kind": KIND, "config": json.dumps(asdict(refiner.config))}
    state = {name: value.detach().float().cpu().contiguous()
             for name, value in refiner.state_dict().items()}
    write_bytes(path, save(state, facts))


def load_small(path: Path) -> SmallRefiner:
    """A refiner that save_small wrote, in evaluation mode.

    Raises:
        CrowdGaussianError: the file is missing, damaged or of another architecture.
    """
    facts = read_facts(path)
    try:
        config = SmallConfig(**{name: tuple(value) if name == "widths" else value
                                for name, value in json.loads(facts["config"]).items()})
        refiner = SmallRefiner(config)
        with safe_open(path, "pt") as stream:
            refiner.load_state_dict({name: stream.get_tensor(name) for name in stream.keys()})
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise CrowdGaussianError(
            f"{path} is damaged or holds weights of another architecture; get a whole copy."
        ) from error
    return refiner.eval()


def read_facts(path: Path) -> dict[str, str]:
    """What a file says of itself.

    Raises:
        CrowdGaussianError: the file cannot be read or is no small refiner.
    """
    try:
        with safe_open(path, "pt") as stream:
            facts = stream.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise CrowdGaussianError(
            f"{path} cannot be read as a refiner's safetensors file; check the path, or get a "
            "whole copy.") from error
    if facts.get("kind") != KIND:
        raise CrowdGaussianError(
            f"{path} holds weights of another architecture; give a small refiner's file, as "
            "`crowdgaussian train refiner` writes it.")
    return facts
