# SPDX-License-Identifier: Apache-2.0
"""Colours for what the photo does not show: from the other side, then from nearby.

Every unseen Gaussian asks for seen ones of the same part of the body. The body's left-right
counterpart answers first; then the front answers for the back, because depth counts little; the
face answers only for the face, and the back of the head asks where hair grows.
"""

import numpy as np
from scipy.spatial import cKDTree

from .cloud import Cloud
from .regions import HEAD

_SURE = 0.5  # how well a Gaussian must be seen to lend its colour
_OTHER_SIDE = 0.03  # metres: a counterpart is as far as a neighbour at this distance
_OTHER_GROUP = 0.8  # metres: rather far away than from another part of the body
_FACE, _SCALP = 0.6, 0.5  # metres between face, scalp and the rest of the head
_DEPTH, _HEAD_DEPTH = 0.25, 0.6  # how much a distance from front to back counts
_LENDERS = 5
_ALIKE = 0.15  # distance of two sRGB colours that may be the same material


def fill_colours(cloud: Cloud, colours: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Colours of all Gaussians; seen ones keep theirs.  # [N, 3] sRGB

    Args:
        cloud: the bound Gaussians.
        colours: [N, 3], trusted as far as seen says.
        seen: [N] 0..1.
    """
    sure = (seen >= _SURE) & ~_skin_on_scalp(cloud, colours, seen)
    if not sure.any():
        return np.where(seen[:, None] > 0, colours, 0.5)
    lenders = np.concatenate([_places(cloud, cloud.means, 0.0)[sure],
                              _places(cloud, cloud.mirrored, _OTHER_SIDE)[sure]])
    lent = np.concatenate([colours[sure], colours[sure]])
    asking = np.flatnonzero(seen < 1)
    distance, index = cKDTree(lenders).query(_places(cloud, cloud.means, 0.0)[asking],
                                             k=min(_LENDERS, len(lenders)))
    distance, index = distance.reshape(len(asking), -1), index.reshape(len(asking), -1)
    width = distance[:, :1] * 0.06 + cloud.radius[asking, None]
    weights = np.exp(-0.5 * ((distance - distance[:, :1]) / width) ** 2)
    borrowed = (weights[..., None] * lent[index]).sum(1) / weights.sum(1, keepdims=True)
    filled = colours.copy()
    trust = np.clip(seen[asking, None] / _SURE, 0, 1)
    filled[asking] = trust * colours[asking] + (1 - trust) * borrowed
    return _without_seams(cloud, filled, seen)


def _skin_on_scalp(cloud: Cloud, colours: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Seen Gaussians at the hairline that show forehead: they must not lend it to the back.

    Hair is what the scalp shows away from the face; where it looks like the face (a bald head)
    nothing is held back.
    """
    scalp = (seen >= _SURE) & (cloud.scalp > 0.3)
    face = (seen >= _SURE) & (cloud.face > 0.8)
    held_back = np.zeros(len(cloud), bool)
    if scalp.sum() < 20 or face.sum() < 20:
        return held_back
    away, _ = cKDTree(cloud.means[cloud.face > 0.5]).query(cloud.means[scalp])
    hair = np.median(colours[scalp][away >= np.quantile(away, 0.6)], axis=0)
    skin = np.median(colours[face], axis=0)
    if np.linalg.norm(hair - skin) < _ALIKE:
        return held_back
    along = (colours[scalp] - hair) @ (skin - hair) / np.sum((skin - hair) ** 2)
    held_back[scalp] = along > 0.4
    return held_back


def _places(cloud: Cloud, means: np.ndarray, other_side: float) -> np.ndarray:
    """Where Gaussians stand for borrowing; distances between places are reluctance."""
    head = cloud.group == HEAD
    depth = means[:, 2] * np.where(head, _HEAD_DEPTH, _DEPTH)
    groups = _OTHER_GROUP / np.sqrt(2) * np.eye(6)[cloud.group]
    return np.column_stack([means[:, :2], depth, groups, _FACE * cloud.face,
                            _SCALP * cloud.scalp, np.full(len(means), other_side)])


def _without_seams(cloud: Cloud, colours: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Blurs borrowed colours a little, so that a change of lender leaves no hard line."""
    _, near = cKDTree(cloud.means).query(cloud.means, k=min(9, len(cloud)))
    blurred = colours.copy()
    for _ in range(2):
        blurred = 0.5 * blurred + 0.5 * blurred[near].mean(1)
    keep = np.clip(seen / _SURE, 0, 1)[:, None]
    return keep * colours + (1 - keep) * (0.6 * colours + 0.4 * blurred)
