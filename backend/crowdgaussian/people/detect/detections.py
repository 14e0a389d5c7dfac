# SPDX-License-Identifier: Apache-2.0
"""A person in a photo as landmarks, a soft mask and a box; nothing three-dimensional yet."""

from dataclasses import dataclass

import numpy as np

from ...core.landmarks import ARMS, FEET, LEGS, Landmark
from ..types import Keypoints

_BODY = np.array([Landmark.NOSE, *ARMS, *LEGS, *FEET])  # landmarks that tell how much is seen
_SMALL = 150.0  # pixels of body height below which the network guesses more than it sees
OUTSIDE = 0.2  # of a landmark's confidence that counts outside the photo
_SEEN = 0.5  # confidence from which a landmark is seen
_HIDDEN_SHARE = 0.8  # of the body's landmarks: fewer seen ones flag a person "hidden"
_MASK = 0.5  # of a soft mask, from which a pixel is the person's
_BORDER = 0.01  # of the body's height: a box this near the photo's border is "cut"

# A person's left and right hand, each [21, 3] float32 in photo pixels with depth away from the
# camera, 0 at the wrist; None where none is seen.
Hands = tuple[np.ndarray | None, np.ndarray | None]


@dataclass(frozen=True)
class Detection:
    """One person as the photo shows them."""

    keypoints: Keypoints
    box: np.ndarray  # [4] float32, x0 y0 x1 y1 photo pixels, around what is visible
    score: float  # 0..1
    person_mask: np.ndarray  # [H, W] uint8, soft mask of the detector, not resolved
    size: float  # rough height of the whole body, pixels
    flags: tuple[str, ...]  # of "small", "hidden", "cut"
    head: np.ndarray | None = None  # [3, 3] how the head is turned, see faces.head_rotation
    hands: Hands = (None, None)  # left and right


def visible_box(xy: np.ndarray, confidence: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The box around a person's mask and sure landmarks, within the photo.  # [4] float32"""
    height, width = mask.shape
    rows, columns = (np.flatnonzero((mask > _MASK).any(axis=axis)) for axis in (1, 0))
    points = xy[confidence > _SEEN]
    if len(rows):
        corners = [[columns[0], rows[0]], [columns[-1] + 1, rows[-1] + 1]]
        points = np.concatenate([points, corners])
    if not len(points):
        points = xy
    points = np.clip(points, 0, [width, height])
    return np.concatenate([points.min(axis=0), points.max(axis=0)]).astype(np.float32)


def seen_share(confidence: np.ndarray) -> float:
    """How many of the body's landmarks are seen, 0..1.

    Args:
        confidence: [33] 0..1.
    """
    return float((confidence[_BODY] > _SEEN).mean())


def detection_flags(
    size: float, confidence: np.ndarray, box: np.ndarray, shape: tuple[int, int]
) -> tuple[str, ...]:
    """What makes a person hard: too few pixels, limbs not seen, the photo's border."""
    height, width = shape
    margin = _BORDER * size
    at_border = (
        box[0] <= margin
        or box[1] <= margin
        or box[2] >= width - margin
        or box[3] >= height - margin
    )
    return tuple(
        name
        for name, holds in (
            ("small", size < _SMALL),
            ("hidden", seen_share(confidence) < _HIDDEN_SHARE),
            ("cut", bool(at_border)),
        )
        if holds
    )
