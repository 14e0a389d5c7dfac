# SPDX-License-Identifier: Apache-2.0
"""Which files the stage "lorm" reads, what their licences allow, and loading the network.

Nothing is fetched here: `crowdgaussian weights fetch` does that when it is asked to.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.scene_schema import ModelProvenance, hash_file

from .stage_config import LormStageConfig

if TYPE_CHECKING:
    import torch

    from .model import LormModel

WEIGHTS_FILE = "model.safetensors"
LICENCE = "CC-BY-NC-4.0 and, for the body inside, the SMPL-X Model License"
_SAPIENS_LICENCE = "CC-BY-NC-4.0"


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


def weights_folder(config: LormStageConfig) -> Path:
    """The folder of the network's weights: the one named, or the hub's copy on this machine.

    Raises:
        CrowdGaussianError: they are not here.
    """
    folder = Path(config.weights)
    if (folder / WEIGHTS_FILE).is_file():
        return folder
    if config.weights.count("/") == 1 and not folder.exists():
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(config.weights, WEIGHTS_FILE)
        if isinstance(cached, str):
            return Path(cached).parent
    raise CrowdGaussianError(
        f"The stage 'lorm' needs {WEIGHTS_FILE} of {config.weights}, which is not on this machine "
        "(LHM-500M-HF, huggingface.co/3DAIGC/LHM-500M-HF, CC BY-NC 4.0, not for commercial use): "
        "get it with `crowdgaussian weights fetch` or set lorm.weights to its folder, or use the "
        "preset 'open', which is the default and needs no such file."
    )


def used_files(config: LormStageConfig) -> list[UsedFile]:
    """Every file these settings name.

    Raises:
        CrowdGaussianError: one is missing.
    """
    named = [("LORM" if config.adapters else "LHM", str(weights_folder(config) / WEIGHTS_FILE),
              LICENCE), ("LORM adapters", config.adapters, LICENCE),
             ("Sapiens-1B", config.sapiens, _SAPIENS_LICENCE),
             ("LHM query points", config.points, LICENCE)]
    return [_used(name, Path(path), licence) for name, path, licence in named if path]


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

    used_files(config)
    return load_lorm(weights_folder(config), sapiens=config.sapiens or None,
                     points=config.points or None, adapters=config.adapters or None,
                     device=device)
