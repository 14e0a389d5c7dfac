# SPDX-License-Identifier: Apache-2.0
"""A picture of how far a training is: one row a person."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

COLUMNS = ("complete", "occluded", "teacher", "student")
_GAP, _BAR = 4, 22  # pixels


@dataclass(frozen=True)
class SampleRow:
    """What one person looks like to teacher and student."""

    complete: Tensor  # [3, h, w] 0..1, the body image
    occluded: Tensor  # [3, h, w]
    teacher: Tensor  # [V, S, S, 3] 0..1, from the complete image
    student: Tensor  # [V, S, S, 3], from the occluded one


def sample_grid(rows: Sequence[SampleRow]) -> np.ndarray:
    """Complete and occluded image, then the same views by teacher and student.  # [H, W, 3] uint8
    """
    size = rows[0].teacher.shape[1]
    strips = [np.concatenate(_cells(row, size), axis=1) for row in rows]
    height = _BAR + sum(len(strip) + _GAP for strip in strips)
    picture = np.full((height, strips[0].shape[1], 3), 255, np.uint8)
    widths = [cell.shape[1] for cell in _cells(rows[0], size)]
    views = len(rows[0].teacher)
    for title, cell in zip(COLUMNS, (0, 1, 2, 2 + views), strict=True):
        cv2.putText(picture, title, (sum(widths[:cell]) + 3, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.4,
                    (40, 40, 40), 1, cv2.LINE_AA)
    top = _BAR
    for strip in strips:
        picture[top:top + len(strip)] = strip
        top += len(strip) + _GAP
    return picture


def _cells(row: SampleRow, size: int) -> list[np.ndarray]:
    inputs = [_inside(_bytes(image.movedim(0, -1)), size)
              for image in (row.complete, row.occluded)]
    return inputs + [_bytes(view) for views in (row.teacher, row.student) for view in views]


def _bytes(image: Tensor) -> np.ndarray:
    return (image.detach().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()


def _inside(image: np.ndarray, size: int) -> np.ndarray:
    """The image in the middle of a white square.  # [size, size, 3]"""
    factor = size / max(image.shape[:2])
    small = cv2.resize(image, (max(1, round(image.shape[1] * factor)),
                               max(1, round(image.shape[0] * factor))),
                       interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_NEAREST)
    square = np.full((size, size, 3), 255, np.uint8)
    top, left = (size - small.shape[0]) // 2, (size - small.shape[1]) // 2
    square[top:top + small.shape[0], left:left + small.shape[1]] = small
    return square
