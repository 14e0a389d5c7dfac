# SPDX-License-Identifier: Apache-2.0
"""Where on the body the face, the scalp, the hands and the other parts lie."""

from dataclasses import dataclass

import numpy as np
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX, PARTS, joint_parts
from scipy.spatial import cKDTree

from ..core.mesh import face_normals, vertex_normals
from .model import PosedBody

HEAD, TORSO, ARM, HAND, LEG, FOOT = range(len(PARTS))


@dataclass(frozen=True)
class Regions:
    """Per vertex of one person's body."""

    group: np.ndarray  # [V] int: HEAD (with the neck), TORSO, ARM, HAND, LEG, FOOT
    face: np.ndarray  # [V] float 0..1: the front of the face, without hair
    scalp: np.ndarray  # [V] float 0..1: where hair grows
    neck: np.ndarray  # [V] bool
    interior: np.ndarray  # [V] bool: eyeballs' backs and the mouth's inside


def find_regions(body, posed: PosedBody) -> Regions:
    """Regions from the skinning and from where the eyes are."""
    parts = np.asarray(body.parts, np.int64)
    group = joint_parts()[parts]
    neck = parts == JOINT_INDEX["neck"]
    face, scalp = _face_and_scalp(posed, (group == HEAD) & ~neck)
    behind = vertex_normals(posed.rest, posed.faces)[:, 2] < 0.2
    interior = np.asarray(body.interior, bool) | (np.asarray(body.eyes, bool) & behind)
    return Regions(group, face, scalp, neck, interior)


def _face_and_scalp(posed: PosedBody, head: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Soft masks; lengths are measured in distances between the eyes."""
    left, right = (posed.joints[JOINT_INDEX[f"{side}_eye_smplhf"]] for side in ("left", "right"))
    apart = max(float(np.linalg.norm(left - right)), 0.03)
    local = (posed.rest - 0.5 * (left + right)) / apart  # [V, 3]
    normals = vertex_normals(posed.rest, posed.faces)
    forward, height = local[:, 2], local[:, 1]
    front = ramp(forward, -0.75, -0.25) * ramp(normals[:, 2], -0.1, 0.25)
    below_hairline = ramp(-height, -1.15, -0.85)
    face = head * front * below_hairline
    hairline = 0.9 + 0.85 * np.minimum(forward, 0.0)  # falls towards the nape
    scalp = head * ramp(height - np.maximum(hairline, -1.3), -0.1, 0.15) * (1 - face)
    return face, scalp


def ramp(values: np.ndarray, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    """A smooth step from 0 at low to 1 at high."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


# Spreads points evenly over a surface, denser where asked

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


def sample_surface(
    vertices: np.ndarray, faces: np.ndarray, density: np.ndarray, count: int, seed: int
) -> SurfacePoints:
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


def _candidates(
    mass: np.ndarray, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
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
