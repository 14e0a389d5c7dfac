# SPDX-License-Identifier: Apache-2.0
"""What scene.json holds, as frozen dataclasses; json.py turns them to JSON and back."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Literal, get_args

import numpy as np

from ..errors import DamagedFileError
from ..formats.atomic import read_error
from ..geometry.camera import Camera

SCENE_VERSION = 1  # raised when an older reader would misunderstand the file
MAX_PEOPLE = 1000
MAX_PIXELS = 1_000_000  # per side

LEFT_OUT = "left_out"  # flag of a person whom the user does not want
CORRECTED = "corrected"  # flag of a person whose pose is a user's: stages take it as it is

PersonState = Literal["queued", "fitted", "masked", "done", "failed"]
PERSON_STATES: tuple[PersonState, ...] = get_args(PersonState)
Refinement = Literal["", "refined", "kept", "failed"]
REFINEMENTS: tuple[Refinement, ...] = get_args(Refinement)
FocalSource = Literal["option", "exif", "people", "default"]
FOCAL_SOURCES: tuple[FocalSource, ...] = get_args(FocalSource)

MISSED = "missed"  # code of the warning about somebody who was probably not found


@dataclass(frozen=True)
class PhotoInfo:
    """The photo as it lies in the folder, upright (EXIF rotation applied)."""

    file: str  # relative, such as photo.jpg
    width: int  # pixels
    height: int  # pixels
    name: str = ""  # the user's file name, for display
    blake2b: str = ""  # hex digest of the file


@dataclass(frozen=True)
class CameraInfo:
    """The photo's camera in OpenCV axes and where its focal length came from."""

    K: np.ndarray  # [3, 3] float64, pixels
    viewmat: np.ndarray  # [4, 4] float64, scene frame -> camera frame
    width: int  # pixels
    height: int  # pixels
    focal_source: FocalSource = "default"
    focal_error: float = 0.0  # relative, one standard deviation; 0 when the focal length was given

    @classmethod
    def from_camera(
        cls, camera: Camera, focal_source: FocalSource = "default", focal_error: float = 0.0
    ) -> "CameraInfo":
        """Take over a Camera."""
        return cls(camera.K, camera.viewmat, camera.width, camera.height, focal_source, focal_error)

    def to_camera(self) -> Camera:
        """The camera for rendering."""
        return Camera(self.K, self.viewmat, self.width, self.height)


@dataclass(frozen=True)
class Ground:
    """The shared floor: the plane y = height of the scene frame."""

    height: float = 0.0  # metres
    spread: float = 0.0  # metres between the highest and lowest foot of those who stand
    standing: int = 0  # people whose feet and stature agree with the floor
    pitch_error: float = 0.0  # radians, one standard deviation of the camera's pitch
    height_error: float = 0.0  # the same for the camera's height over the floor, relative


@dataclass(frozen=True)
class SceneWarning:
    """Something in the result that is worth a look."""

    code: str  # MISSED, "floor" or "focal"; of a person "guessed", "height" or "floating"
    sentence: str  # what it is, and what to do about it
    box: tuple[float, float, float, float] | None = None  # x0 y0 x1 y1 of the face, when MISSED


@dataclass(frozen=True)
class PersonEntry:
    """How far one person is, and how well it went.

    States go queued -> fitted -> masked -> done; failed carries the error text and may come at any
    time. Files are relative to the scene folder and present only once they are whole.
    """

    state: PersonState = "queued"
    error: str = ""  # one sentence, when state is failed
    flags: tuple[str, ...] = ()  # "small", "hidden", "cut", "airborne", "seated", "child", or above
    box: tuple[float, float, float, float] | None = None  # x0 y0 x1 y1, photo pixels
    score: float = 1.0  # 0..1 detection confidence
    on_ground: bool = True
    occlusion: float = 0.0  # 1 - visible / amodal, 0..1
    gaussians: int = 0  # how many Gaussians the avatar has
    files: dict[str, str] = field(default_factory=dict)  # fit, avatar, splats, mask, amodal
    quality: dict[str, float] = field(default_factory=dict)  # iou, psnr, coverage, ...
    refinement: Refinement = ""  # "kept": the first avatar was the better one; "": not yet, or off
    refinement_note: str = ""  # one sentence, when kept or failed
    warnings: tuple[SceneWarning, ...] = ()

    @property
    def settled(self) -> bool:
        """Whether nothing is left to do: finished, or left out on request."""
        return LEFT_OUT in self.flags or (self.state == "done" and self.refinement != "failed")


@dataclass(frozen=True)
class ModelProvenance:
    """One model that had a hand in the result."""

    name: str
    version: str
    file: str  # file name only: the path is the user's own
    blake2b: str  # hex digest of the file, empty for a model without a file
    licence: str  # SPDX identifier or the licence's name
    commercial: bool  # whether the licence lets the result be used commercially
    stage: str = ""  # body, people, segment, avatar, refiner


@dataclass(frozen=True)
class SceneInfo:
    """Everything scene.json says."""

    photo: PhotoInfo
    camera: CameraInfo | None = None  # None until the people stage is done
    ground: Ground = Ground()
    body_model: str = "open"
    preset: str = "open"
    people: tuple[PersonEntry, ...] = ()  # left to right in the photo
    models: tuple[ModelProvenance, ...] = ()
    settings: dict[str, str | float | int | bool | None] = field(default_factory=dict)
    previews: tuple[str, ...] = ()  # relative paths
    warnings: tuple[SceneWarning, ...] = ()  # about the scene; those about people are theirs
    writer: str = ""  # program and version that wrote the folder
    version: int = SCENE_VERSION

    @property
    def commercial_use(self) -> bool:
        """Whether every model allows commercial use; False while no model is named."""
        return bool(self.models) and all(model.commercial for model in self.models)

    @property
    def checks(self) -> list[str]:
        """What is worth a look, in sentences: the scene, then each person who has not failed."""
        people = (
            one for person in self.people if person.state != "failed" for one in person.warnings
        )
        return [one.sentence for one in (*self.warnings, *people)]


def hash_file(path: str | Path) -> str:
    """BLAKE2b-256 of a file as hex, the hash used throughout for files and models.

    Raises:
        MissingFileError: there is no such file.
        ResourceError: it cannot be read.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=32)).hexdigest()
    except OSError as error:
        raise read_error(path, error) from error


def hash_bytes(data: bytes) -> str:
    """BLAKE2b-256 of bytes as hex."""
    return hashlib.blake2b(data, digest_size=32).hexdigest()


# Paths inside a scene folder: relative, forward slashes, never out of the folder


def check_relative(path: str, where: str) -> str:
    """Return the path if it stays inside its folder on every platform.

    Args:
        path: a relative path with forward slashes.
        where: the file and field it was read from, for the message.

    Raises:
        DamagedFileError: an absolute path, a drive, a `..`, a backslash or an empty path.
    """
    posix, windows = PurePosixPath(path), PureWindowsPath(path)
    outside = posix.is_absolute() or windows.drive or windows.root or ".." in posix.parts
    if outside or "\\" in path or "\0" in path or not posix.parts:
        raise DamagedFileError(f"{where} must be a relative path inside the scene folder.")
    return path


def resolve_inside(folder: Path, path: str, where: str) -> Path:
    """The full path of a relative one; links that lead out of the folder are refused too.

    Raises:
        DamagedFileError: the path leaves the folder.
    """
    full = folder / check_relative(path, where)
    if not full.resolve().is_relative_to(folder.resolve()):
        raise DamagedFileError(f"{where} leads out of the scene folder.")
    return full
