# SPDX-License-Identifier: Apache-2.0
"""Drawn people: body candidates and detections whose truth is known."""

import cv2
import numpy as np
from crowdgaussian.people.detect.landmark_net import Roi, apply, invert, patch_to_photo
from crowdgaussian.people.detect.tta import MASK_SIDE, Body

# A standing figure of height 1 around its middle; x right, y down.
_FIGURE = {
    0: (0, -0.42),
    7: (0.03, -0.43),
    8: (-0.03, -0.43),
    11: (0.1, -0.3),
    12: (-0.1, -0.3),
    13: (0.14, -0.14),
    14: (-0.14, -0.14),
    15: (0.15, 0.0),
    16: (-0.15, 0.0),
    17: (0.15, 0.04),
    18: (-0.15, 0.04),
    19: (0.15, 0.05),
    20: (-0.15, 0.05),
    21: (0.14, 0.03),
    22: (-0.14, 0.03),
    23: (0.06, 0.02),
    24: (-0.06, 0.02),
    25: (0.06, 0.24),
    26: (-0.06, 0.24),
    27: (0.06, 0.45),
    28: (-0.06, 0.45),
    29: (0.06, 0.48),
    30: (-0.06, 0.48),
    31: (0.08, 0.5),
    32: (-0.08, 0.5),
}
_DRAWN = (
    (11, 12),
    (11, 13),
    (13, 15),
    (12, 14),
    (14, 16),
    (23, 25),
    (25, 27),
    (24, 26),
    (26, 28),
    (11, 23),
    (12, 24),
    (23, 24),
    (0, 11),
    (0, 12),
)


def figure(center, height: float, arms_up: bool = False) -> np.ndarray:
    """Landmarks of a standing figure in photo pixels.  # [33, 2]"""
    xy = np.array([_FIGURE.get(k, _FIGURE[0]) for k in range(33)], dtype=float)
    if arms_up:
        arms = [13, 14, 15, 16, 17, 18, 19, 20, 21, 22]
        xy[arms, 1] = -0.6 - xy[arms, 1]
    return xy * height + np.asarray(center, dtype=float)


def body(
    xy: np.ndarray,
    size: float,
    confidence: float = 0.95,
    spread: float = 0.005,
    drawn: slice | None = None,
) -> Body:
    """A body candidate with the mask of its own limbs, or of some of them."""
    frame = patch_to_photo(
        Roi(xy[[11, 12, 27, 28]].mean(axis=0), 1.25 * 1.25 * size), side=MASK_SIDE
    )
    mask = np.zeros((MASK_SIDE, MASK_SIDE), np.float32)
    limbs = _DRAWN[drawn] if drawn else _DRAWN
    place = np.round(apply(invert(frame), xy)).astype(int)
    for a, b in limbs:
        cv2.line(mask, place[a].tolist(), place[b].tolist(), 1.0, 22)
    return Body(
        xy=xy,
        confidence=np.full(33, confidence),
        world=np.zeros((33, 3)),
        spread=np.full(33, spread),
        mask=mask,
        mask_to_photo=frame,
        roi=Roi(xy[[23, 24]].mean(axis=0), 1.25 * size),
        agreeing=1.0,
        detector_score=0.9,
    )
