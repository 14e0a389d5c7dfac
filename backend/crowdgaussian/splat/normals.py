# SPDX-License-Identifier: Apache-2.0
"""Depth, face index and normal maps of body meshes by a z-buffer on the CPU."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from crowdgaussian_shared.geometry.axes import OPENGL_FROM_OPENCV
from crowdgaussian_shared.geometry.camera import NEAR, Camera
from numba import njit
from torch import Tensor

from ..core.mesh import unit, vertex_normals
from .cameras import Cameras
from .kernels import even_bounds, run_chunks

# The z-buffer of a triangle mesh, compiled

_OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy"}


@njit(**_OPTIONS)
def _span(low, high, first, end):
    """Pixels of first..end whose centres lie in low..high."""
    return (
        max(first, math.ceil(min(max(low, -1.0), 1e6) - 0.5)),
        min(end, math.floor(min(max(high, -1.0), 1e6) - 0.5) + 1),
    )


@njit(**_OPTIONS)
def _edges(points, face):
    """Twice the area of a projected triangle and the slopes of its barycentric coordinates."""
    ax, ay, az = points[face[0], 0], points[face[0], 1], points[face[0], 2]
    bx, by, bz = points[face[1], 0], points[face[1], 1], points[face[1], 2]
    cx, cy, cz = points[face[2], 0], points[face[2], 1], points[face[2], 2]
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    return area, (ax, ay, az), (bx, by, bz), (cx, cy, cz)


@njit(**_OPTIONS)
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


@njit(**_OPTIONS)
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


# Maps of meshes, as cameras see them


@dataclass(frozen=True)
class NormalMaps:
    """What C cameras see of the meshes.

    ``normals`` is the usual colour coding (n + 1) / 2 of unit normals in camera space with x
    right, y up and z towards the camera (OpenGL axes): a surface facing the camera is
    (0.5, 0.5, 1). It is 0 where there is no mesh; multiply by 255 for a picture.
    """

    normals: np.ndarray  # [C, H, W, 3] float32, 0..1
    mask: np.ndarray  # [C, H, W] bool
    depth: np.ndarray  # [C, H, W] float32, camera-space z in metres, inf where empty
    body: np.ndarray  # [C, H, W] int32, which mesh is seen, -1 where empty


def _numpy(values: np.ndarray | Tensor, dtype: type) -> np.ndarray:
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    return np.ascontiguousarray(values, dtype=dtype)


def _z_buffer(
    vertices: np.ndarray,
    faces: np.ndarray,
    camera: Camera,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Depth [H, W], face index [H, W] and barycentric coordinates [H, W, 2]."""
    points = camera.to_camera(vertices.astype(np.float64))
    points[:, :2] = camera.onto_image(points)[0]
    size = (camera.height, camera.width)
    outputs = (
        np.full(size, np.inf, np.float32),
        np.full(size, -1, np.int32),
        np.zeros((*size, 2), np.float32),
    )
    run_chunks(draw_mesh, even_bounds(camera.height, 32), points, faces, NEAR, outputs)
    return outputs


def render_mesh_depth(
    vertices: np.ndarray | Tensor,
    faces: np.ndarray | Tensor,
    camera: Camera,
) -> tuple[np.ndarray, np.ndarray]:
    """Which face every pixel centre sees, and how far away.

    Args:
        vertices: Scene frame, metres.  # [V, 3]
        faces: Indices into the vertices; both sides are drawn.  # [F, 3]
        camera: Where it is seen from.

    Returns:
        Camera-space z in metres, float32, inf where empty [H, W], and the face index, int32, -1
        where empty [H, W].
    """
    depth, index, _ = _z_buffer(_numpy(vertices, np.float64), _numpy(faces, np.int64), camera)
    return depth, index


def _normal_colors(
    normals: np.ndarray,
    faces: np.ndarray,
    index: np.ndarray,
    bary: np.ndarray,
    rotation: np.ndarray,
) -> np.ndarray:
    """Interpolated vertex normals of the pixels that see a face, colour coded.  # [H, W, 3]"""
    seen = index >= 0
    uv = bary[seen]
    weights = np.concatenate([uv, 1.0 - uv.sum(1, keepdims=True)], 1)  # [P, 3]
    blended = unit(np.einsum("pk,pkc->pc", weights, normals[faces[index[seen]]]) @ rotation.T)
    colors = np.zeros((*index.shape, 3), np.float32)
    colors[seen] = 0.5 + 0.5 * blended * np.diag(OPENGL_FROM_OPENCV)
    return colors


def render_normals(
    vertices: np.ndarray | Tensor,
    faces: np.ndarray | Tensor,
    cameras: Cameras,
) -> NormalMaps:
    """Normal maps of one or several bodies that hide one another.

    Args:
        vertices: Scene frame, metres: one body [V, 3] or several of the same mesh [B, V, 3].
        faces: Counter-clockwise seen from outside.  # [F, 3]
        cameras: Where they are seen from.

    Returns:
        Maps in numpy, one per camera.
    """
    bodies, faces = _numpy(vertices, np.float64), _numpy(faces, np.int64)
    bodies = bodies[None] if bodies.ndim == 2 else bodies
    count = bodies.shape[1]
    normals = np.concatenate([vertex_normals(body, faces) for body in bodies])
    every_face = np.concatenate([faces + k * count for k in range(len(bodies))])
    maps = []
    for camera in cameras.to_cameras():
        depth, index, bary = _z_buffer(bodies.reshape(-1, 3), every_face, camera)
        colors = _normal_colors(normals, every_face, index, bary, camera.rotation)
        body = np.where(index >= 0, index // len(faces), -1).astype(np.int32)
        maps.append((colors, index >= 0, depth, body))
    return NormalMaps(*(np.stack(part) for part in zip(*maps, strict=True)))
