# SPDX-License-Identifier: Apache-2.0
"""Region of interest: one turned, maybe mirrored square of a photo for the landmark network."""

from dataclasses import dataclass

import cv2
import numpy as np

from ...core.landmarks import MIRROR
from .landmark_net import PATCH, PoseNetwork

CIRCLE_SCALE = 1.25  # side of the region over the circle around the body; MediaPipe's own


@dataclass(frozen=True)
class Roi:
    """A turned square in the photo: where the landmark network looks."""

    center: np.ndarray  # [2] float64, pixels
    size: float  # side, pixels
    rotation: float = 0.0  # radians, clockwise in the picture

    def changed(self, grow: float = 1.0, turn: float = 0.0, shift: tuple = (0.0, 0.0)) -> "Roi":
        """This square grown by a factor, turned by radians, shifted by parts of its size."""
        return Roi(
            self.center + np.asarray(shift) * self.size, self.size * grow, self.rotation + turn
        )


@dataclass(frozen=True)
class LandmarkPrediction:
    """One run of the landmark network, told in photo pixels."""

    xy: np.ndarray  # [33, 2] float64, photo pixels
    confidence: np.ndarray  # [33] float64, 0..1
    world: np.ndarray  # [33, 3] float64, metres, OpenCV axes, origin mid-hip
    next_roi: Roi  # where the body is, as the network sees it
    mask: np.ndarray  # [PATCH, PATCH] float32, 0..1
    to_photo: np.ndarray  # [2, 3] float64, patch pixels -> photo pixels


class PhotoPyramid:
    """A photo and its halvings, so that a small patch of a large photo is not aliased."""

    def __init__(self, photo: np.ndarray) -> None:
        """photo: [H, W, 3] uint8 sRGB."""
        self.levels = [photo]
        while min(self.levels[-1].shape[:2]) >= 2 * PATCH:
            self.levels.append(cv2.pyrDown(self.levels[-1]))

    @property
    def size(self) -> np.ndarray:
        """Width and height of the photo.  # [2] float64"""
        height, width = self.levels[0].shape[:2]
        return np.array([width, height], dtype=np.float64)

    def patch(self, to_photo: np.ndarray, side: int) -> np.ndarray:
        """The square whose pixels lie at to_photo [2, 3] in the photo; black outside."""
        step = np.sqrt(abs(np.linalg.det(to_photo[:, :2])))
        level = int(np.clip(np.floor(np.log2(max(step, 1e-6))), 0, len(self.levels) - 1))
        matrix = _between_indices(to_photo) / 2.0**level
        return cv2.warpAffine(
            self.levels[level], matrix, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        )


def roi_from_points(hip: np.ndarray, crown: np.ndarray) -> Roi:
    """The square MediaPipe looks at (AlignmentPointsRectsCalculator, scaled by CIRCLE_SCALE)."""
    along = np.asarray(crown, dtype=np.float64) - hip
    return Roi(
        np.asarray(hip, dtype=np.float64),
        2 * CIRCLE_SCALE * float(np.linalg.norm(along)),
        float(np.arctan2(along[0], -along[1])),
    )


def patch_to_photo(roi: Roi, mirrored: bool = False, side: int = PATCH) -> np.ndarray:
    """The affine map from patch pixels to photo pixels.  # [2, 3] float64"""
    cos, sin = np.cos(roi.rotation), np.sin(roi.rotation)
    turn = np.array([[cos, -sin], [sin, cos]]) * (roi.size / side)
    if mirrored:
        turn = turn * [-1.0, 1.0]
    return np.column_stack([turn, roi.center - turn @ np.full(2, side / 2)])


def apply(affine: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points [..., 2] through an affine map [2, 3]."""
    return points @ affine[:, :2].T + affine[:, 2]


def compose(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """The affine map that does inner first, then outer.  # [2, 3]"""
    linear = outer[:, :2]
    return np.column_stack([linear @ inner[:, :2], linear @ inner[:, 2] + outer[:, 2]])


def invert(affine: np.ndarray) -> np.ndarray:
    """The inverse of an affine map [2, 3]."""
    inverse = np.linalg.inv(affine[:, :2])
    return np.column_stack([inverse, -inverse @ affine[:, 2]])


def predict_in_roi(
    network: PoseNetwork, photo: PhotoPyramid, roi: Roi, mirrored: bool = False
) -> LandmarkPrediction | None:
    """Runs the landmark network on one square; None when it sees nobody there."""
    to_photo = patch_to_photo(roi, mirrored)
    seen = network.predict(photo.patch(to_photo, PATCH))
    if seen is None:
        return None
    xy, confidence, world = apply(to_photo, seen.xy), seen.confidence, seen.world.copy()
    world[:, :2] = world[:, :2] @ (to_photo[:, :2] / (roi.size / PATCH)).T
    if mirrored:
        xy, confidence, world = xy[MIRROR], confidence[MIRROR], world[MIRROR]
    following = roi_from_points(apply(to_photo, seen.hip), apply(to_photo, seen.crown))
    return LandmarkPrediction(xy, confidence, world, following, seen.mask, to_photo)


def warp_mask(mask: np.ndarray, mask_to_target: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A mask resampled into a target frame of shape (height, width); 0 outside."""
    matrix = _between_indices(mask_to_target)
    return cv2.warpAffine(mask, matrix, (shape[1], shape[0]), flags=cv2.INTER_LINEAR)


def _between_indices(affine: np.ndarray) -> np.ndarray:
    """The map between pixel indices of a map between positions (centres at half integers)."""
    return np.column_stack([affine[:, :2], affine[:, 2] + 0.5 * affine[:, :2].sum(axis=1) - 0.5])
