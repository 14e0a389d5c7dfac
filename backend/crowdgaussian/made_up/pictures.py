# SPDX-License-Identifier: Apache-2.0
"""Antialiased pictures of painted surfaces."""

import cv2
import numpy as np
from crowdgaussian_shared.camera import Camera

from ..splat.normals import render_mesh_depth

_FINER = 2  # pixels are averages of so many by so many


def render_rgba(vertices: np.ndarray, faces: np.ndarray, face_colours: np.ndarray,
                camera: Camera) -> np.ndarray:
    """What the camera sees; alpha is how much of a pixel the surface covers.

    Args:
        vertices: scene frame, metres.  # [V, 3]
        faces: [F, 3].
        face_colours: sRGB 0..1 of each face.  # [F, 3]
        camera: where it is seen from.

    Returns:
        # [H, W, 4] uint8
    """
    K = camera.K * np.array([[_FINER], [_FINER], [1]])
    finer = Camera(K, camera.viewmat, camera.width * _FINER, camera.height * _FINER)
    _, face = render_mesh_depth(vertices.astype(np.float32), faces, finer)
    face = np.asarray(face)
    colour = face_colours[np.maximum(face, 0)]
    alpha = (face >= 0)[..., None].astype(np.float64)
    size = (camera.width, camera.height)
    layers = cv2.resize(np.concatenate([colour * alpha, alpha], -1), size,
                        interpolation=cv2.INTER_AREA)
    layers[..., :3] /= np.maximum(layers[..., 3:], 1e-6)
    return (255 * layers.clip(0, 1)).round().astype(np.uint8)


def on_white(rgba: np.ndarray) -> np.ndarray:
    """[H, W, 4] -> [H, W, 3] uint8"""
    alpha = rgba[..., 3:].astype(np.float32) / 255
    return (rgba[..., :3] * alpha + 255 * (1 - alpha)).round().astype(np.uint8)
