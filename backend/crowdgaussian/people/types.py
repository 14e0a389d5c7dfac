# SPDX-License-Identifier: Apache-2.0
"""What the people stage hands on: who is in the photo, how they stand, and their camera."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from crowdgaussian_shared.geometry.avatar import BodyParams, HoldsBodyParams
from crowdgaussian_shared.geometry.camera import Camera
from crowdgaussian_shared.scene.schema import CORRECTED, FocalSource

from ..core.progress import Report


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
