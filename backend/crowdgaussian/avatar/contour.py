# SPDX-License-Identifier: Apache-2.0
"""Compares the outline of a rendered surface with the outline of a mask."""

from dataclasses import dataclass

import cv2
import numpy as np

from ..splat.normals import render_mesh_depth
from .view import PhotoView


@dataclass(frozen=True)
class Outline:
    """C places on the rendered outline and how far each is from the mask's outline."""

    face: np.ndarray  # [C] int: face of the mesh that is seen there
    normal: np.ndarray  # [C, 2] unit, crop pixels, pointing out of the silhouette
    distance: np.ndarray  # [C] pixels to move along the normal; negative is inwards


def compare(vertices: np.ndarray, faces: np.ndarray, view: PhotoView, reach_px: np.ndarray,
            inwards_px: float) -> Outline:
    """Walks from the rendered outline along its normal to the edge of the visible mask.

    Args:
        vertices: [V, 3] scene frame.
        faces: [F, 3].
        view: the crop with its masks.
        reach_px: [F] how far outwards a face may look.
        inwards_px: how far inwards it may look.

    Returns:
        The places where an edge against the background was found. Edges against an occluder
        and against the border of the photo say nothing and are left out.
    """
    depth, face_index = render_mesh_depth(vertices.astype(np.float32), faces, view.camera)
    silhouette = np.isfinite(depth)
    rows, columns = np.nonzero(_edge(silhouette))
    normal = _outward(silhouette)[rows, columns]
    face = np.asarray(face_index)[rows, columns].astype(np.int64)
    start = np.stack([columns, rows], 1) + 0.5
    distance = _walk(start, normal, view, reach_px[face], inwards_px)
    found = np.isfinite(distance) & (np.linalg.norm(normal, axis=1) > 0.5)
    return Outline(face[found], normal[found], distance[found])


def _edge(silhouette: np.ndarray) -> np.ndarray:
    inside = cv2.erode(silhouette.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=1)
    return silhouette & (inside == 0)


def _outward(silhouette: np.ndarray) -> np.ndarray:
    """Unit normals from a blurred silhouette.  # [h, w, 2]"""
    blurred = cv2.GaussianBlur(silhouette.astype(np.float32), (0, 0), 2.0)
    slope = -np.stack([cv2.Sobel(blurred, cv2.CV_32F, 1, 0), cv2.Sobel(blurred, cv2.CV_32F, 0, 1)],
                      -1)
    return slope / np.maximum(np.linalg.norm(slope, axis=-1, keepdims=True), 1e-6)


def _walk(start: np.ndarray, normal: np.ndarray, view: PhotoView, reach: np.ndarray,
          inwards: float) -> np.ndarray:
    """Signed distance to the mask's edge, nan where there is none within reach.  # [C]"""
    height, width = view.visible.shape
    steps = np.arange(-int(np.ceil(inwards)), int(np.ceil(reach.max(initial=1))) + 2)
    places = np.floor(start[:, None] + steps[None, :, None] * normal[:, None]).astype(int)
    outside = ((places < 0) | (places >= (width, height))).any(-1)  # [C, T]
    x = np.clip(places[..., 0], 0, width - 1)
    y = np.clip(places[..., 1], 0, height - 1)
    shown = view.visible[y, x] & ~outside
    unknown = view.hidden[y, x] | outside
    at_start = int(np.flatnonzero(steps == 0)[0])
    outwards = _first_exit(shown[:, at_start:], unknown[:, at_start:])
    back = _first_entry(shown[:, at_start::-1], unknown[:, at_start::-1])
    begins_inside = shown[:, at_start]
    distance = np.where(begins_inside, outwards - 0.5, -back + 0.5)
    too_far = np.where(begins_inside, outwards > reach + 1, back > inwards)
    return np.where(too_far, np.nan, distance)


def _first_exit(shown: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """Steps until the mask ends against the background, nan if it ends otherwise.  # [C]"""
    left = ~shown
    first = left.argmax(1)
    rows = np.arange(len(shown))
    return np.where(left.any(1) & ~unknown[rows, first], first, np.nan)


def _first_entry(shown: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """Steps through the background until the mask begins, nan past anything else.  # [C]"""
    first = shown.argmax(1)
    blocked = np.cumsum(unknown, 1)[np.arange(len(shown)), first] > 0
    return np.where(shown.any(1) & ~blocked, first, np.nan)
