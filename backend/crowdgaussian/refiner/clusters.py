# SPDX-License-Identifier: Apache-2.0
"""Who is refined together: neighbours on the floor (DBSCAN), never so many that pixels starve."""

import numpy as np
from sklearn.cluster import DBSCAN


def find_clusters(roots: np.ndarray, reach: float, cap: int) -> list[list[int]]:
    """Groups of people, each nearest first from the group's middle; everybody is in one.

    DBSCAN (Ester et al. 1996) finds crowds of any form; one that is larger than the cap is cut
    across its longest direction until no part is.

    Args:
        roots: [P, 3] metres, the pelvises; their height does not count.
        reach: metres within which two people are neighbours.
        cap: most people of a cluster, at least 1.
    """
    floor = np.asarray(roots, np.float64)[:, [0, 2]]
    if not len(floor):
        return []
    labels = DBSCAN(eps=reach, min_samples=1).fit_predict(floor)
    clusters: list[list[int]] = []
    for label in range(labels.max() + 1):
        clusters += _cut(floor, np.flatnonzero(labels == label), max(cap, 1))
    return clusters


def _cut(floor: np.ndarray, members: np.ndarray, cap: int) -> list[list[int]]:
    if len(members) <= cap:
        return [members.tolist()]
    centred = floor[members] - floor[members].mean(axis=0)
    direction = np.linalg.eigh(centred.T @ centred)[1][:, -1]
    order = members[np.argsort(centred @ direction, kind="stable")]
    parts = -(-len(members) // cap)
    middle = round(len(members) * (parts // 2) / parts)
    return _cut(floor, order[:middle], cap) + _cut(floor, order[middle:], cap)
