# SPDX-License-Identifier: Apache-2.0
"""Shares the pixels that several people claim."""

import numpy as np


def resolve(soft: list[np.ndarray], depths: list[np.ndarray],
            depth_margin: float) -> list[np.ndarray]:
    """Gives each pixel to one person at most.

    Where two people claim a pixel, the nearer fitted body has it if both bodies project there
    and the two soft masks are about equally sure; else the surer soft mask has it.

    Args:
        soft: one map per person, [H, W] float32 0..1; above 0.5 is a claim.
        depths: one z-buffer per person, [H, W] metres, inf where the body is not.
        depth_margin: soft values that differ by less are settled by depth.

    Returns:
        One visible mask per person, [H, W] bool; no two share a pixel.
    """
    if not soft:
        return []
    owner = np.full(soft[0].shape, -1, np.int32)
    best_soft = np.zeros(soft[0].shape, np.float32)
    best_depth = np.full(soft[0].shape, np.inf, np.float32)
    for index, (values, depth) in enumerate(zip(soft, depths, strict=True)):
        both_bodies = np.isfinite(depth) & np.isfinite(best_depth)
        unsure = np.abs(values - best_soft) < depth_margin
        better = np.where(both_bodies & unsure, depth < best_depth, values > best_soft)
        take = (values > 0.5) & ((owner < 0) | better)
        owner[take] = index
        best_soft[take] = values[take]
        best_depth[take] = depth[take]
    return [owner == index for index in range(len(soft))]
