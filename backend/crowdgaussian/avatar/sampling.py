# SPDX-License-Identifier: Apache-2.0
"""Spreads points evenly over a surface, denser where asked."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from .geometry import face_normals

_CANDIDATES = 5  # per wanted point
_PACKING = 0.46  # share of the closest packing that random elimination reaches


@dataclass(frozen=True)
class SurfacePoints:
    """N points on a mesh."""

    face: np.ndarray  # [N] int64
    barycentric: np.ndarray  # [N, 3] float64, rows sum to 1
    spacing: np.ndarray  # [N] float64, metres to the next point, as planned

    def on(self, per_vertex: np.ndarray, faces: np.ndarray) -> np.ndarray:
        """Interpolates values [V, ...] of the vertices.  # [N, ...]"""
        return np.einsum("nk,nk...->n...", self.barycentric, per_vertex[faces[self.face]])


def sample_surface(vertices: np.ndarray, faces: np.ndarray, density: np.ndarray, count: int,
                   seed: int) -> SurfacePoints:
    """About count points, none closer to another than the local density allows.

    Random candidates are thinned to a maximal independent set: of two that are too close the one
    with the higher random rank stays (Luby 1986 on the graph of close pairs).

    Args:
        vertices: [V, 3] metres.
        faces: [F, 3].
        density: [F] relative number of points per area; 0 leaves a face bare.
        count: how many points are wanted.
        seed: of the random numbers.
    """
    rng = np.random.default_rng(seed)
    areas = 0.5 * np.linalg.norm(face_normals(vertices, faces), axis=1)
    mass = areas * density
    face, barycentric = _candidates(mass, count * _CANDIDATES, rng)
    points = np.einsum("nk,nkd->nd", barycentric, vertices[faces[face]])
    per_area = count * density / mass.sum()
    spacing = np.sqrt(2 / np.sqrt(3) / np.maximum(per_area, 1e-9))[face]
    keep = _thin(points, spacing * np.sqrt(_PACKING), rng)
    return SurfacePoints(face[keep], barycentric[keep], spacing[keep])


def _candidates(mass: np.ndarray, count: int,
                rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    total = np.cumsum(mass)
    places = (np.arange(count) + rng.random(count)) / count * total[-1]
    face = np.minimum(np.searchsorted(total, places), len(mass) - 1)
    u, v = np.sqrt(rng.random(count)), rng.random(count)
    return face, np.stack([1 - u, u * (1 - v), u * v], 1)


def _thin(points: np.ndarray, radius: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Indices of a maximal set of points further apart than the smaller of their radii."""
    distance, other = cKDTree(points).query(points, k=min(20, len(points)))
    mine = np.arange(len(points))[:, None]
    close = (distance < np.minimum(radius[:, None], radius[other])) & (other != mine)
    rank = rng.permutation(len(points))
    waiting, kept = np.ones(len(points), bool), np.zeros(len(points), bool)
    while waiting.any():
        rival = np.where(close & waiting[other], rank[other], -1).max(1)
        winners = waiting & (rank > rival)
        kept |= winners
        waiting &= ~winners
        beaten = other[winners][close[winners]]
        waiting[beaten] = False
        waiting &= ~(close & kept[other]).any(1)
    return np.flatnonzero(kept)
