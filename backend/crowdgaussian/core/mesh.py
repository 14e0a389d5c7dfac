# SPDX-License-Identifier: Apache-2.0
"""Triangle meshes: normals, areas, the cotangent Laplacian, how pixels move, and alignment."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse
from crowdgaussian_shared.geometry.camera import NEAR, Camera
from scipy.spatial import cKDTree


def face_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Normals whose length is twice the face's area.  # [F, 3]"""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return np.cross(b - a, c - a)


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Area-weighted unit normals; zero where all faces around are degenerate.  # [V, 3]"""
    per_face = face_normals(vertices, faces)
    total = np.stack(
        [np.bincount(faces.ravel(), np.repeat(per_face[:, k], 3), len(vertices)) for k in range(3)],
        1,
    )
    return unit(total)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors at length one; a zero vector stays zero."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def vertex_areas(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """A third of the area of the faces around each vertex.  # [V] square metres"""
    areas = 0.5 * np.linalg.norm(face_normals(vertices, faces), axis=1)
    return np.bincount(faces.ravel(), np.repeat(areas / 3, 3), len(vertices))


def cotangent_laplacian(
    vertices: np.ndarray, faces: np.ndarray, weight: np.ndarray | float = 1.0
) -> sparse.csr_matrix:
    """Stiffness matrix L with x^T L x = integral of weight |grad x|^2 (Pinkall, Polthier 1993).

    weight: one number, or one per face [F].
    """
    count = len(vertices)
    total = sparse.csr_matrix((count, count))
    for k in range(3):
        i, j, o = faces[:, (k + 1) % 3], faces[:, (k + 2) % 3], faces[:, k]
        u, v = vertices[i] - vertices[o], vertices[j] - vertices[o]
        sine = np.linalg.norm(np.cross(u, v), axis=1)
        half_cot = 0.5 * weight * np.clip((u * v).sum(1) / np.maximum(sine, 1e-12), 0.02, 20)
        total = total + sparse.csr_matrix((half_cot, (i, j)), (count, count))
    symmetric = total + total.T
    return sparse.diags(np.asarray(symmetric.sum(1)).ravel()) - symmetric


def projection_jacobian(points: np.ndarray, camera: Camera) -> np.ndarray:
    """How pixels move with scene points.  # [N, 2, 3] pixels per metre"""
    local = camera.to_camera(points)
    depth = np.maximum(local[:, 2], NEAR)
    onto_plane = np.zeros((len(points), 2, 3))
    onto_plane[:, 0, 0] = onto_plane[:, 1, 1] = 1 / depth
    onto_plane[:, :, 2] = -local[:, :2] / depth[:, None] ** 2
    return camera.K[:2, :2] @ onto_plane @ camera.rotation


def sample_image(image: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Bilinear values of image [H, W, C] at pixels [N, 2] (centres at half integers)."""
    height, width = image.shape[:2]
    x = np.clip(pixels[:, 0] - 0.5, 0, width - 1.001)
    y = np.clip(pixels[:, 1] - 0.5, 0, height - 1.001)
    i, j = np.floor(y).astype(int), np.floor(x).astype(int)
    u, v = (x - j)[:, None], (y - i)[:, None]
    i1, j1 = np.minimum(i + 1, height - 1), np.minimum(j + 1, width - 1)
    top = image[i, j] * (1 - u) + image[i, j1] * u
    return top * (1 - v) + (image[i1, j] * (1 - u) + image[i1, j1] * u) * v


# Laying one surface on another: a similarity, by axes and height, then by ICP

_POINTS = 3000  # on each side
_STEPS = 60
_KEPT = 0.85  # share of the pairs that count: loose clothes and hair have no partner
_SETTLED = 1e-6
_LOW, _HIGH = 1.0, 99.0  # percentiles that stand for feet and crown: splats have outliers


@dataclass(frozen=True)
class Similarity:
    """x -> scale * rotation x + shift."""

    scale: float
    rotation: np.ndarray  # [3, 3]
    shift: np.ndarray  # [3]

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """# [N, 3] -> [N, 3]"""
        return self.scale * points @ self.rotation.T + self.shift

    def after(self, first: "Similarity") -> "Similarity":
        """First that one, then this."""
        return Similarity(
            self.scale * first.scale, self.rotation @ first.rotation, self(first.shift[None])[0]
        )


def umeyama(source: np.ndarray, target: np.ndarray) -> Similarity:
    """The similarity with the least squared error from N points to N points (Umeyama 1991).

    # [N, 3] twice
    """
    middle, goal = source.mean(0), target.mean(0)
    a, b = source - middle, target - goal
    u, spread, vt = np.linalg.svd(b.T @ a / len(a))
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = u @ np.diag(signs) @ vt
    scale = float((spread * signs).sum() / max((a**2).sum() / len(a), 1e-12))
    return Similarity(scale, rotation, goal - scale * rotation @ middle)


def axes_rotation(up: np.ndarray, front: np.ndarray, target_front: np.ndarray) -> np.ndarray:
    """The rotation that brings up to +y and front, as far as it is level, to the target's.

    # [3], [3], [3] -> [3, 3]
    """

    def frame(up: np.ndarray, front: np.ndarray) -> np.ndarray:
        up = up / np.linalg.norm(up)
        front = front - up * (up @ front)
        front = front / np.linalg.norm(front)
        return np.stack([np.cross(up, front), up, front], 1)

    return frame(np.array([0.0, 1.0, 0.0]), target_front) @ frame(up, front).T


def align(
    source: np.ndarray, target: np.ndarray, rotation: np.ndarray, seed: int = 0
) -> tuple[Similarity, float]:
    """The similarity that lays a result on a person, and how far apart they stay.

    Height and middle of the hips first, then iterative closest points in both directions, in which
    the worst 15 % of the pairs do not count.

    Args:
        source: points of the result in its own frame.  # [N, 3]
        target: points of the person's surface in the scene frame.  # [M, 3]
        rotation: the result's axes -> scene axes, from ``axes_rotation``.  # [3, 3]
        seed: of the subsampling.

    Returns:
        The similarity, and the root mean square distance of the counting pairs in metres.
    """
    rng = np.random.default_rng(seed)
    source, target = (points[rng.permutation(len(points))[:_POINTS]] for points in (source, target))
    turned = source @ rotation.T
    scale = _height(target) / max(_height(turned), 1e-9)
    found = Similarity(scale, rotation, _hips(target) - scale * _hips(turned))
    tree, before = cKDTree(target), np.inf
    for _ in range(_STEPS):
        moved = found(source)
        there, back = tree.query(moved)[1], cKDTree(moved).query(target)[1]
        pairs = np.concatenate([source, source[back]]), np.concatenate([target[there], target])
        apart = np.linalg.norm(found(pairs[0]) - pairs[1], axis=1)
        near = apart <= np.quantile(apart, _KEPT)
        error = float(np.sqrt((apart[near] ** 2).mean()))
        if before - error < _SETTLED * scale:
            break
        before, found = error, umeyama(pairs[0][near], pairs[1][near])
    return found, error


def _height(points: np.ndarray) -> float:
    low, high = np.percentile(points[:, 1], (_LOW, _HIGH))
    return float(high - low)


def _hips(points: np.ndarray) -> np.ndarray:
    """The middle of what is between 48 and 58 % of the height.  # [3]"""
    low = np.percentile(points[:, 1], _LOW)
    share = (points[:, 1] - low) / max(_height(points), 1e-9)
    band = points[(share > 0.48) & (share < 0.58)]
    middle = np.median(band if len(band) else points, axis=0)
    return np.array([middle[0], low + 0.53 * _height(points), middle[2]])
