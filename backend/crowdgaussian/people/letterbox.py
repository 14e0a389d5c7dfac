# SPDX-License-Identifier: Apache-2.0
"""A photo in a network's square: as large as fits, in the middle, on black."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

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
    square[top:top + size[1], left:left + size[0]] = np.asarray(small, np.float32) / 255
    return Letterbox(normalised(square), np.array([size[0] / width, size[1] / height]),
                     np.array([left, top], float))


def normalised(picture: np.ndarray) -> Tensor:
    """Values 0..1 by ImageNet's mean and spread.  # [H, W, 3] -> [3, H, W] float32"""
    values = (picture - np.float32(MEAN)) / np.float32(SPREAD)
    return torch.as_tensor(np.ascontiguousarray(values.transpose(2, 0, 1), dtype=np.float32))
