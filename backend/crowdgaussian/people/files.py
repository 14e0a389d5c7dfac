# SPDX-License-Identifier: Apache-2.0
"""Which network files the people stages read."""

from dataclasses import dataclass
from pathlib import Path

from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.scene_schema import ModelProvenance

from ..weights.local import local_path
from ..weights.table import TABLE
from ..weights.used import Need, UsedFile, locate, used_file
from .config import PeopleConfig

_DEFAULT = "keypoint_fit"
_BOTH = "vitpose rt-detr"  # both networks of one stage are fetched by one command
_MULTIHMR = Need("people", "multihmr", "people.multihmr", (
    "multihmr-896-l", "multihmr-672-l", "multihmr-672-b", "multihmr-672-s"), _DEFAULT)
_SMPLX = Need("people", "multihmr", "people.smplx", ("smplx",), _DEFAULT)
_VITPOSE = Need("people", "vitpose", "people.vitpose", ("vitpose",), _DEFAULT, _BOTH)
_DETECTOR = Need("people", "vitpose", "people.detector", ("rt-detr",), _DEFAULT, _BOTH)


def multihmr_file(config: PeopleConfig) -> Path:
    """The Multi-HMR checkpoint.

    Raises:
        CrowdGaussianError: it is not on this machine.
    """
    return locate(config.multihmr, _MULTIHMR)


def smplx_file(config: PeopleConfig) -> Path | None:
    """SMPLX_NEUTRAL.npz, None where there is none and none is asked for.

    Raises:
        CrowdGaussianError: the setting names a file that is not there.
    """
    return locate(config.smplx, _SMPLX) if config.smplx else local_path("smplx")


def vitpose_folder(config: PeopleConfig) -> Path:
    """The keypoint network.

    Raises:
        CrowdGaussianError: it is not on this machine.
    """
    return locate(config.vitpose, _VITPOSE)


def detector_folder(config: PeopleConfig) -> Path:
    """The detector.

    Raises:
        CrowdGaussianError: it is not on this machine.
    """
    return locate(config.detector, _DETECTOR)


def multihmr_files(config: PeopleConfig) -> list[UsedFile]:
    """Every file that the stage "multihmr" reads."""
    files = [used_file(config.multihmr, _MULTIHMR)]
    smplx = smplx_file(config)
    return [*files, used_file(str(smplx), _SMPLX)] if smplx else files


def vitpose_files(config: PeopleConfig) -> list[UsedFile]:
    """Every file that the stage "vitpose" reads; boxes of the user need no detector."""
    files = [used_file(config.vitpose, _VITPOSE)]
    return files if config.boxes else [*files, used_file(config.detector, _DETECTOR)]


@dataclass(frozen=True)
class OtherProgram:
    """A program of the user that found the people; its files are not ours to read."""

    name: str
    licence: str
    commercial: bool

    digest = ""

    def provenance(self) -> ModelProvenance:
        """The entry for scene.json."""
        return ModelProvenance(name=self.name, version="", file="", blake2b="",
                               licence=self.licence, commercial=self.commercial, stage="people")


def other_program(config: PeopleConfig) -> list[OtherProgram]:
    """Whose licence people from elsewhere carry; unless it is told, none that allows sales.

    Raises:
        CrowdGaussianError: the program is not in the table of models.
    """
    if not config.program:
        return [OtherProgram("another program", "not told (people.program)", False)]
    entry = TABLE.get(config.program)
    if entry is None:
        raise CrowdGaussianError(
            f"people.program is '{config.program}', which `crowdgaussian weights list` does not "
            "have; use a name from there, or leave it empty.")
    return [OtherProgram(entry.name, entry.licence, entry.commercial)]
