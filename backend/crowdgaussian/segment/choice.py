# SPDX-License-Identifier: Apache-2.0
"""Which of a network's candidate masks is the person: the one that holds their keypoints."""

import numpy as np


def choose_mask(logits: np.ndarray, scores: np.ndarray, own: np.ndarray,
                others: np.ndarray) -> int:
    """The index of the best candidate.

    Its score is the network's own, times the part of the person's keypoints inside, minus the
    part of other people's keypoints inside.

    Args:
        logits: [M, h, w]; above 0 is inside.
        scores: [M] the network's guess of each mask's quality, 0..1.
        own: [N, 2] keypoints of the person, mask pixels.
        others: [K, 2] keypoints of other people, mask pixels.
    """
    return int(np.argmax([score * share_inside(mask, own, 1.0) - share_inside(mask, others, 0.0)
                          for mask, score in zip(logits, scores, strict=True)]))


def share_inside(logits: np.ndarray, points: np.ndarray, empty: float) -> float:
    """The part of points [N, 2] that lie where logits [h, w] are above 0; empty without points."""
    if not len(points):
        return empty
    height, width = logits.shape
    columns, rows = np.floor(points).astype(int).T
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    place = np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)
    return float((inside & (logits[place] > 0)).mean())
