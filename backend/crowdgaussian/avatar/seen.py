# SPDX-License-Identifier: Apache-2.0
"""What the photo shows of a surface, and in which colour."""

import cv2
import numpy as np
from scipy import ndimage

from ..splat.normals import render_mesh_depth
from .geometry import project, sample_image, unit, vertex_normals
from .view import PhotoView


def seen_points(points: np.ndarray, normals: np.ndarray, depth: np.ndarray,
                view: PhotoView) -> np.ndarray:
    """How well the photo shows each point: 0 not at all, 1 frontally.  # [N]

    Args:
        points: [N, 3] scene frame.
        normals: [N, 3] unit, outward.
        depth: [h, w] z-buffer of the surface the points lie on.
        view: a point counts where its pixel is pure.
    """
    pixels, own_depth = project(points, view.camera)
    column, row = np.floor(pixels).astype(int).T
    height, width = depth.shape
    inside = (column >= 0) & (row >= 0) & (column < width) & (row < height)
    row, column = np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)
    nearest = ndimage.grey_dilation(np.where(np.isfinite(depth), depth, -np.inf), size=3)
    front = own_depth < nearest[row, column] + 0.012
    facing = facing_camera(points, normals, view)
    return inside * front * view.pure[row, column] * np.clip((facing - 0.12) / 0.3, 0, 1)


def facing_camera(points: np.ndarray, normals: np.ndarray, view: PhotoView) -> np.ndarray:
    """Cosine between the normal and the direction to the camera.  # [N]"""
    return (normals * unit(view.eye - points)).sum(1)


def seen_vertices(vertices: np.ndarray, faces: np.ndarray, view: PhotoView) -> np.ndarray:
    """The same for the vertices of a posed mesh, spread to their neighbours.  # [V]"""
    depth, _ = render_mesh_depth(vertices.astype(np.float32), faces, view.camera)
    seen = seen_points(vertices, vertex_normals(vertices, faces), np.asarray(depth), view)
    spread = seen.copy()
    np.maximum.at(spread, faces.ravel(), np.repeat(seen[faces].max(1), 3))
    return np.minimum(spread, 1)


def pure_photo(view: PhotoView) -> np.ndarray:
    """The crop with every impure pixel replaced by the nearest pure one.  # [h, w, 3]"""
    if not view.pure.any():
        return np.full_like(view.photo, 0.5)
    nearest = ndimage.distance_transform_edt(~view.pure, return_distances=False,
                                             return_indices=True)
    return view.photo[nearest[0], nearest[1]]


def colours_at(points: np.ndarray, view: PhotoView) -> np.ndarray:
    """Photo colours under scene points, edges left out.  # [N, 3] sRGB"""
    pixels, _ = project(points, view.camera)
    smooth = cv2.GaussianBlur(pure_photo(view), (0, 0), 0.7)
    return sample_image(smooth, pixels)
