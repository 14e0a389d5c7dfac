# SPDX-License-Identifier: Apache-2.0
"""The seam of all refiners, what becomes of a cluster, the settings, and the files they lead to.

Asking for files does not import torch: the service's broker asks too.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from crowdgaussian_shared.errors import MissingFileError
from crowdgaussian_shared.geometry.avatar import Avatar

from ..weights import OPEN_REFINER, TABLE, WeightFile, find, local_path, require
from ..weights.local import UNKNOWN_LICENCE, Need, UsedFile, locate, trained_file

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class RefinedCluster:
    """What became of one cluster."""

    people: tuple[int, ...]  # indices in the crowd
    avatars: tuple[Avatar, ...]  # refined; empty when it failed
    error: str = ""  # why it stays as it was


class Refiner(Protocol):
    """Coarse views and the normals of the bodies in them -> clean views, in one step."""

    trained_at: int  # pixels a side of the views it was trained on

    def refine(self, images: "Tensor", normals: "Tensor") -> "Tensor":
        """Clean views.

        Args:
            images: [B, 3, H, W] sRGB 0..1, coarse.
            normals: [B, 4, H, W] unit normals in camera axes (0 beside bodies), then the mask 0/1.

        Returns:
            [B, 3, H, W] sRGB 0..1.
        """
        ...


SMALL_VIEW, TURBO_VIEW = 256, 512  # Refiner.trained_at; SD-Turbo's own pictures have 512 too

# The options of the refinement stages; nothing here imports torch


@dataclass(frozen=True)
class DistilConfig:
    """How a cluster is refined."""

    views: int = 12  # around the cluster
    size: int = 0  # pixels a side; 0: as the refiner was trained, 256 (small) or 512 (turbo)
    rounds: int = 2  # of render, refine, fit
    steps: int = 45  # of fitting, per round
    photo_share: float = 0.4  # of the steps look at the photo
    photo_weight: float = 1.5
    pseudo_weight: float = 0.5
    ssim_share: float = 0.2


@dataclass(frozen=True)
class RefineConfig:
    """Options of the refinement stages."""

    weights: str = ""  # a file or folder of the user; empty: what ships, or was fetched
    reach: float = 1.5  # metres between neighbours of a cluster
    most_people: int = 4  # of one cluster, so that each has pixels enough
    photo_px: int = 640  # longest side of the photo's crop
    distil: DistilConfig = field(default_factory=DistilConfig)


# Which files the refinement stages read, and what their licences allow

STAGE = "refiner"
OWN_LICENCE = "Apache-2.0"
# In a folder that `crowdgaussian train refiner` wrote: what it is, and what was learned beside the
# networks.
TRAINED, EXTRAS = "refiner.json", "extras.safetensors"
PLAIN = "model_index.json"  # in a folder of Stable Diffusion, as diffusers saves it
BASES = ("sd-turbo", "sd-2.1-base")  # the second has no limit of revenue
_TURBO = Need(STAGE, "turbo", "refine.weights", BASES, "none")
_NETWORKS = ("unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors")


def small_path(config: RefineConfig) -> Path:
    """The file of the small refiner: the user's, or the one that ships.

    Raises:
        MissingFileError: it is not there.
    """
    if config.weights:
        return trained_file(config.weights, "refine.weights", "refiner")
    path = OPEN_REFINER.path()
    if path.is_file():
        return path
    raise MissingFileError(
        f"The refiner that ships, {path.name}, is not in this installation; install it again, set "
        "refine.weights to a file that `crowdgaussian train refiner` wrote, or set stages.refiner "
        "to none."
    )


def small_files(config: RefineConfig) -> list[WeightFile | UsedFile]:
    """The file of the small refiner.

    Raises:
        MissingFileError: it is not there.
    """
    path = small_path(config)
    if not config.weights:
        return [OPEN_REFINER]
    licence = _licence_in(path)
    return [_used(path, f"small refiner {path.name}", licence, licence == OWN_LICENCE)]


def turbo_path(config: RefineConfig) -> Path:
    """The folder of the diffusion refiner: a trained one, or Stable Diffusion's.

    Raises:
        MissingFileError: there is none, or it holds something else.
    """
    path = locate(config.weights, _TURBO)
    if (path / TRAINED).is_file() or (path / PLAIN).is_file():
        return path
    raise MissingFileError(
        f"{path} holds no refiner; set refine.weights to the folder that `crowdgaussian train "
        "refiner --base` wrote, or to that of SD-Turbo."
    )


def turbo_needs(_config: RefineConfig) -> tuple[Need, ...]:
    """What the refiner "turbo" wants of the catalogue."""
    return (_TURBO,)


def turbo_files(config: RefineConfig) -> list[UsedFile]:
    """The large files of the diffusion refiner.

    Raises:
        MissingFileError: one is missing.
    """
    path = turbo_path(config)
    names: tuple[str, ...] = _NETWORKS
    licence, commercial = _stable_diffusion(path)
    if (path / TRAINED).is_file():
        names, (licence, commercial) = (*names, EXTRAS), _trained(path)
    return [_used(path / name, f"{path.name}/{name}", licence, commercial) for name in names]


def _stable_diffusion(path: Path) -> tuple[str, bool]:
    """Licence of a plain network and whether it allows commercial use; by the folder's name."""
    for name in BASES:
        entry = TABLE[name]
        if path.name in (name, entry.place.rsplit("/", 1)[-1]):
            return entry.licence, entry.commercial
    return UNKNOWN_LICENCE, False


def _trained(path: Path) -> tuple[str, bool]:
    """The same of a trained refiner: commercial use is allowed where nothing but a base allows it.

    Scans, LORM or a base of unknown licence in what it was trained from have terms of their own.
    """
    try:
        facts = json.loads((path / TRAINED).read_text(encoding="utf-8"))["facts"]
        licence = str(facts["licence"])
    except (OSError, ValueError, KeyError, TypeError):
        return derivative("Stable Diffusion", TABLE["sd-turbo"].licence), False
    return licence, licence in {
        derivative(name, TABLE[name].licence) for name in BASES if TABLE[name].commercial
    }


def derivative(name: str, licence: str) -> str:
    """The licence of a network that was trained from another one."""
    return f"a derivative of {name}: {licence}"


def _licence_in(path: Path) -> str:
    """What a safetensors file says of its licence."""
    try:
        from safetensors import SafetensorError, safe_open

        with safe_open(path, "np") as stream:
            return (stream.metadata() or {}).get("licence") or UNKNOWN_LICENCE
    except (ImportError, OSError, SafetensorError):
        return UNKNOWN_LICENCE  # loading it will say what is wrong


def _used(path: Path, name: str, licence: str, commercial: bool) -> UsedFile:
    missing = f"The refiner's file {path} is missing; get a whole copy."
    return UsedFile.at(path, (name, licence, commercial), STAGE, missing)


# The networks that a refiner can be trained from, and what their licences ask for

_OWN_FOLDER = (
    "that of the network in the folder: Stability AI Community License for SD-Turbo, "
    "CreativeML OpenRAIL++-M for SD 2.1-base"
)


@dataclass(frozen=True)
class Base:
    """One of them on this machine."""

    folder: Path
    name: str
    licence: str


def find_base(text: str) -> Base:
    """A name of the catalogue, or a folder.

    Raises:
        CrowdGaussianError: the named network is not on this machine, or there is no such folder.
    """
    if text in BASES:
        return Base(require(text), text, find(text).licence)
    folder = Path(text)
    for name in BASES:
        place = local_path(name)
        if place is not None and folder.exists() and place.samefile(folder):
            return Base(folder, name, find(name).licence)
    return Base(folder, folder.name, _OWN_FOLDER)
