# SPDX-License-Identifier: Apache-2.0
"""Detections made from fitted bodies, for estimators that give bodies instead of landmarks."""

import numpy as np
import torch
from crowdgaussian_shared.axes import OPENCV_FROM_SCENE
from crowdgaussian_shared.camera import Camera
from torch import Tensor

from ..splat.normals import render_mesh_depth
from .camera import pixel_rays, project, turn_to_ray
from .detect import Detection, detection_flags, visible_box
from .fit import Bodies, Fitter
from .types import Keypoints

_SEEN, _HIDDEN, _OUTSIDE = 0.95, 0.3, 0.1  # confidence of a landmark
_NEARER = 0.15  # metres by which another body must be nearer to hide a landmark


def detections_of(alone: Fitter, bodies: Bodies, scores: Tensor,
                  shape: tuple[int, int]) -> list[Detection]:
    """What a detector would say about bodies in front of a camera at the origin.

    Args:
        alone: the fitter of that camera.
        bodies: P bodies.
        scores: [P] 0..1.
        shape: height and width of the photo.
    """
    with torch.no_grad():
        landmarks = alone.pose(bodies).landmarks
        vertices = alone.vertices(bodies).numpy()
        xy = project(landmarks, *alone.camera).numpy()
        stature = alone.body.stature(bodies.betas, bodies.scale).numpy()
    K = alone.camera[0].numpy().astype(np.float64)
    points = landmarks.numpy() @ OPENCV_FROM_SCENE.T
    depths = [_depth(alone, body, K, shape) for body in vertices]
    found = []
    for index, pixels in enumerate(xy):
        sure = _confidence(pixels, points[index, :, 2], depths, index)
        size = float(stature[index] * K[1, 1] / max(points[index, :, 2].mean(), 0.05))
        mask = np.isfinite(depths[index])
        box = visible_box(pixels, sure, mask.astype(np.float32))
        keypoints = Keypoints(pixels.astype(np.float32), sure, _world(points[index], pixels, K))
        found.append(Detection(keypoints, box, float(scores[index]),
                               np.where(mask, 255, 0).astype(np.uint8), size,
                               detection_flags(size, sure, box, shape)))
    return found


def _depth(alone: Fitter, vertices: np.ndarray, K: np.ndarray,
           shape: tuple[int, int]) -> np.ndarray:
    camera = Camera(K, alone.camera[1].numpy().astype(np.float64), shape[1], shape[0])
    return np.asarray(render_mesh_depth(vertices, alone.body.faces.numpy(), camera)[0])


def _confidence(xy: np.ndarray, depth: np.ndarray, depths: list[np.ndarray],
                index: int) -> np.ndarray:
    """Whether each landmark is in the photo and before every other body.  # [33] float32"""
    height, width = depths[index].shape
    inside = ((xy >= 0) & (xy < [width, height])).all(axis=1)
    columns, rows = np.clip(np.floor(xy), 0, [width - 1, height - 1]).astype(int).T
    hidden = np.zeros(len(xy), bool)
    for other, surface in enumerate(depths):
        if other != index:
            hidden |= surface[rows, columns] < depth - _NEARER
    sure = np.where(hidden, _HIDDEN, _SEEN)
    return np.where(inside, sure, _OUTSIDE).astype(np.float32)


def _world(points: np.ndarray, xy: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Metric landmarks as MediaPipe tells them: from the mid-hip, seen straight on.  # [33, 3]"""
    hip = xy[[11, 12, 23, 24]].mean(axis=0)
    turn = turn_to_ray(pixel_rays(hip, K))
    middle = points[[23, 24]].mean(axis=0)
    return ((points - middle) @ turn).astype(np.float32)
