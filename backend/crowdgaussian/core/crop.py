# SPDX-License-Identifier: Apache-2.0
"""A rectangle of the photo at its own resolution, with the camera that sees just that."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from crowdgaussian_shared.errors import DamagedFileError
from crowdgaussian_shared.geometry.camera import Camera
from PIL import Image, UnidentifiedImageError
from torch import Tensor, nn


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
    def around(
        cls, box: np.ndarray, margin_px: float, photo_size: tuple[int, int], max_side: int
    ) -> "Crop":
        """The box (x0 y0 x1 y1) grown by margin_px, cut to the photo (width, height).

        The longest side is reduced to max_side pixels; a crop is never enlarged.
        """
        width, height = photo_size
        x0, y0 = (
            int(np.clip(np.floor(v - margin_px), 0, s - 1))
            for v, s in zip(box[:2], photo_size, strict=True)
        )
        x1 = int(np.clip(np.ceil(box[2] + margin_px), x0 + 1, width))
        y1 = int(np.clip(np.ceil(box[3] + margin_px), y0 + 1, height))
        shrink = min(1.0, max_side / max(x1 - x0, y1 - y0))
        return cls(
            x0, y0, x1, y1, max(1, round((x1 - x0) * shrink)), max(1, round((y1 - y0) * shrink))
        )

    @property
    def scale(self) -> tuple[float, float]:
        """Crop pixels per photo pixel, in x and y."""
        return self.width / (self.x1 - self.x0), self.height / (self.y1 - self.y0)

    def take(self, image: np.ndarray) -> np.ndarray:
        """The crop of an image or mask [H, W(, C)]; a bool mask comes back as bool."""
        part = image[self.y0 : self.y1, self.x0 : self.x1]
        as_bytes = part.astype(np.uint8) * 255 if part.dtype == bool else part
        size = (self.width, self.height)
        resized = cv2.resize(np.ascontiguousarray(as_bytes), size, interpolation=cv2.INTER_AREA)
        return resized > 127 if part.dtype == bool else resized

    def put(self, values: np.ndarray, photo_size: tuple[int, int]) -> np.ndarray:
        """A float map [height, width] of the crop, laid into zeros of the photo's size."""
        full = np.zeros((photo_size[1], photo_size[0]), np.float32)
        size = (self.x1 - self.x0, self.y1 - self.y0)
        full[self.y0 : self.y1, self.x0 : self.x1] = cv2.resize(
            values.astype(np.float32), size, interpolation=cv2.INTER_LINEAR
        )
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


# Image files of a training set as numbers


def read_image(path: Path, mode: str = "RGB") -> np.ndarray:
    """An image file as 8-bit numbers.

    Raises:
        DamagedFileError: it is missing or damaged.
    """
    try:
        with Image.open(path) as image:
            return np.array(image.convert(mode))
    except (OSError, UnidentifiedImageError) as error:
        raise DamagedFileError(f"the image {path} is missing or damaged.") from error


# Bringing images to the square that an encoder wants


def square(images: Tensor, side: int) -> Tensor:
    """Pads with white to a centred square and resizes.  # [B, 3, h, w] 0..1 -> [B, 3, side, side]

    Bicubic with aligned corners, after a slight blur where the image shrinks: what both published
    encoders do (kornia.geometry.resize with antialias).
    """
    height, width = images.shape[-2:]
    across, down = max(height - width, 0), max(width - height, 0)
    if across or down:
        edges = (across // 2, across - across // 2, down // 2, down - down // 2)
        images = nn.functional.pad(images, edges, value=1.0)
    factor = images.shape[-1] / side
    if factor == 1:
        return images
    images = _blurred(images.float(), (factor - 1) / 2) if factor > 1 else images.float()
    return nn.functional.interpolate(images, size=(side, side), mode="bicubic", align_corners=True)


def _blurred(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur over 4 sigma, at least 3 pixels, mirrored at the border.  # [B, 3, s, s]"""
    radius = max(int(max(4 * sigma, 3)) // 2, 1)
    steps = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    kernel = torch.softmax(-0.5 * (steps / sigma) ** 2, dim=0)
    channels = images.shape[1]
    for shape, edges in (((1, -1), (radius, radius, 0, 0)), ((-1, 1), (0, 0, radius, radius))):
        padded = nn.functional.pad(images, edges, mode="reflect")
        weight = kernel.view(1, 1, *shape).repeat(channels, 1, 1, 1)
        images = nn.functional.conv2d(padded, weight, groups=channels)
    return images


# A photo in a network's square: as large as fits, in the middle, on black

MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet


@dataclass(frozen=True)
class Letterbox:
    """A normalised square image and where the photo lies in it."""

    pixels: Tensor  # [3, S, S] float32
    scale: np.ndarray  # [2] square pixels per photo pixel, in x and y
    offset: np.ndarray  # [2] square pixels

    def camera(self, K: np.ndarray) -> np.ndarray:
        """The K of the photo as the K of the square.  # [3, 3]"""
        x, y = self.scale
        return np.array([[x, 0, self.offset[0]], [0, y, self.offset[1]], [0, 0, 1.0]]) @ K

    def to_photo(self, xy: np.ndarray) -> np.ndarray:
        """Pixels of the square as photo pixels.  # [..., 2]"""
        return (xy - self.offset) / self.scale


def letterbox(photo: np.ndarray, side: int) -> Letterbox:
    """Fits a photo [H, W, 3] uint8 sRGB into a square of side x side pixels."""
    height, width = photo.shape[:2]
    factor = side / max(width, height)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    small = Image.fromarray(photo).resize(size, Image.Resampling.BICUBIC)
    left, top = (side - size[0]) // 2, (side - size[1]) // 2
    square = np.zeros((side, side, 3), np.float32)
    square[top : top + size[1], left : left + size[0]] = np.asarray(small, np.float32) / 255
    return Letterbox(
        normalised(square),
        np.array([size[0] / width, size[1] / height]),
        np.array([left, top], float),
    )


def normalised(picture: np.ndarray) -> Tensor:
    """Values 0..1 by ImageNet's mean and spread.  # [H, W, 3] -> [3, H, W] float32"""
    values = (picture - np.array(MEAN, np.float32)) / np.array(SPREAD, np.float32)
    return torch.as_tensor(np.ascontiguousarray(values.transpose(2, 0, 1), dtype=np.float32))


def disc(radius: float) -> np.ndarray:
    """A round structuring element of the given radius in pixels."""
    size = 2 * max(round(radius), 0) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
