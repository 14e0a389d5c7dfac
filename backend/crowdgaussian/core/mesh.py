# SPDX-License-Identifier: Apache-2.0
"""Triangle meshes: normals, areas, the cotangent Laplacian, and how pixels move."""

import numpy as np
import scipy.sparse as sparse
from crowdgaussian_shared.geometry.camera import NEAR, Camera


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
