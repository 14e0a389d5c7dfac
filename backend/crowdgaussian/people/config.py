# SPDX-License-Identifier: Apache-2.0
"""The options of the people stages."""

from dataclasses import dataclass
from pathlib import Path

from crowdgaussian_shared.errors import SettingError
from crowdgaussian_shared.scene.schema import ModelProvenance

from ..weights.local import Need, UsedFile, local_path, locate, used_file
from ..weights.table import TABLE


@dataclass(frozen=True)
class PeopleConfig:
    """Options of the people stages; the defaults serve photos of a few to a dozen people.

    Files left empty are those of `crowdgaussian weights`. Scores, sizes and steps are hand-tuned;
    not measured one by one.
    """

    max_people: int = 24  # the surest are kept
    min_relative_size: float = 0.25  # of the usual size in the photo; less: background crowd too
    min_score: float = 0.25  # 0..1, score below which a body is dropped; less: more false ones
    landmarks: str = "heavy"  # MediaPipe's landmark network; "full" takes two fifths of the time
    hands: bool = True  # look for hands and bend fingers to them; off, all hands are at rest
    default_fov: float = 55.0  # degrees across the longer side when the focal length is unknown
    pose_steps: int = 200  # optimiser steps for each body alone; fewer are faster and rougher
    ground_steps: int = 100  # optimiser steps once people stand on the shared floor
    use_silhouette: bool = True  # let masks pull on pose and shape, so that heavy people are heavy
    boxes: str = ""  # "x0,y0,x1,y1;x0,y0,x1,y1" in pixels of the working photo: only these people
    multihmr: str = ""  # file of the Multi-HMR checkpoint
    multihmr_score: float = 0.3  # 0..1, from which on a patch holds a head
    smplx: str = ""  # SMPLX_NEUTRAL.npz or its folder, from which Multi-HMR's people get their size
    vitpose: str = ""  # folder of a ViTPose model as transformers saves it
    detector: str = ""  # folder of an RT-DETR model as transformers saves it
    detector_score: float = 0.4  # 0..1, from which on a box is a person
    command: str = ""  # "python my_estimator.py {photo} {out}" for stage "command"
    command_seconds: float = 1800.0  # after which the command is given up
    results: str = ""  # file or folder that an estimator wrote, for stage "results"
    program: str = ""  # which program made them, as in `crowdgaussian weights list`; its licence


# Which network files the people stages read

_DEFAULT = "keypoint_fit"
_BOTH = "vitpose rt-detr"  # both networks of one stage are fetched by one command
_MULTIHMR = Need(
    "people",
    "multihmr",
    "people.multihmr",
    ("multihmr-896-l", "multihmr-672-l", "multihmr-672-b", "multihmr-672-s"),
    _DEFAULT,
)
_SMPLX = Need("people", "multihmr", "people.smplx", ("smplx",), _DEFAULT)
_VITPOSE = Need("people", "vitpose", "people.vitpose", ("vitpose",), _DEFAULT, _BOTH)
_DETECTOR = Need("people", "vitpose", "people.detector", ("rt-detr",), _DEFAULT, _BOTH)


def multihmr_file(config: PeopleConfig) -> Path:
    """The Multi-HMR checkpoint.

    Raises:
        MissingFileError: it is not on this machine.
    """
    return locate(config.multihmr, _MULTIHMR)


def smplx_file(config: PeopleConfig) -> Path | None:
    """SMPLX_NEUTRAL.npz, None where there is none and none is asked for.

    Raises:
        MissingFileError: the setting names a file that is not there.
    """
    return locate(config.smplx, _SMPLX) if config.smplx else local_path("smplx")


def vitpose_folder(config: PeopleConfig) -> Path:
    """The keypoint network.

    Raises:
        MissingFileError: it is not on this machine.
    """
    return locate(config.vitpose, _VITPOSE)


def detector_folder(config: PeopleConfig) -> Path:
    """The detector.

    Raises:
        MissingFileError: it is not on this machine.
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
        return ModelProvenance(
            name=self.name,
            version="",
            file="",
            blake2b="",
            licence=self.licence,
            commercial=self.commercial,
            stage="people",
        )


def other_program(config: PeopleConfig) -> list[OtherProgram]:
    """Whose licence people from elsewhere carry; unless it is told, none that allows sales.

    Raises:
        SettingError: the program is not in the table of models.
    """
    if not config.program:
        return [OtherProgram("another program", "not told (people.program)", False)]
    entry = TABLE.get(config.program)
    if entry is None:
        raise SettingError(
            f"people.program is '{config.program}', which `crowdgaussian weights list` does not "
            "have; use a name from there, or leave it empty."
        )
    return [OtherProgram(entry.name, entry.licence, entry.commercial)]
