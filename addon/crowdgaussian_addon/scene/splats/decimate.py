# SPDX-License-Identifier: GPL-3.0-or-later
"""Fewer Gaussians that cover what all of them cover.

Gaussians are put in the order of a Morton curve, so that neighbours in space are mostly neighbours
in the list, and cut into groups. Of each group the one that covers most (opacity times area) stays,
grown in its plane until it covers what the group did, in the group's mean colour. So every region
keeps its share, which picking the largest overall would not give: faces and hands are made of many
small ones.
"""

from dataclasses import replace

import numpy as np
from crowdgaussian_shared.geometry.avatar import Gaussians

GROUP = 4  # Gaussians that become one
_MOST_GROWTH = 2.0  # of the standard deviations
_BITS = 10  # of each coordinate in the curve


def reduce_gaussians(gaussians: Gaussians) -> tuple[np.ndarray, Gaussians]:
    """A quarter of the Gaussians.

    Returns:
        [M] their indices in the given cloud, and the M changed Gaussians.
    """
    count = len(gaussians)
    order = np.argsort(_morton(gaussians.means), kind="stable")
    filler = -count % GROUP
    groups = np.concatenate([order, np.repeat(order[-1:], filler)]).reshape(-1, GROUP)
    cover = (gaussians.opacities * _area(gaussians.scales))[groups]  # [M, GROUP]
    if filler:
        cover[-1, GROUP - filler :] = 0.0
    best = cover.argmax(axis=1)
    rows = np.arange(len(groups))
    kept = groups[rows, best]
    total = np.maximum(cover.sum(axis=1), 1e-12)
    growth = np.sqrt(total / np.maximum(cover[rows, best], 1e-12)).clip(1.0, _MOST_GROWTH)
    sh = np.einsum("mg,mgkc->mkc", cover / total[:, None], gaussians.sh[groups])
    chosen = Gaussians(
        *(
            getattr(gaussians, name)[kept]
            for name in ("means", "quats", "scales", "opacities", "sh")
        )
    )
    return kept, replace(
        chosen, scales=_grow(chosen.scales, growth), sh=sh.astype(gaussians.sh.dtype)
    )


def _area(scales: np.ndarray) -> np.ndarray:
    """Product of the two larger standard deviations.  # [N, 3] -> [N]"""
    return np.sort(scales, axis=1)[:, 1:].prod(axis=1)


def _grow(scales: np.ndarray, growth: np.ndarray) -> np.ndarray:
    """The two larger axes grow; the thickness stays.  # [M, 3], [M] -> [M, 3]"""
    grown = scales * growth[:, None]
    rows, thin = np.arange(len(scales)), scales.argmin(axis=1)
    grown[rows, thin] = scales[rows, thin]
    return grown.astype(scales.dtype)


def _morton(points: np.ndarray) -> np.ndarray:
    """Place along a Morton curve through the cloud's cube.  # [N, 3] -> [N] int64"""
    low = points.min(axis=0) if len(points) else np.zeros(3)
    extent = max(float(np.ptp(points, axis=0).max()) if len(points) else 0.0, 1e-9)
    cells = ((points - low) / extent * (2**_BITS - 1)).astype(np.int64)
    code = np.zeros(len(points), np.int64)
    for bit in range(_BITS):
        for axis in range(3):
            code |= ((cells[:, axis] >> bit) & 1) << (3 * bit + axis)
    return code
