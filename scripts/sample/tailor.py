# SPDX-License-Identifier: Apache-2.0
"""Cut garments out of the body's surface, give them room, and drape them on the posed body."""

from dataclasses import dataclass, field

import numpy as np
from crowdgaussian.core.mesh import vertex_normals
from crowdgaussian_shared.geometry.skinning import blend_transforms, move_points
from scipy.spatial import cKDTree

from . import meshes
from .cloth import Fabric, drape
from .regions import Bottoms, Landmarks, Sock, Top, cloth_uv


@dataclass(frozen=True)
class PosedBody:
    """One person's body, unposed and posed, on the same vertices."""

    rest: np.ndarray  # [V, 3] metres, T-pose
    posed: np.ndarray  # [V, 3] metres, scene frame
    faces: np.ndarray  # [F, 3]
    weights: np.ndarray  # [V, 55]
    transforms: np.ndarray  # [55, 4, 4] rest -> posed
    marks: Landmarks

    def finer(self) -> "PosedBody":
        """The same body with every triangle split in four."""
        matrix, faces = meshes.midpoint_subdivide(self.faces, len(self.rest))
        rest, posed, weights = (matrix @ a for a in (self.rest, self.posed, self.weights))
        return PosedBody(rest, posed, faces, weights, self.transforms, self.marks)


@dataclass(frozen=True)
class Piece:
    """One rigid or draped thing a person wears, in the scene frame."""

    name: str
    vertices: np.ndarray  # [N, 3]
    faces: np.ndarray  # [F, 3]
    uv: np.ndarray  # [F, 3, 2]
    look: dict  # painter's and material's settings


def finished(piece: Piece, hem: float = 0.006) -> Piece:
    """Twice as fine, smoothed, and with its open edges turned inwards by `hem` metres."""
    matrix, faces = meshes.midpoint_subdivide(piece.faces, len(piece.vertices))
    vertices = meshes.smooth(matrix @ piece.vertices, faces, 2)
    a, b, c = piece.uv[:, 0], piece.uv[:, 1], piece.uv[:, 2]
    ab, bc, ca = (a + b) / 2, (b + c) / 2, (c + a) / 2
    uv = np.concatenate(
        [np.stack(t, 1) for t in ((a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca))]
    )
    sides = faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
    _, first, uses = np.unique(
        np.sort(sides, axis=1), axis=0, return_index=True, return_counts=True
    )
    open_sides = first[uses == 1]
    start, end = sides[open_sides].T
    inner = vertices - hem * vertex_normals(vertices, faces)
    count = len(vertices)
    rim = np.concatenate(
        [np.stack([end, start, start + count], 1), np.stack([end, start + count, end + count], 1)]
    )
    corner = uv.reshape(-1, 2)[open_sides]
    rim_uv = np.repeat(np.concatenate([corner, corner])[:, None], 3, axis=1)
    return Piece(
        piece.name,
        np.concatenate([vertices, inner]),
        np.concatenate([faces, rim]),
        np.concatenate([uv, rim_uv]),
        piece.look,
    )


@dataclass(frozen=True)
class Cut:
    """A garment: where it lies, how loose it is, what it is made of."""

    name: str
    region: Top | Bottoms | Sock
    look: dict
    ease: float = 0.012  # metres off the body
    tube: float = 0.0  # least radius of sleeves or trouser legs, metres
    fullness: float = 1.04  # cloth length over body length: more gives more folds
    pinned: float = 0.0  # metres below the upper hem that stay put (a waistband)
    fabric: Fabric = field(default_factory=Fabric)


def skin_points(points: np.ndarray, weights: np.ndarray, transforms: np.ndarray) -> np.ndarray:
    """Linear blend skinning.  # [N, 3], [N, 55], [55, 4, 4] -> [N, 3]"""
    every_joint = np.broadcast_to(np.arange(len(transforms)), weights.shape)
    return move_points(blend_transforms(every_joint, weights, transforms), points)


def bind(points: np.ndarray, body: PosedBody, neighbours: int = 6) -> np.ndarray:
    """Skin weights of points near the unposed body: those of its nearest vertices.  # [N, 55]"""
    distance, index = cKDTree(body.rest).query(points, k=neighbours)
    share = 1 / (distance + 0.005) ** 2
    weights = np.einsum("nk,nkj->nj", share, body.weights[index])
    return weights / weights.sum(axis=1, keepdims=True)


def _widen(points: np.ndarray, marks: Landmarks, radius: float) -> np.ndarray:
    """Push sleeves and trouser legs out to a least radius about the limb."""
    points = points.copy()
    for side, sign in (("left", 1), ("right", -1)):
        for upper, lower, axis in (("elbow", "wrist", 0), ("knee", "ankle", 1)):
            a, b = marks[f"{side}_{upper}"], marks[f"{side}_{lower}"]
            length = b[axis] - a[axis]
            share = (points[:, axis] - a[axis]) / length
            limb = (points[:, 0] * sign > 0) & (share > -0.6)
            centre = a + np.clip(share, -0.6, 1.2)[:, None] * (b - a)
            out = points - centre
            out[:, axis] = 0
            size = np.linalg.norm(out, axis=1)
            goal = radius * np.clip((share + 0.6) / 0.8, 0, 1)
            grow = np.maximum(goal / np.maximum(size, 1e-6), 1.0)
            near = limb & (size < 0.2)
            points[near] = (centre + out * grow[:, None])[near] + 0.0
            points[near, axis] = points[near, axis]
    return points


def sew(cut: Cut, body: PosedBody, collider: tuple[np.ndarray, np.ndarray]) -> Piece:
    """Make one garment: cut it from the finer body, offset, pose and drape it."""
    matrix, faces = meshes.clip(body.faces, cut.region.field(body.rest, body.marks))
    faces = meshes.largest_pieces(faces, matrix.shape[0], 200)
    matrix, faces = meshes.compact(matrix, faces)
    rest, weights = matrix @ body.rest, matrix @ body.weights
    weights = meshes.smooth(weights, faces, 6)
    edge = meshes.boundary_vertices(faces)
    shape = meshes.smooth(rest, faces, 6)
    shape[edge] = rest[edge]
    normals = meshes.smooth(vertex_normals(shape, faces), faces, 12)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    shape = shape + cut.ease * normals
    if cut.tube:
        shape = _widen(shape, body.marks, cut.tube)
    start = skin_points(shape, weights, body.transforms)
    top = shape[:, 1].max()
    pinned = shape[:, 1] > top - cut.pinned if cut.pinned else np.zeros(len(shape), bool)
    draped = drape(start, shape * cut.fullness, faces, pinned, collider, cut.fabric)
    return Piece(cut.name, draped, faces, cloth_uv(rest, faces, body.marks), cut.look)


@dataclass(frozen=True)
class Skirt:
    """A skirt hung from the waist."""

    name: str
    look: dict
    waist: float = 0.9  # as regions.Top.hem
    hem: float = 0.9  # 0 at the hip, 1 at the knee, 2 at the ankle
    flare: float = 0.12  # metres added to the radius from waist to hem
    fullness: float = 1.02
    fabric: Fabric = field(default_factory=Fabric)


def _skirt_grid(skirt: Skirt, body: PosedBody, columns: int = 96) -> tuple:
    """Rings around both legs: points [R * C, 3], faces [F, 3]."""
    marks = body.marks
    hip, spine = marks["left_hip"][1], marks["spine1"][1]
    top = hip + skirt.waist * (spine - hip)
    bottom = np.interp(skirt.hem, [0, 1, 2], [hip, marks["left_knee"][1], marks["left_ankle"][1]])
    rows = max(int((top - bottom) / 0.012), 8)
    theta = 2 * np.pi * np.arange(columns) / columns
    out = np.stack([np.sin(theta), np.cos(theta)], 1)
    trunk = np.abs(body.rest[:, 0]) < marks["left_shoulder"][0] + 0.05
    middle, radius, points = marks["pelvis"][2], np.zeros(columns), []
    for row in range(rows + 1):
        y = top + (bottom - top) * row / rows
        ring = body.rest[trunk & (np.abs(body.rest[:, 1] - y) < 0.015)]
        flat = ring[:, [0, 2]] - [0, middle]
        if len(flat):
            radius = np.maximum(radius, (flat @ out.T).max(axis=0) + 0.008)
        spread = radius + skirt.flare * row / rows
        points.append(
            np.stack([out[:, 0] * spread, np.full(columns, y), out[:, 1] * spread + middle], 1)
        )
    index = np.arange(rows)[:, None] * columns + np.arange(columns)
    right = np.arange(rows)[:, None] * columns + (np.arange(columns) + 1) % columns
    a, b, c, d = index.ravel(), right.ravel(), index.ravel() + columns, right.ravel() + columns
    faces = np.concatenate([np.stack([a, c, b], 1), np.stack([b, c, d], 1)])
    return np.concatenate(points), faces


def sew_skirt(skirt: Skirt, body: PosedBody, collider: tuple[np.ndarray, np.ndarray]) -> Piece:
    """Hang a skirt from the waist, its weights blended between the legs, and drape it."""
    rest, faces = _skirt_grid(skirt, body)
    weights = meshes.smooth(bind(rest, body), faces, 60)
    start = skin_points(rest, weights, body.transforms)
    pinned = rest[:, 1] > rest[:, 1].max() - 0.02
    pattern = rest * [skirt.fullness, 1.0, skirt.fullness]
    draped = drape(start, pattern, faces, pinned, collider, skirt.fabric)
    return Piece(
        skirt.name, draped, faces, cloth_uv(rest, faces, body.marks, legs=False), skirt.look
    )
