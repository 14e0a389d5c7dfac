# SPDX-License-Identifier: Apache-2.0
"""The photo's pinhole camera before anything is known about the ground."""

import numpy as np
import torch
from torch import Tensor


def focal_or_default(focal_px: float | None, width: int, height: int, fov: float) -> float:
    """Focal length in pixels.

    Without EXIF or an option the longer side is taken to see `fov` degrees. The default of 55
    degrees is a 35 mm lens on a 36 x 24 mm frame, between a phone (26 mm) and a portrait lens;
    the shared ground absorbs errors of +-25 percent in the camera's pitch.
    """
    if focal_px is not None:
        return float(focal_px)
    return max(width, height) / 2 / float(np.tan(np.radians(fov) / 2))


def intrinsics(focal: float, width: int, height: int) -> np.ndarray:
    """K with the principal point in the middle of the photo.  # [3, 3] float64"""
    return np.array([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])


def photo_camera(
    focal_px: float | None, shape: tuple[int, int], fov: float
) -> tuple[np.ndarray, str]:
    """K [3, 3] of a photo of that height and width, and the focal length's source."""
    height, width = shape
    K = intrinsics(focal_or_default(focal_px, width, height, fov), width, height)
    return K, "default" if focal_px is None else "exif"


def project(points: Tensor, K: Tensor, viewmat: Tensor) -> Tensor:
    """Scene points into the photo; depth is kept away from zero.  # [..., 3] -> [..., 2]"""
    seen = points @ viewmat[:3, :3].T + viewmat[:3, 3]
    depth = seen[..., 2:].clamp_min(0.05)
    return seen[..., :2] / depth * torch.stack([K[0, 0], K[1, 1]]) + K[:2, 2]


def pixel_rays(pixels: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Viewing directions with depth 1, OpenCV camera axes.  # [..., 2] -> [..., 3]"""
    flat = (np.asarray(pixels, dtype=np.float64) - K[:2, 2]) / [K[0, 0], K[1, 1]]
    return np.concatenate([flat, np.ones((*flat.shape[:-1], 1))], axis=-1)


def turn_to_ray(ray: np.ndarray) -> np.ndarray:
    """The smallest rotation that takes the optical axis to a ray.  # [3] -> [3, 3]

    A network that looks at a crop reports limbs as if the crop were in the middle of the photo.
    """
    ray = ray / np.linalg.norm(ray)
    x, y, z = np.array([-ray[1], ray[0], 0.0])
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + cross + cross @ cross / (1.0 + ray[2])
