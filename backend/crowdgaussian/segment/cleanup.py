# SPDX-License-Identifier: Apache-2.0
"""Removes specks and holes from a mask, but keeps the parts an occluder cut a body into."""

import cv2
import numpy as np


def disc(radius: float) -> np.ndarray:
    """A round structuring element of the given radius in pixels."""
    size = 2 * max(int(round(radius)), 0) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))


def clean(mask: np.ndarray, keypoints: np.ndarray, smooth_px: float, min_component: float,
          max_hole: float) -> np.ndarray:
    """Smooths a mask, drops parts that are small and hold no keypoint, fills small holes.

    Args:
        mask: [H, W] bool.
        keypoints: [N, 2] pixels of the person's trusted keypoints.
        smooth_px: radius of the opening and closing.
        min_component: a part without a keypoint must have this share of the largest part.
        max_hole: holes up to this share of the mask are filled.

    Returns:
        [H, W] bool.
    """
    smoothed = mask.astype(np.uint8)
    if round(smooth_px) >= 1:
        smoothed = cv2.morphologyEx(smoothed, cv2.MORPH_CLOSE, disc(smooth_px))
        opened = cv2.morphologyEx(smoothed, cv2.MORPH_OPEN, disc(smooth_px))
        smoothed = opened if opened.any() else smoothed
    return fill_holes(drop_specks(smoothed > 0, keypoints, min_component), max_hole)


def drop_specks(mask: np.ndarray, keypoints: np.ndarray, min_component: float) -> np.ndarray:
    """Keeps the largest part, parts with a keypoint, and parts that are not small."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count <= 2:
        return mask
    areas = stats[:, cv2.CC_STAT_AREA].astype(np.float64)
    areas[0] = 0
    keep = areas >= min_component * areas.max()
    inside = ((keypoints >= 0) & (keypoints < (mask.shape[1], mask.shape[0]))).all(1)
    columns, rows = np.floor(keypoints[inside]).astype(int).T
    keep[labels[rows, columns]] = True
    keep[0] = False
    return keep[labels]


def fill_holes(mask: np.ndarray, max_hole: float) -> np.ndarray:
    """Fills background parts that touch no border and are small against the mask."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats((~mask).astype(np.uint8),
                                                               connectivity=4)
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    fill = stats[:, cv2.CC_STAT_AREA] <= max_hole * mask.sum()
    fill[0] = False
    fill[np.unique(border)] = False
    return mask | fill[labels] if count > 1 else mask
