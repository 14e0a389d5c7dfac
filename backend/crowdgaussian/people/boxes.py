# SPDX-License-Identifier: Apache-2.0
"""Boxes around people: those that a user gives, and which of a detector's stay."""

import numpy as np
from crowdgaussian_shared.errors import CrowdGaussianError

from .config import PeopleConfig

_SAME = 0.8  # intersection over union from which two boxes are one person
_SURE = 0.6  # score from which a box tells how large the photo's people are
_LEAST = 8  # pixels a side


def read_boxes(text: str, shape: tuple[int, int]) -> np.ndarray:
    """The setting people.boxes.  # [P, 4] float64, cut to the photo

    Args:
        text: "x0,y0,x1,y1;x0,y0,x1,y1" in pixels of the working photo.
        shape: height and width of the photo.

    Raises:
        CrowdGaussianError: it is not a list of boxes, or a box lies outside the photo.
    """
    try:
        rows = [[float(value) for value in part.split(",")]
                for part in text.split(";") if part.strip()]
        boxes = np.array(rows).reshape(len(rows), 4)
    except ValueError as error:
        raise CrowdGaussianError(
            f"people.boxes is '{text}', which is no list of boxes; write x0,y0,x1,y1 for each "
            "and a semicolon between two.") from error
    size = np.array([shape[1], shape[0]], float)
    cut = np.clip(boxes, 0, np.tile(size, 2))
    small = ~((cut[:, 2:] - cut[:, :2]) >= _LEAST).all(axis=1)
    if small.any():
        raise CrowdGaussianError(
            f"Box {int(np.argmax(small)) + 1} of people.boxes has less than {_LEAST} pixels inside "
            f"the photo, which is {shape[1]} x {shape[0]}; give x0,y0,x1,y1 with x0 < x1, y0 < y1.")
    return cut


def choose_boxes(boxes: np.ndarray, scores: np.ndarray, config: PeopleConfig) -> np.ndarray:
    """Indices of the boxes [N, 4] that are people of the photo, the surest first.

    Doubles and people much smaller than the usual ones of this photo are left out.
    """
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] >= config.detector_score]
    if not len(order):
        return order
    heights = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    sure = order[scores[order] >= _SURE]
    usual = float(np.quantile(heights[sure if len(sure) else order], 0.7))
    kept: list[int] = []
    for index in order:
        large = heights[index] >= config.min_relative_size * usual
        if large and all(overlap(boxes[index], boxes[other]) < _SAME for other in kept):
            kept.append(int(index))
    return np.array(kept[:config.max_people], int)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes [4]."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = float(np.prod(np.clip(sides, 0, None)))
    both = float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - shared
    return shared / max(both, 1e-9)
