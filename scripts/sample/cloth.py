# SPDX-License-Identifier: Apache-2.0
"""A small position-based cloth solver: garments fall, stretch little, fold, and stay off the body.

Position Based Dynamics after Mueller et al. 2007: damped Verlet steps, Gauss-Seidel projection of
edge lengths, and contacts against the nearest vertices of the body underneath.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy.spatial import cKDTree

from . import meshes


@dataclass(frozen=True)
class Fabric:
    """How a cloth behaves."""

    steps: int = 80
    sweeps: int = 12
    stretch: float = 0.9  # 0..1, share of the length error removed per sweep
    bend: float = 0.15  # the same for the distance across two triangles
    weight: float = 0.0004  # metres fallen in the first step; small, so that folds can settle
    friction: float = 0.6  # share of sliding lost in contact
    gap: float = 0.006  # metres kept between the cloth and the body


@njit(cache=True)
def _project(points, pairs, lengths, inverse_mass, stiffness):
    for k in range(len(pairs)):
        i, j = pairs[k]
        total = inverse_mass[i] + inverse_mass[j]
        if total == 0.0:
            continue
        dx = points[i, 0] - points[j, 0]
        dy = points[i, 1] - points[j, 1]
        dz = points[i, 2] - points[j, 2]
        length = np.sqrt(dx * dx + dy * dy + dz * dz) + 1e-9
        pull = stiffness * (length - lengths[k]) / (length * total)
        for c, d in enumerate((dx, dy, dz)):
            points[i, c] -= inverse_mass[i] * pull * d
            points[j, c] += inverse_mass[j] * pull * d


def _bend_pairs(faces: np.ndarray) -> np.ndarray:
    """The two vertices opposite every inner edge.  # [B, 2]"""
    sides = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    opposite = faces[:, [2, 0, 1]].ravel()
    order = np.lexsort(sides.T)
    sides, opposite = sides[order], opposite[order]
    twin = np.flatnonzero((sides[1:] == sides[:-1]).all(axis=1))
    return np.stack([opposite[twin], opposite[twin + 1]], 1)


def _push_out(points, before, contact, normals, fabric, inverse_mass):
    """Move points that are nearer than the gap outwards, and slow their sliding."""
    spots, nearest, distance = contact
    away = points - spots
    height = np.einsum("nc,nc->n", away, normals[nearest])
    touching = (height < fabric.gap) & (distance < 0.05) & (inverse_mass > 0)
    normal = normals[nearest[touching]]
    slide = points[touching] - before[touching]
    slide -= np.einsum("nc,nc->n", slide, normal)[:, None] * normal
    points[touching] += (fabric.gap - height[touching])[:, None] * normal - fabric.friction * slide
    return points


def drape(
    start: np.ndarray,
    pattern: np.ndarray,
    faces: np.ndarray,
    pinned: np.ndarray,
    collider: tuple[np.ndarray, np.ndarray],
    fabric: Fabric,
) -> np.ndarray:
    """Let a garment settle on a posed body.

    Args:
        start: [N, 3] posed garment, metres, y up.
        pattern: [N, 3] the same garment unposed; its edge lengths are the cloth's own.
        faces: [F, 3].
        pinned: [N] bool, vertices that stay where they are.
        collider: points [M, 3] and outward unit normals [M, 3] of what is underneath.
        fabric: the cloth.

    Returns:
        [N, 3] draped garment.
    """
    pairs, bends = meshes.edges_of(faces), _bend_pairs(faces)
    lengths, bend_lengths = (
        np.linalg.norm(pattern[p[:, 0]] - pattern[p[:, 1]], axis=1) for p in (pairs, bends)
    )
    inverse_mass = np.where(pinned, 0.0, 1.0)
    tree, normals = cKDTree(collider[0]), collider[1]
    points, velocity = start.astype(np.float64).copy(), np.zeros(start.shape)
    fall = np.array([0.0, -fabric.weight, 0.0])
    for step in range(fabric.steps):
        if step % 3 == 0:
            distance, nearest = tree.query(points)
            contact = (tree.data[nearest], nearest, distance)
        before = points.copy()
        points += (0.7 * velocity + fall) * inverse_mass[:, None]
        for _ in range(fabric.sweeps):
            _project(points, pairs, lengths, inverse_mass, fabric.stretch)
            _project(points, bends, bend_lengths, inverse_mass, fabric.bend)
        points = _push_out(points, before, contact, normals, fabric, inverse_mass)
        velocity = np.clip(points - before, -0.01, 0.01)
    return points
