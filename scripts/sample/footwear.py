# SPDX-License-Identifier: Apache-2.0
"""Shoes: cross sections of the unposed foot, wrapped tightly, thickened and given a flat sole."""

import numpy as np

from . import meshes
from .tailor import Piece, PosedBody, bind, skin_points

SLICES, SPOKES = 40, 40


def _wrap(flat: np.ndarray, spokes: np.ndarray) -> np.ndarray:
    """Radius along each spoke of the convex hull of 2D points about the origin."""
    support = (flat @ spokes.T).max(axis=0)  # support function h(direction)
    cosine = spokes @ spokes.T
    reach = np.where(cosine > 0.05, support[None] / np.maximum(cosine, 0.05), np.inf)
    return reach.min(axis=1)


def _sections(foot: np.ndarray, top: float, sole: float, wall: float) -> np.ndarray:
    """Rings from heel to toe around a foot that points along +z.  # [SLICES, SPOKES, 3]"""
    angle = 2 * np.pi * np.arange(SPOKES) / SPOKES
    spokes = np.stack([np.cos(angle), np.sin(angle)], 1)
    back, front = foot[:, 2].min(), foot[:, 2].max()
    rings = []
    for k in range(SLICES):
        z = back + 0.004 + (front - back - 0.008) * k / (SLICES - 1)
        slab = foot[np.abs(foot[:, 2] - z) < 0.016]
        middle = np.array(
            [
                (slab[:, 0].max() + slab[:, 0].min()) / 2,
                (foot[:, 1].min() + min(slab[:, 1].max(), top)) / 2,
            ]
        )
        radius = _wrap(slab[:, :2] - middle, spokes) + wall
        ring = middle + spokes * radius[:, None]
        rings.append(np.column_stack([ring, np.full(SPOKES, z)]))
    shape = np.array(rings)
    floor = foot[:, 1].min()
    shape[..., 1] = np.minimum(shape[..., 1], top)
    low = shape[..., 1] < floor + 0.012
    shape[low, 1] = floor - sole
    return shape


def shoe(
    body: PosedBody,
    side: str,
    look: dict,
    height: float = 0.035,
    sole: float = 0.014,
    wall: float = 0.005,
) -> Piece:
    """One shoe, its opening `height` metres above the ankle joint.

    uv: u along the foot, v = metres above the ground the shoe stands on.
    """
    sign = 1 if side == "left" else -1
    ankle = body.marks[f"{side}_ankle"]
    top = ankle[1] + height
    near = (body.rest[:, 0] * sign > 0) & (body.rest[:, 1] < top)
    rings = _sections(body.rest[near], top, sole, wall)
    ends = np.stack(
        [rings[0].mean(axis=0) - [0, 0, wall * 2], rings[-1].mean(axis=0) + [0, 0, wall * 1.5]]
    )
    ends[:, 1] = body.marks.floor + 0.012
    points = np.concatenate([rings.reshape(-1, 3), ends])
    faces = _tube_faces()
    base = points.copy()
    points = meshes.smooth(points, faces, 3)
    bottom = base[:, 1] < body.marks.floor - sole + 1e-6
    points[bottom, 1] = body.marks.floor - sole
    points[:, 1] = np.maximum(points[:, 1], body.marks.floor - sole)
    posed = skin_points(points, bind(points, body), body.transforms)
    span = points[:, 2].max() - points[:, 2].min()
    uv = np.stack(
        [(points[:, 2] - points[:, 2].min()) / span, points[:, 1] - body.marks.floor + sole], 1
    )
    return Piece(f"{side}_shoe", posed, faces, uv[faces], look)


def _tube_faces() -> np.ndarray:
    ring = np.arange(SLICES - 1)[:, None] * SPOKES
    a = (ring + np.arange(SPOKES)).ravel()
    b = (ring + (np.arange(SPOKES) + 1) % SPOKES).ravel()
    c, d = a + SPOKES, b + SPOKES
    heel, toe = SLICES * SPOKES, SLICES * SPOKES + 1
    first = np.arange(SPOKES)
    second = (first + 1) % SPOKES
    last = (SLICES - 1) * SPOKES
    return np.concatenate(
        [
            np.stack([a, b, c], 1),
            np.stack([b, d, c], 1),
            np.stack([np.full(SPOKES, heel), second, first], 1),
            np.stack([np.full(SPOKES, toe), first + last, second + last], 1),
        ]
    )
