# SPDX-License-Identifier: Apache-2.0
"""What the masks stage hands on, and the view of the crowd that later stages share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from crowdgaussian_shared.geometry.skeleton import FACE_JOINTS, JOINT_INDEX

from ..core.progress import Report
from ..people.types import Crowd, Person
from ..weights.local import Need, UsedFile, locate, used_file


@dataclass(frozen=True)
class PersonMask:
    """What is seen of one person, and what would be seen with nobody in front."""

    visible: np.ndarray  # [H, W] bool: pixels that show this person; masks never overlap
    amodal: np.ndarray  # [H, W] bool: silhouette as if nothing hid the person (visible included)
    occlusion: float  # 1 - area(visible) / area(amodal), 0..1


HEAD_JOINTS = tuple(JOINT_INDEX[name] for name in ("neck", "head", *FACE_JOINTS))


@dataclass(frozen=True)
class BodyLayer:
    """One body alone in the photo."""

    depth: np.ndarray  # [H, W] float32, metres along the view direction, inf where empty
    part: np.ndarray  # [H, W] int8, joint of the body there, -1 where empty
    height_px: float  # how tall the body is in the photo, the longer side of its box

    @property
    def silhouette(self) -> np.ndarray:
        return np.isfinite(self.depth)

    @property
    def head(self) -> np.ndarray:
        """Pixels of the head and neck.  # [H, W] bool"""
        return np.isin(self.part, HEAD_JOINTS)


@dataclass(frozen=True)
class CrowdView:
    """A photo, who is in it, and where: what appearance and refinement work from."""

    photo: np.ndarray  # [H, W, 3] uint8 sRGB
    crowd: Crowd  # everybody, with the photo's camera
    masks: list[PersonMask]  # one each, in the order of crowd.people

    def __len__(self) -> int:
        """How many people there are."""
        return len(self.crowd.people)

    def person(self, index: int) -> Person:
        """One person's fit."""
        return self.crowd.people[index]

    def mask(self, index: int) -> PersonMask:
        """One person's masks."""
        return self.masks[index]


class Segmenter(Protocol):
    """Photo and people -> one mask each, in the order of crowd.people."""

    def segment(self, photo: np.ndarray, crowd: Crowd, report: Report) -> list[PersonMask]: ...


# Settings of the masks stages. Lengths are fractions of the person's height in the photo


@dataclass(frozen=True)
class SegmentConfig:
    """How soft masks become sharp masks that share no pixel with a neighbour."""

    crop_margin: float = 0.12  # around what body, box and soft mask cover
    max_crop_px: int = 720  # longest side of the crop that edges are refined on
    grabcut_iterations: int = 3  # 0 leaves the edges to the guided filter alone
    band: float = 0.018  # half width of the zone around the soft edge that the photo decides
    hair_band: float = 0.045  # the same around the head, where hair leaves the body
    reach: float = 0.09  # a mask further than this from the body is somebody else's
    hair_reach: float = 0.22  # the same around the head
    guided_radius: float = 0.006
    guided_epsilon: float = 4e-4  # of a guide in 0..1: smaller keeps finer edges
    depth_margin: float = 0.45  # soft masks that differ by less are settled by depth
    min_component: float = 0.03  # of the mask's area, for a part without a keypoint
    max_hole: float = 0.004  # of the mask's area
    smooth: float = 0.004  # opening and closing radius
    min_confidence: float = 0.5  # of a keypoint that keeps its part of the mask
    sam: str = ""  # .pth of segment-anything or folder of SAM 2.1 or 3; empty: the installed one


# Which network files the masks stages read

_SAM = Need(
    "segment",
    "sam",
    "segment.sam",
    (
        "sam2.1-large",
        "sam3",
        "sam-vit-h",
        "sam2.1-base-plus",
        "sam-vit-l",
        "sam2.1-small",
        "sam2.1-tiny",
        "sam-vit-b",
    ),
    "silhouettes",
)


def sam_needs(_config: SegmentConfig) -> tuple[Need, ...]:
    """What the stage "sam" wants of the catalogue."""
    return (_SAM,)


def sam_path(config: SegmentConfig) -> Path:
    """The .pth file or the folder of SAM.

    Raises:
        MissingFileError: none is on this machine.
    """
    return locate(config.sam, _SAM)


def sam_files(config: SegmentConfig) -> list[UsedFile]:
    """Every file that the stage "sam" reads."""
    return [used_file(config.sam, _SAM)]
