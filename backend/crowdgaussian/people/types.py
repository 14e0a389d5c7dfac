# SPDX-License-Identifier: Apache-2.0
"""Who is in the photo, how they stand, their camera; and the options of the people stages."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from crowdgaussian_shared.errors import SettingError
from crowdgaussian_shared.geometry.avatar import BodyParams, HoldsBodyParams
from crowdgaussian_shared.geometry.camera import Camera
from crowdgaussian_shared.scene.schema import CORRECTED, FocalSource, ModelProvenance

from ..core.progress import Report
from ..weights import CATALOGUE, POSE_DETECTOR, WeightFile
from ..weights.local import Need, UsedFile, local_path, locate, used_file
from ..weights.table import TABLE


@dataclass(frozen=True)
class Keypoints:
    """The 33 landmarks of MediaPipe's pose model for one person (subject's own left and right)."""

    xy: np.ndarray  # [33, 2] float32, photo pixels; may lie outside the photo
    confidence: np.ndarray  # [33] float32, 0..1
    world: np.ndarray  # [33, 3] float32, metres, OpenCV axes, origin mid-hip; zeros: not known


@dataclass(frozen=True)
class Person(HoldsBodyParams):
    """One fitted person. params put the body into the scene frame."""

    params: BodyParams  # float32
    keypoints: Keypoints
    box: np.ndarray  # [4] float32, x0 y0 x1 y1 photo pixels, around what is visible
    score: float  # 0..1 detection confidence
    person_mask: np.ndarray  # [H, W] uint8, 0..255, soft mask from the detector (not resolved)
    flags: tuple[str, ...] = ()  # of "small", "hidden", "cut", "airborne", "seated", "child"
    reprojection_px: float = 0.0  # robust mean keypoint error, photo pixels


@dataclass(frozen=True)
class Certainty:
    """How sure the shared camera and floor are; one standard deviation each."""

    standing: int = 0  # people whose feet and stature agree with the floor
    pitch_error: float = 0.0  # radians
    height_error: float = 0.0  # of the camera over the floor, relative
    focal_error: float = 0.0  # relative; 0 when the focal length was given


@dataclass(frozen=True)
class Crowd:
    """Everybody in the photo in one scene frame: y up, ground at y = 0, camera above the origin.

    The camera sits at (0, height, 0) and looks along -z, so somebody facing it has identity
    orientation.
    """

    people: tuple[Person, ...]  # left to right in the photo
    camera: Camera
    focal_source: FocalSource
    on_ground: tuple[bool, ...]  # whether each person's feet were put on the shared floor
    certainty: Certainty = Certainty()
    # [4] float32 each, x0 y0 x1 y1 photo pixels: faces of people who are probably missing here
    missed: tuple[np.ndarray, ...] = ()


class PeopleEstimator(Protocol):
    """Photo -> everybody in it."""

    def estimate(self, photo: np.ndarray, focal_px: float | None, report: Report) -> Crowd:
        """photo: [H, W, 3] uint8 sRGB; focal_px: focal length in pixels, None when unknown."""
        ...


# People whose bodies are known already, as the people stage hands them on


def person_from_parameters(params: BodyParams, mask: np.ndarray) -> Person:
    """A person without keypoints, whose body later stages take as it is.

    Args:
        params: of the body, in the scene frame.
        mask: [H, W] bool, where the photo shows the person.
    """
    none = Keypoints(
        np.zeros((33, 2), np.float32), np.zeros(33, np.float32), np.zeros((33, 3), np.float32)
    )
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1] if len(rows) else [0] * 4
    soft = mask.astype(np.uint8) * 255
    return Person(params, none, np.array(box, np.float32), 1.0, soft, (CORRECTED,))


# Which of the people has each pixel


class Claims:
    """Who has each pixel, as people claim windows of the photo one after the other.

    Where two people claim a pixel, the nearer fitted body has it if both bodies project there
    and the two soft masks are about equally sure; else the surer soft mask has it.
    """

    def __init__(self, shape: tuple[int, int], depth_margin: float) -> None:
        """shape: height and width; depth_margin: closer soft values are settled by depth."""
        self.owner = np.full(shape, -1, np.int16)
        self.depth_margin = depth_margin
        self._soft = np.zeros(shape, np.float32)
        self._depth = np.full(shape, np.inf, np.float32)

    def claim(
        self,
        index: int,
        soft: np.ndarray,
        depth: np.ndarray,
        window: tuple[slice, slice] = (slice(None), slice(None)),
    ) -> None:
        """One person's claim.

        Args:
            index: of the person.
            soft: [h, w] float32 0..1 in the window; above 0.5 is a claim.
            depth: [h, w] metres of the person's body there, inf where it is not.
            window: rows and columns of the photo.
        """
        owner, best, nearest = (part[window] for part in (self.owner, self._soft, self._depth))
        both_bodies = np.isfinite(depth) & np.isfinite(nearest)
        unsure = np.abs(soft - best) < self.depth_margin
        better = np.where(both_bodies & unsure, depth < nearest, soft > best)
        take = (soft > 0.5) & ((owner < 0) | better)
        owner[take] = index
        best[take] = soft[take]
        nearest[take] = depth[take]


# The options of the people stages


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
    vitpose: str = ""  # ViTPose: folder as transformers saves it, .pth file, or a name of `weights`
    second_look: bool = (
        True  # of "vitpose": MediaPipe tells depth, feet, hands; off: keypoints only
    )
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
_WHOLE_BODY = ("vitpose-wholebody-l", "vitpose-wholebody-b")  # not free, so never by themselves
_VITPOSE = Need("people", "vitpose", "people.vitpose", ("vitpose",), _DEFAULT, _BOTH, _WHOLE_BODY)
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


def vitpose_path(config: PeopleConfig) -> Path:
    """The keypoint network: a folder, or a .pth file as ViTPose's own code writes it.

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


def multihmr_needs(_config: PeopleConfig) -> tuple[Need, ...]:
    """What the stage "multihmr" wants of the catalogue."""
    return (_MULTIHMR,)


def vitpose_needs(config: PeopleConfig) -> tuple[Need, ...]:
    """What the stage "vitpose" wants of the catalogue; boxes of the user need no detector."""
    return (_VITPOSE,) if config.boxes else (_VITPOSE, _DETECTOR)


def multihmr_files(config: PeopleConfig) -> list[UsedFile]:
    """Every file that the stage "multihmr" reads."""
    files = [used_file(config.multihmr, _MULTIHMR)]
    smplx = smplx_file(config)
    return [*files, used_file(str(smplx), _SMPLX)] if smplx else files


def vitpose_files(config: PeopleConfig) -> list[WeightFile | UsedFile]:
    """Every file that the stage "vitpose" reads; boxes of the user need no detector."""
    files: list[WeightFile | UsedFile] = [used_file(config.vitpose, _VITPOSE)]
    if not config.boxes:
        files.append(used_file(config.detector, _DETECTOR))
    if config.second_look:
        files += [file for file in CATALOGUE[_DEFAULT] if file is not POSE_DETECTOR]
    return files


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
