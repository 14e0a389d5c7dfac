# SPDX-License-Identifier: Apache-2.0
"""Compiled kernel: the z-buffer of a triangle mesh."""

import math
from typing import Any

import numpy as np
from numba import njit

OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy"}


@njit(**OPTIONS)
def _span(low, high, first, end):
    """Pixels of first..end whose centres lie in low..high."""
    return (
        max(first, math.ceil(min(max(low, -1.0), 1e6) - 0.5)),
        min(end, math.floor(min(max(high, -1.0), 1e6) - 0.5) + 1),
    )


@njit(**OPTIONS)
def _edges(points, face):
    """Twice the area of a projected triangle and the slopes of its barycentric coordinates."""
    ax, ay, az = points[face[0], 0], points[face[0], 1], points[face[0], 2]
    bx, by, bz = points[face[1], 0], points[face[1], 1], points[face[1], 2]
    cx, cy, cz = points[face[2], 0], points[face[2], 1], points[face[2], 2]
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    return area, (ax, ay, az), (bx, by, bz), (cx, cy, cz)


@njit(**OPTIONS)
def _draw_face(points, faces, f, rows, outputs):
    depth, index, bary = outputs
    area, a, b, c = _edges(points, faces[f])
    if not abs(area) > 1e-12:
        return
    y0, y1 = _span(min(a[1], b[1], c[1]), max(a[1], b[1], c[1]), rows[0], rows[1])
    x0, x1 = _span(min(a[0], b[0], c[0]), max(a[0], b[0], c[0]), 0, depth.shape[1])
    for y in range(y0, y1):
        for x in range(x0, x1):
            px, py = x + 0.5, y + 0.5
            u = ((b[0] - px) * (c[1] - py) - (b[1] - py) * (c[0] - px)) / area
            v = ((c[0] - px) * (a[1] - py) - (c[1] - py) * (a[0] - px)) / area
            w = 1.0 - u - v
            if u < -1e-9 or v < -1e-9 or w < -1e-9:
                continue
            z = 1.0 / (u / a[2] + v / b[2] + w / c[2])
            if z < depth[y, x]:
                depth[y, x], index[y, x] = z, f
                bary[y, x, 0], bary[y, x, 1] = u * z / a[2], v * z / b[2]


@njit(**OPTIONS)
def draw_mesh(first_row, end_row, points, faces, near, outputs):
    """Draw the triangles into the rows first_row..end_row of a z-buffer.

    ``points`` [V, 3] float64 are pixel x, pixel y and depth; ``outputs`` = (depth [H, W] started
    at inf, face index [H, W] started at -1, first two perspective-correct barycentric coordinates
    [H, W, 2]). Faces that reach nearer than ``near`` are left out.
    """
    rows = (np.int64(first_row), np.int64(end_row))
    for f in range(len(faces)):
        nearest = min(points[faces[f, 0], 2], points[faces[f, 1], 2], points[faces[f, 2], 2])
        if nearest >= near:
            _draw_face(points, faces, f, rows, outputs)
