# SPDX-License-Identifier: Apache-2.0
"""Shares the pixels that several people claim."""

import numpy as np


class Claims:
    """Who has each pixel, as people claim windows of the photo one after the other.

    Where two people claim a pixel, the nearer fitted body has it if both bodies project there
    and the two soft masks are about equally sure; else the surer soft mask has it.
    """

    def __init__(self, shape: tuple[int, int], depth_margin: float) -> None:
        """shape: height and width; depth_margin: closer soft values are settled by depth."""
        self.owner = np.full(shape, -1, np.int16)
        self.depth_margin = depth_margin
        self._soft = np.zeros(shape, np.float32)
        self._depth = np.full(shape, np.inf, np.float32)

    def claim(self, index: int, soft: np.ndarray, depth: np.ndarray,
              window: tuple[slice, slice] = (slice(None), slice(None))) -> None:
        """One person's claim.

        Args:
            index: of the person.
            soft: [h, w] float32 0..1 in the window; above 0.5 is a claim.
            depth: [h, w] metres of the person's body there, inf where it is not.
            window: rows and columns of the photo.
        """
        owner, best, nearest = (part[window] for part in (self.owner, self._soft, self._depth))
        both_bodies = np.isfinite(depth) & np.isfinite(nearest)
        unsure = np.abs(soft - best) < self.depth_margin
        better = np.where(both_bodies & unsure, depth < nearest, soft > best)
        take = (soft > 0.5) & ((owner < 0) | better)
        owner[take] = index
        best[take] = soft[take]
        nearest[take] = depth[take]


def resolve(soft: list[np.ndarray], depths: list[np.ndarray],
            depth_margin: float) -> list[np.ndarray]:
    """Gives each pixel to one person at most, as Claims does.

    Args:
        soft: one map per person, [H, W] float32 0..1; above 0.5 is a claim.
        depths: one z-buffer per person, [H, W] metres, inf where the body is not.
        depth_margin: soft values that differ by less are settled by depth.

    Returns:
        One visible mask per person, [H, W] bool; no two share a pixel.
    """
    if not soft:
        return []
    claims = Claims(soft[0].shape, depth_margin)
    for index, (values, depth) in enumerate(zip(soft, depths, strict=True)):
        claims.claim(index, values, depth)
    return [claims.owner == index for index in range(len(soft))]
