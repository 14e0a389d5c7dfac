# SPDX-License-Identifier: Apache-2.0
"""Compiled kernels: order Gaussians by depth and list them per tile; add tile gradients up again.

A Gaussian that touches k tiles owns k consecutive slots. Tiles write gradients into slots, so no
two threads ever write to the same place and the sums do not depend on the number of threads.
"""

from typing import Any

import numpy as np
from numba import njit

from .blend import HEADER, TILE_HEIGHT, TILE_WIDTH

OPTIONS: dict[str, Any] = {
    "cache": True,
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract", "reassoc", "arcp", "nsz"},
}
RADIX_BITS = 11
RADIX = 1 << RADIX_BITS


@njit(**OPTIONS)
def _radix_pass(keys, order, shift, out):
    """One stable counting sort of ``order`` by 11 bits of the keys."""
    starts = np.zeros(RADIX + 1, np.int64)
    for n in order:
        starts[((keys[n] >> shift) & (RADIX - 1)) + 1] += 1
    for k in range(RADIX):
        starts[k + 1] += starts[k]
    for n in order:
        digit = (keys[n] >> shift) & (RADIX - 1)
        out[starts[digit]] = n
        starts[digit] += 1


@njit(**OPTIONS)
def depth_order(geo, boxes):
    """Indices of the drawn Gaussians, near to far; equal depths keep their order.  # [M] int32"""
    count = len(boxes)
    order = np.empty(count, np.int32)
    keys = np.empty(count, np.int64)
    depths = np.empty(count, np.float32)
    drawn = 0
    for n in range(count):
        depths[n] = geo[n, 6]
        if boxes[n, 1] > boxes[n, 0]:
            order[drawn] = n
            drawn += 1
    bits = depths.view(np.int32)  # depths are positive: their bits sort like the numbers
    for n in range(count):
        keys[n] = bits[n]
    order = order[:drawn].copy()
    spare = np.empty_like(order)
    for k in range(3):
        _radix_pass(keys, order, k * RADIX_BITS, spare)
        order, spare = spare, order
    return order


@njit(**OPTIONS)
def _tile_span(box, m):
    return (
        box[m, 0] // TILE_WIDTH,
        (box[m, 1] - 1) // TILE_WIDTH + 1,
        box[m, 2] // TILE_HEIGHT,
        (box[m, 3] - 1) // TILE_HEIGHT + 1,
    )


@njit(**OPTIONS)
def count_tiles(order, boxes, across, down):
    """Slots before each Gaussian [M + 1] and list entries before each tile [tiles + 1]."""
    slots = np.zeros(len(order) + 1, np.int64)
    offsets = np.zeros(across * down + 1, np.int64)
    for m in range(len(order)):
        x0, x1, y0, y1 = _tile_span(boxes, order[m])
        slots[m + 1] = slots[m] + (x1 - x0) * (y1 - y0)
        for y in range(y0, y1):
            for x in range(x0, x1):
                offsets[y * across + x + 1] += 1
    for t in range(across * down):
        offsets[t + 1] += offsets[t]
    return slots, offsets


@njit(**OPTIONS)
def fill_tiles(order, boxes, across, offsets, entries):
    """Write (rank, slot) of every tile's Gaussians, near to far, into entries [L, 2] int32."""
    cursor = offsets[:-1].copy()
    slot = 0
    for m in range(len(order)):
        x0, x1, y0, y1 = _tile_span(boxes, order[m])
        for y in range(y0, y1):
            for x in range(x0, x1):
                at = cursor[y * across + x]
                entries[at, 0], entries[at, 1] = m, slot
                cursor[y * across + x] = at + 1
                slot += 1


@njit(**OPTIONS)
def gather(start, stop, order, geo, boxes, channels, rows):
    """Pack what blending needs of ranks start..stop into rows [M, HEADER + D].

    ``channels`` is (colors [N, 3], features [N, F]); the depth is the fourth channel.
    """
    colors, features = channels
    for m in range(start, stop):
        n = order[m]
        for k in range(6):
            rows[m, k] = geo[n, k]
        rows[m, 6], rows[m, 7] = boxes[n, 2], boxes[n, 3]
        for k in range(3):
            rows[m, HEADER + k] = colors[n, k]
        rows[m, HEADER + 3] = geo[n, 6]
        for k in range(features.shape[1]):
            rows[m, HEADER + 4 + k] = features[n, k]


@njit(**OPTIONS)
def scatter(start, stop, order, slots, grads, outputs):
    """Add up the slots of ranks start..stop into (v_geo [N, 7], v_colors [N, 3], v_features)."""
    v_geo, v_colors, v_features = outputs
    total = np.empty(grads.shape[1], np.float32)
    for m in range(start, stop):
        total[:] = 0.0
        for slot in range(slots[m], slots[m + 1]):
            for k in range(len(total)):
                total[k] += grads[slot, k]
        n = order[m]
        for k in range(6):
            v_geo[n, k] = total[k]
        for k in range(3):
            v_colors[n, k] = total[6 + k]
        v_geo[n, 6] = total[9]
        for k in range(v_features.shape[1]):
            v_features[n, k] += total[10 + k]
