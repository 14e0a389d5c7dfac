# SPDX-License-Identifier: Apache-2.0
"""A pinhole camera as plain numpy arrays: the one home of projection and of its near plane.

The torch twin of ``Camera.project`` is ``project`` in the backend's splat/cameras.py.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

NEAR = 0.05  # metres. Depths are kept above it: what lies nearer or behind the camera lands far out
# on its own side of the picture instead of mirrored into it. A caller that must not count such
# points drops those whose depth is not above NEAR. Nobody stands five centimetres from a lens.


@dataclass(frozen=True)
class Camera:
    """A pinhole camera in OpenCV axes (x right, y down, z forward).

    Pixel centres lie at half integers: the top left pixel covers [0, 1) x [0, 1).
    """

    K: np.ndarray  # [3, 3] float64, pixels; the principal point may be off-centre
    viewmat: np.ndarray  # [4, 4] float64, scene frame -> camera frame
    width: int  # pixels
    height: int  # pixels

    @property
    def rotation(self) -> np.ndarray:
        """Scene axes -> camera axes.  # [3, 3]"""
        return split_viewmat(self.viewmat)[0]

    @property
    def eye(self) -> np.ndarray:
        """Where the camera stands, scene frame, metres.  # [3]"""
        return eye_of(self.viewmat)

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """Scene points in the camera's axes, metres.  # [..., 3] -> [..., 3]"""
        rotation, translation = split_viewmat(self.viewmat)
        return points @ rotation.T + translation

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels and depths of scene points; see NEAR for what is not in front of the camera.

        Args:
            points: scene frame, metres.  # [..., 3]

        Returns:
            Pixels [..., 2] and depths [...] in metres, at least NEAR.
        """
        return self.onto_image(self.to_camera(points))

    def onto_image(self, local: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As project, of points that are in the camera's axes already."""
        depth = np.maximum(local[..., 2], NEAR)
        focal = self.K[(0, 1), (0, 1)]
        return local[..., :2] / depth[..., None] * focal + self.K[:2, 2], depth

    def rays(self, pixels: np.ndarray) -> np.ndarray:
        """Viewing directions with depth 1, camera axes.  # [..., 2] -> [..., 3]"""
        return pixel_rays(pixels, self.K)


def split_viewmat(viewmat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotation [3, 3] and translation [3] of a viewmat [4, 4]; numpy or torch."""
    return viewmat[:3, :3], viewmat[:3, 3]


def eye_of(viewmat: np.ndarray) -> np.ndarray:
    """Where the camera of a viewmat stands, scene frame, metres.  # [4, 4] -> [3]"""
    rotation, translation = split_viewmat(viewmat)
    return -rotation.T @ translation


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


def intrinsics(focal: float, width: int, height: int) -> np.ndarray:
    """K with the principal point in the middle of the photo.  # [3, 3] float64"""
    return np.array([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])


def focal_or_default(focal_px: float | None, width: int, height: int, fov: float) -> float:
    """Focal length in pixels.

    Without EXIF or an option the longer side is taken to see `fov` degrees. The default of 55
    degrees is a 35 mm lens on a 36 x 24 mm frame, between a phone (26 mm) and a portrait lens;
    the shared ground absorbs errors of +-25 percent in the camera's pitch.
    """
    if focal_px is not None:
        return float(focal_px)
    return max(width, height) / 2 / float(np.tan(np.radians(fov) / 2))


def photo_camera(
    focal_px: float | None, shape: tuple[int, int], fov: float
) -> tuple[np.ndarray, Literal["default", "exif"]]:
    """K [3, 3] of a photo of that height and width, and the focal length's source."""
    height, width = shape
    K = intrinsics(focal_or_default(focal_px, width, height, fov), width, height)
    return K, "default" if focal_px is None else "exif"
