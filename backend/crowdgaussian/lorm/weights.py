# SPDX-License-Identifier: Apache-2.0
"""Which files the stage "lorm" reads, and what their licences allow.

Nothing is fetched here: `crowdgaussian weights fetch` does that when it is asked to. Asking does
not import torch: the service's broker asks too.
"""

from dataclasses import dataclass
from pathlib import Path

from crowdgaussian_shared.errors import MissingFileError
from safetensors import SafetensorError, safe_open

from ..weights import TABLE, local_path, require
from ..weights.local import Need, UsedFile

# Settings of the stage that reconstructs a crowd with LORM


@dataclass(frozen=True)
class LormStageConfig:
    """Which files, and how the people of a photo go through the network."""

    weights: str = "3DAIGC/LHM-500M-HF"  # folder of model.safetensors, or a name on the hub
    adapters: str = ""  # file of LORM's adapters (.safetensors); empty: the plain LHM
    sapiens: str = ""  # TorchScript file of Sapiens-1B; empty: the one of `crowdgaussian weights`
    points: str = ""  # 1_40000.ply; empty: the one of `crowdgaussian weights`, else own points
    batch: int = 0  # people at once; 0: as many as the device's memory allows
    device: str = ""  # "cuda", "cuda:1", "cpu"; empty: a GPU where there is one
    bfloat16: bool = True  # networks on a GPU; geometry is float32 in any case
    frame: str = "amodal"  # what the body image is framed by: "amodal" or "visible" silhouette
    photo_behind_head: bool = True  # as published: the photo stays around the head, but for people


WEIGHTS_FILE = "model.safetensors"
_NETWORKS = ("lhm-500m-hf", "lhm-1b-hf", "lhm-mini")
_NEEDS = (
    Need("avatar", "lorm", "lorm.weights", _NETWORKS, "photo_fit"),
    Need("avatar", "lorm", "lorm.sapiens", ("sapiens-1b",), "photo_fit"),
)
ADAPTERS_LICENCE = "as LHM: CC-BY-NC-4.0"
_OF_POINTS = "renderer.smplx_model.skinning_weight"


def lorm_needs(_config: LormStageConfig) -> tuple[Need, ...]:
    """What the stage "lorm" wants of the catalogue."""
    return _NEEDS


def network_file(config: LormStageConfig) -> Path:
    """model.safetensors: of the folder named, or this machine's copy of the repository named.

    Raises:
        MissingFileError: it is not here.
    """
    path = Path(config.weights)
    if path.is_file() or (path / WEIGHTS_FILE).is_file():
        return path if path.is_file() else path / WEIGHTS_FILE
    known = [
        entry
        for entry in TABLE.values()
        if config.weights in (entry.place, entry.name) and entry.stage == "lorm"
    ]
    for entry in known:
        if (found := local_path(entry.name)) is not None:
            return found
    if config.weights.count("/") == 1 and not path.exists():
        from huggingface_hub import try_to_load_from_cache

        if isinstance(cached := try_to_load_from_cache(config.weights, WEIGHTS_FILE), str):
            return Path(cached)
    entry = known[0] if known else TABLE["lhm-500m-hf"]
    raise MissingFileError(
        f"The stage 'lorm' needs {WEIGHTS_FILE} of {config.weights}, which is not on this machine: "
        f"run `crowdgaussian weights fetch {entry.name}` ({entry.page}, {entry.licence}, not for "
        "commercial use) or set lorm.weights to its folder, or use the preset 'open', the bundled "
        "default that needs no such file."
    )


def used_files(config: LormStageConfig) -> list[UsedFile]:
    """Every file that these settings lead to.

    Raises:
        MissingFileError: one is missing.
    """
    network, sapiens, points = model_files(config)
    licence = TABLE["lhm-500m-hf"].licence
    named = [
        ("LHM", network, licence),
        ("Sapiens-1B", sapiens, TABLE["sapiens-1b"].licence),
        ("LHM query points", points, licence),
    ]
    if config.adapters:
        named.append(("LORM adapters", Path(config.adapters), ADAPTERS_LICENCE))
    return [
        UsedFile.at(
            path, (name, licence, False), "avatar", f"The file of {name} is missing: {path}."
        )
        for name, path, licence in named
        if path is not None
    ]


def model_files(config: LormStageConfig) -> tuple[Path, Path, Path | None]:
    """The network, Sapiens, and the published points where they are here.

    Raises:
        MissingFileError: the network or Sapiens is missing.
    """
    network = network_file(config)
    sapiens = Path(config.sapiens) if config.sapiens else require("sapiens-1b")
    if config.points:
        return network, sapiens, Path(config.points)
    try:
        with safe_open(network, "np") as tensors:
            count = tensors.get_slice(_OF_POINTS).get_shape()[0]
    except (SafetensorError, OSError):
        return network, sapiens, None  # loading it will say what is wrong
    return network, sapiens, points_file(network, count)


def points_file(checkpoint: Path, count: int) -> Path | None:
    """The published points that go with a checkpoint, where they are here.

    Args:
        checkpoint: model.safetensors; looked for beside it first, then among the fetched weights.
        count: how many points the checkpoint has.
    """
    name, entry = f"1_{count}.ply", f"lhm-points-{count}"
    places = (checkpoint.with_name(name), checkpoint.parent / "dense_sample_points" / name)
    beside = next((place for place in places if place.is_file()), None)
    return beside or (local_path(entry) if entry in TABLE else None)
