# SPDX-License-Identifier: Apache-2.0
"""Skin weights made fit for plain linear blend skinning with four joints a vertex."""

import numpy as np
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX

_SMOOTHING = 4
# The upper arm takes hold of the trunk between these shares of the shoulder's distance.
_SHOULDER_FROM, _SHOULDER_TO = 0.3, 0.65


def neighbour_mean(values: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Mean over the vertices that share an edge.  # [V, D], [F, 3] -> [V, D]"""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = np.unique(np.sort(edges, axis=1), axis=0)
    total = np.zeros_like(values)
    count = np.zeros(len(values))
    for a, b in (edges.T, edges.T[::-1]):
        np.add.at(total, a, values[b])
        np.add.at(count, a, 1.0)
    return total / count[:, None]


def refine(
    weights: np.ndarray, vertices: np.ndarray, joints: np.ndarray, faces: np.ndarray
) -> np.ndarray:
    """Free the neck of the arms, smooth, and keep four weights without seams.

    Args:
        weights: [V, 55] rows sum to 1.
        vertices: [V, 3] A-pose.
        joints: [55, 3] A-pose.
        faces: [F, 3].

    Returns:
        [V, 55] rows sum to 1, at most four of each are not zero.
    """
    weights = _limit_shoulders(weights, vertices, joints)
    for _ in range(_SMOOTHING):
        weights = 0.5 * (weights + neighbour_mean(weights, faces))
    return keep_four(weights)


def _limit_shoulders(weights: np.ndarray, vertices: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """Hand the upper arms' pull on chest and neck to the collar bones."""
    limited = weights.copy()
    for side in ("left", "right"):
        shoulder, collar = JOINT_INDEX[f"{side}_shoulder"], JOINT_INDEX[f"{side}_collar"]
        reach = vertices[:, 0] / joints[shoulder, 0]
        share = ((reach - _SHOULDER_FROM) / (_SHOULDER_TO - _SHOULDER_FROM)).clip(0, 1)
        share = share * share * (3 - 2 * share)
        limited[:, collar] += weights[:, shoulder] * (1 - share)
        limited[:, shoulder] *= share
    return limited


def keep_four(weights: np.ndarray) -> np.ndarray:
    """Subtract each row's fifth largest weight, so that four are left and no seam appears."""
    fifth = np.sort(weights, axis=1)[:, -5][:, None]
    kept = (weights - fifth).clip(0)
    kept[kept < 1e-4 * kept.max(axis=1, keepdims=True)] = 0.0
    return kept / kept.sum(axis=1, keepdims=True)
