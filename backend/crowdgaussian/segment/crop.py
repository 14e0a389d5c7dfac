# SPDX-License-Identifier: Apache-2.0
"""A rectangle of the photo at its own resolution, with the camera that sees just that."""

from dataclasses import dataclass

import cv2
import numpy as np
from crowdgaussian_shared.camera import Camera


@dataclass(frozen=True)
class Crop:
    """The pixels [x0, x1) x [y0, y1) of a photo, resized to width x height."""

    x0: int
    y0: int
    x1: int
    y1: int
    width: int
    height: int

    @classmethod
    def around(cls, box: np.ndarray, margin_px: float, photo_size: tuple[int, int],
               max_side: int) -> "Crop":
        """The box (x0 y0 x1 y1) grown by margin_px, cut to the photo (width, height).

        The longest side is reduced to max_side pixels; a crop is never enlarged.
        """
        width, height = photo_size
        x0, y0 = (int(np.clip(np.floor(v - margin_px), 0, s - 1))
                  for v, s in zip(box[:2], photo_size, strict=True))
        x1 = int(np.clip(np.ceil(box[2] + margin_px), x0 + 1, width))
        y1 = int(np.clip(np.ceil(box[3] + margin_px), y0 + 1, height))
        shrink = min(1.0, max_side / max(x1 - x0, y1 - y0))
        return cls(x0, y0, x1, y1, max(1, round((x1 - x0) * shrink)),
                   max(1, round((y1 - y0) * shrink)))

    @property
    def scale(self) -> tuple[float, float]:
        """Crop pixels per photo pixel, in x and y."""
        return self.width / (self.x1 - self.x0), self.height / (self.y1 - self.y0)

    def take(self, image: np.ndarray) -> np.ndarray:
        """The crop of an image or mask [H, W(, C)]; a bool mask comes back as bool."""
        part = image[self.y0:self.y1, self.x0:self.x1]
        as_bytes = part.astype(np.uint8) * 255 if part.dtype == bool else part
        size = (self.width, self.height)
        resized = cv2.resize(np.ascontiguousarray(as_bytes), size, interpolation=cv2.INTER_AREA)
        return resized > 127 if part.dtype == bool else resized

    def put(self, values: np.ndarray, photo_size: tuple[int, int]) -> np.ndarray:
        """A float map [height, width] of the crop, laid into zeros of the photo's size."""
        full = np.zeros((photo_size[1], photo_size[0]), np.float32)
        size = (self.x1 - self.x0, self.y1 - self.y0)
        full[self.y0:self.y1, self.x0:self.x1] = cv2.resize(
            values.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
        return full

    def points(self, xy: np.ndarray) -> np.ndarray:
        """Photo pixels [N, 2] as crop pixels."""
        return (np.asarray(xy, np.float64) - (self.x0, self.y0)) * self.scale

    def camera(self, camera: Camera) -> Camera:
        """The photo's camera restricted to the crop."""
        sx, sy = self.scale
        to_crop = np.array([[sx, 0, -self.x0 * sx], [0, sy, -self.y0 * sy], [0, 0, 1.0]])
        return Camera(to_crop @ camera.K, camera.viewmat, self.width, self.height)


def box_of(mask: np.ndarray) -> np.ndarray | None:
    """x0 y0 x1 y1 around the true pixels of a mask, None when there are none."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if len(rows) == 0:
        return None
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float64)
