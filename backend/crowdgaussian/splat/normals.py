# SPDX-License-Identifier: Apache-2.0
"""Depth, face index and normal maps of body meshes by a z-buffer on the CPU."""

from dataclasses import dataclass

import numpy as np
from crowdgaussian_shared.geometry.axes import OPENGL_FROM_OPENCV
from crowdgaussian_shared.geometry.camera import NEAR, Camera
from torch import Tensor

from ..core.mesh import unit, vertex_normals
from .cameras import Cameras
from .kernels import even_bounds, run_chunks
from .kernels.mesh import draw_mesh


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
