# SPDX-License-Identifier: Apache-2.0
"""Depth, face index and normal maps of meshes by a z-buffer on the CPU, and rays out of them."""

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


def z_buffer(
    vertices: np.ndarray,
    faces: np.ndarray,
    camera: Camera,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Depth [H, W], face index [H, W] and two barycentric coordinates [H, W, 2], as below."""
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
    depth, index, _ = z_buffer(_numpy(vertices, np.float64), _numpy(faces, np.int64), camera)
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
        depth, index, bary = z_buffer(bodies.reshape(-1, 3), every_face, camera)
        colors = _normal_colors(normals, every_face, index, bary, camera.rotation)
        body = np.where(index >= 0, index // len(faces), -1).astype(np.int32)
        maps.append((colors, index >= 0, depth, body))
    return NormalMaps(*(np.stack(part) for part in zip(*maps, strict=True)))


# Rays through a grid of cubic cells, each with the triangles whose bounding boxes touch it


@njit(**_OPTIONS)
def _cells(vertices, face, axis, low, cell):
    """First cell of a triangle along an axis, and the one after its last."""
    a, b, c = vertices[face[0], axis], vertices[face[1], axis], vertices[face[2], axis]
    return int((min(a, b, c) - low[axis]) / cell), int((max(a, b, c) - low[axis]) / cell) + 1


@njit(**_OPTIONS)
def fill_grid(vertices, faces, low, cell, dims, start, members):
    """Count the triangles of each cell into ``start[1:]``, or list them where that is known.

    ``members`` empty: counts only. Otherwise ``start`` [cells + 1] are the first places of the
    cells in ``members``, and are moved on to the next cell's.
    """
    for f in range(len(faces)):
        i0, i1 = _cells(vertices, faces[f], 0, low, cell)
        j0, j1 = _cells(vertices, faces[f], 1, low, cell)
        k0, k1 = _cells(vertices, faces[f], 2, low, cell)
        for i in range(i0, i1):
            for j in range(j0, j1):
                for k in range(k0, k1):
                    at = (i * dims[1] + j) * dims[2] + k
                    if len(members) == 0:
                        start[at + 1] += 1
                    else:
                        members[start[at]] = f
                        start[at] += 1


@njit(**_OPTIONS)
def _cross(a, b):
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


@njit(**_OPTIONS)
def _dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@njit(**_OPTIONS)
def _from(a, b):
    return b[0] - a[0], b[1] - a[1], b[2] - a[2]


@njit(**_OPTIONS)
def _hit(origin, direction, vertices, face, thin):
    """Distance along the ray and two barycentric coordinates; nan where it misses.

    Only the outside counts, except of thin triangles (Moeller, Trumbore 1997).
    """
    a = vertices[face[0]]
    first, second = _from(a, vertices[face[1]]), _from(a, vertices[face[2]])
    across = _cross(direction, second)
    det = _dot(first, across)
    if abs(det) < 1e-14 or (det > 0 and not thin):
        return np.nan, 0.0, 0.0
    away = _from(a, origin)
    other = _cross(away, first)
    v, w = _dot(away, across) / det, _dot(direction, other) / det
    if v < -1e-6 or w < -1e-6 or v + w > 1 + 1e-6:
        return np.nan, 0.0, 0.0
    return _dot(second, other) / det, 1 - v - w, v


@njit(**_OPTIONS)
def cast_rays(start, stop, rays, mesh, grid, outputs):
    """The last triangle that each of the rays start..stop leaves the mesh through.

    ``rays`` = (origins [N, 3], unit directions [N, 3], nearest, farthest [N]); ``mesh`` =
    (vertices, faces, thin [F]); ``grid`` = (low [3], cell, dims [3], first [cells + 1], members);
    ``outputs`` = (face [N] started at -1, distance [N], first two barycentric coordinates [N, 2]).
    """
    origins, directions, nearest, farthest = rays
    vertices, faces, thin = mesh
    low, cell, dims, first, members = grid
    step = 0.45 * cell
    for r in range(start, stop):
        best, last = -np.inf, -1
        for s in range(int((farthest[r] - nearest) / step) + 2):
            t = nearest + s * step
            x = (origins[r, 0] + t * directions[r, 0] - low[0]) / cell
            y = (origins[r, 1] + t * directions[r, 1] - low[1]) / cell
            z = (origins[r, 2] + t * directions[r, 2] - low[2]) / cell
            i, j, k = int(x), int(y), int(z)
            if min(x, y, z) < 0 or i >= dims[0] or j >= dims[1] or k >= dims[2]:
                continue
            at = (i * dims[1] + j) * dims[2] + k
            if at == last:
                continue
            last = at
            for q in range(first[at], first[at + 1]):
                f = members[q]
                t, u, v = _hit(origins[r], directions[r], vertices, faces[f], thin[f])
                if t >= nearest and t <= farthest[r] and t > best:
                    best = t
                    outputs[0][r], outputs[1][r] = f, t
                    outputs[2][r, 0], outputs[2][r, 1] = u, v


_CELL = 0.02  # metres: of the grid that rays walk through; about two edges of a garment


def last_hits(
    vertices: np.ndarray,
    faces: np.ndarray,
    thin: np.ndarray,
    rays: tuple[np.ndarray, np.ndarray, np.ndarray],
    nearest: float = 0.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where rays leave a mesh for the last time, from inside to outside.

    Args:
        vertices: metres.  # [V, 3]
        faces: counter-clockwise seen from outside.  # [F, 3]
        thin: faces that count from both sides.  # [F] bool
        rays: origins [N, 3], unit directions [N, 3], and the farthest distances [N].
        nearest: distance; may be negative.

    Returns:
        Face, -1 where there is none [N], distance [N], barycentric coordinates [N, 3].
    """
    origins, directions, farthest = rays
    count = len(origins)
    low = vertices.min(0) - _CELL
    dims = ((np.ptp(vertices, axis=0) + _CELL) / _CELL).astype(np.int64) + 2
    first, none = np.zeros(int(dims.prod()) + 1, np.int64), np.zeros(0, np.int64)
    fill_grid(vertices, faces, low, _CELL, dims, first, none)
    first = np.cumsum(first)
    members = np.zeros(first[-1], np.int64)
    fill_grid(vertices, faces, low, _CELL, dims, first.copy(), members)
    outputs = np.full(count, -1), np.zeros(count), np.zeros((count, 2))
    lines = origins, directions, float(nearest), farthest
    grid = low, _CELL, dims, first, members
    cast_rays(0, count, lines, (vertices, faces, thin), grid, outputs)
    face, distance, bary = outputs
    return face, distance, np.column_stack([bary, 1 - bary.sum(1)])
