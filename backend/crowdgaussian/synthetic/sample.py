# SPDX-License-Identifier: Apache-2.0
"""Read the ground truth of the bundled sample."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from crowdgaussian_shared.geometry.avatar import BodyParams, HoldsBodyParams
from crowdgaussian_shared.geometry.camera import Camera
from PIL import Image

FOLDER = Path(__file__).with_name("sample_data")


@dataclass(frozen=True)
class TruePerson(HoldsBodyParams):
    """One person of the sample: its body lies in the scene frame."""

    name: str
    params: BodyParams  # float64
    joints: np.ndarray  # [55, 3] metres, scene frame
    joints_px: np.ndarray  # [55, 2] photo pixels
    depth: float  # metres of the pelvis along the camera's axis
    visible_fraction: float  # seen pixels / pixels of the whole silhouette, clothes and hair too


@dataclass(frozen=True)
class GroundTruth:
    """The sample's camera, people (in no particular order) and masks."""

    camera: Camera
    people: tuple[TruePerson, ...]
    visible: np.ndarray  # [P, H, W] bool, disjoint, clothes and hair included
    amodal: np.ndarray  # [P, H, W] bool, as if nobody stood in front


def sample_photo() -> Path:
    """Path of the bundled photo."""
    return FOLDER / "sample.jpg"


def load_ground_truth(folder: Path = FOLDER) -> GroundTruth:
    """Read ground_truth.json, masks.png and amodal.png."""
    document = json.loads((folder / "ground_truth.json").read_text(encoding="utf-8"))
    camera = document["camera"]
    ids = np.asarray(Image.open(folder / "masks.png"))
    bits = np.asarray(Image.open(folder / "amodal.png"))
    people = tuple(_read_person(person) for person in document["people"])
    return GroundTruth(
        camera=Camera(
            np.array(camera["K"]), np.array(camera["viewmat"]), camera["width"], camera["height"]
        ),
        people=people,
        visible=np.stack([ids == k + 1 for k in range(len(people))]),
        amodal=np.stack([(bits >> k & 1).astype(bool) for k in range(len(people))]),
    )


def _read_person(person: dict) -> TruePerson:
    arrays = {
        name: np.array(person[name], dtype=np.float64)
        for name in ("betas", "pose", "transl", "joints", "joints_px")
    }
    params = BodyParams(arrays["betas"], arrays["pose"], arrays["transl"], person["scale"])
    return TruePerson(
        name=person["name"],
        params=params,
        joints=arrays["joints"],
        joints_px=arrays["joints_px"],
        depth=person["depth"],
        visible_fraction=person["visible_fraction"],
    )


# The bundled sample picture and what is true about it. Made by scripts/render_sample.py

__all__ = ["GroundTruth", "TruePerson", "load_ground_truth", "sample_photo"]
