# SPDX-License-Identifier: Apache-2.0
"""Which files the stage "lorm" reads, what their licences allow, and loading the network.

Nothing is fetched here: `crowdgaussian weights fetch` does that when it is asked to.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.scene_schema import ModelProvenance, hash_file

from ..weights import TABLE, local_path, require
from .stage_config import LormStageConfig

if TYPE_CHECKING:
    import torch

    from .model import LormModel

WEIGHTS_FILE = "model.safetensors"
ADAPTERS_LICENCE = "as LHM: CC-BY-NC-4.0"


@dataclass(frozen=True)
class UsedFile:
    """One of the user's files that has a hand in the result; none allows commercial use."""

    name: str
    location: Path
    licence: str
    stamp: tuple[int, int]  # bytes and time of change: another content is another UsedFile
    digest: str = ""  # not known before it is read

    def path(self) -> Path:
        """Where it lies."""
        return self.location

    def provenance(self) -> ModelProvenance:
        """The entry for scene.json.

        Raises:
            CrowdGaussianError: the file cannot be read.
        """
        return ModelProvenance(name=self.name, version="", file=self.location.name,
                               blake2b=hash_file(self.location), licence=self.licence,
                               commercial=False, stage="avatar")


def network_file(config: LormStageConfig) -> Path:
    """model.safetensors: of the folder named, or this machine's copy of the repository named.

    Raises:
        CrowdGaussianError: it is not here.
    """
    path = Path(config.weights)
    if path.is_file() or (path / WEIGHTS_FILE).is_file():
        return path if path.is_file() else path / WEIGHTS_FILE
    known = [entry for entry in TABLE.values()
             if config.weights in (entry.place, entry.name) and entry.stage == "lorm"]
    for entry in known:
        if (found := local_path(entry.name)) is not None:
            return found
    if config.weights.count("/") == 1 and not path.exists():
        from huggingface_hub import try_to_load_from_cache

        if isinstance(cached := try_to_load_from_cache(config.weights, WEIGHTS_FILE), str):
            return Path(cached)
    entry = known[0] if known else TABLE["lhm-500m-hf"]
    raise CrowdGaussianError(
        f"The stage 'lorm' needs {WEIGHTS_FILE} of {config.weights}, which is not on this machine: "
        f"run `crowdgaussian weights fetch {entry.name}` ({entry.page}, {entry.licence}, not for "
        "commercial use) or set lorm.weights to its folder, or use the preset 'open', the bundled "
        "default that needs no such file."
    )


def used_files(config: LormStageConfig) -> list[UsedFile]:
    """Every file that these settings lead to.

    Raises:
        CrowdGaussianError: one is missing.
    """
    network, sapiens, points = _files(config)
    licence = TABLE["lhm-500m-hf"].licence
    named = [("LHM", network, licence), ("Sapiens-1B", sapiens, TABLE["sapiens-1b"].licence),
             ("LHM query points", points, licence)]
    if config.adapters:
        named.append(("LORM adapters", Path(config.adapters), ADAPTERS_LICENCE))
    return [_used(name, path, licence) for name, path, licence in named if path is not None]


def _files(config: LormStageConfig) -> tuple[Path, Path, Path | None]:
    """The network, Sapiens, and the published points where they are here."""
    network = network_file(config)
    sapiens = Path(config.sapiens) if config.sapiens else require("sapiens-1b")
    if config.points:
        return network, sapiens, Path(config.points)
    from .checkpoint import Checkpoint

    count = Checkpoint(network).checked(()).num_points
    beside, entry = network.with_name(f"1_{count}.ply"), f"lhm-points-{count}"
    if beside.is_file() or entry not in TABLE:
        return network, sapiens, beside if beside.is_file() else None
    return network, sapiens, local_path(entry)


def _used(name: str, path: Path, licence: str) -> UsedFile:
    if not path.is_file():
        raise CrowdGaussianError(f"The file of {name} is missing: {path}.")
    about = path.stat()
    return UsedFile(name, path, licence, (about.st_size, about.st_mtime_ns))


def load_configured(config: LormStageConfig, device: "torch.device") -> "LormModel":
    """The network of these settings.

    Raises:
        CrowdGaussianError: a file is missing or damaged.
    """
    from .checkpoint import load_lorm

    network, sapiens, points = _files(config)
    return load_lorm(network, sapiens=sapiens, points=points, adapters=config.adapters or None,
                     device=device)
