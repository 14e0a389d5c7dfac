# SPDX-License-Identifier: Apache-2.0
"""How much speaks for a body: limbs on its mask, looks that agree, landmarks that are visible."""

import numpy as np

from .consensus import TORSO, Body
from .looking import apply, invert

# Limbs as pairs of landmarks; the torso is filled by its four sides and two diagonals.
LIMBS = np.array([
    (11, 12), (23, 24), (11, 23), (12, 24), (11, 24), (12, 23), (11, 13), (13, 15), (12, 14),
    (14, 16), (23, 25), (25, 27), (24, 26), (26, 28), (27, 31), (28, 32), (7, 11), (8, 12),
])


def limb_points(xy: np.ndarray, confidence: np.ndarray, step: int = 8) -> tuple:
    """Points along the limbs and how sure they are.  # [P, 2], [P]"""
    part = np.linspace(0, 1, step)[:, None, None]
    points = xy[LIMBS[:, 0]] * (1 - part) + xy[LIMBS[:, 1]] * part
    sure = np.minimum(confidence[LIMBS[:, 0]], confidence[LIMBS[:, 1]])
    return points.reshape(-1, 2), np.tile(sure, step)


def limbs_on_mask(points: np.ndarray, weight: np.ndarray, body: Body) -> float:
    """The weighted part of points [P, 2] (photo pixels) that lie on a body's mask."""
    place = np.floor(apply(invert(body.mask_to_photo), points)).astype(int)
    side = body.mask.shape[0]
    inside = ((place >= 0) & (place < side)).all(axis=1)
    place = np.clip(place, 0, side - 1)
    on = inside & (body.mask[place[:, 1], place[:, 0]] > 0.5)
    return float((weight * on).sum() / max(weight.sum(), 1e-9))


def body_score(body: Body) -> float:
    """How surely this is one real body, 0..1: a product, since each sign alone can fool.

    Hallucinated skeletons (patterns, legs taken for a person, faces in a crowd) move between
    crops, leave the mask, or have hardly any visible landmark.
    """
    points, weight = limb_points(body.xy, body.confidence)
    on_mask = limbs_on_mask(points, weight + 0.02, body)
    steady = float(np.exp(-np.average(body.spread, weights=body.confidence + 0.02) / 0.04))
    return float(on_mask * steady * body.agreeing**0.5 * body.confidence[TORSO].mean()
                 * body.confidence.mean()**0.5)
