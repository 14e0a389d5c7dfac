# SPDX-License-Identifier: Apache-2.0
"""What the network sees of one person: a body image of 5:3 and a square head image.

The body image follows the published inference step by step (aigc3d/LHM, infer_preprocess_image):
box of the mask, grown to 1.1 and cut to the photo; white beside it, or above it where it is wide,
up to 5:3; everything but the person white; longest side 896 pixels; a window around the middle that
holds the mask; area-resized to the size of the encoder. The published code stops at boxes wider
than high and cuts off head and feet of people who touch both edges of the photo. Here the same
steps go on: a wide box gets white above it, and where the window of the published code would lose
pixels it is the smallest one of exactly 5:3 that loses none, with white outside.

The head image is the square of side 1.65 sqrt(width * height) around the head of the body model
(published: around a detector's box), area-resized to 112 pixels. Windows may reach over the photo;
outside is white. Whoever else is in the photo is white in both images.

Every image comes with the exact map from photo pixels, so that projecting with the crop's K is
projecting into the photo and then mapping.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from crowdgaussian_shared.errors import InputError
from crowdgaussian_shared.geometry.camera import NEAR, Camera
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX
from torch import Tensor

from ..people.types import Person

ASPECT = 5 / 3  # height by width of the body image
PATCH = 14  # body image sides are multiples of it
SOURCE_SIZE = 1024  # pixels: the body image of the published models is 1694 x 1022
HEAD_SIZE = 112  # pixels
LEAST_SIDE = 24  # pixels of the longer side of a person, below which nothing can be seen
_GROWN, _HEAD_GROWN = 1.1, 1.65
_FITTED = 896  # pixels of the longest side before the window is chosen
_ASPECT_TOLERANCE = 0.03

Window = tuple[int, int, int, int]  # x0 y0 x1 y1, may reach over the image


@dataclass(frozen=True)
class InputCrop:
    """One image for the network and where it comes from."""

    image: np.ndarray  # [h, w, 3] float32 sRGB 0..1, white where the person is not seen
    to_crop: np.ndarray  # [3, 3] float64, photo pixels -> crop pixels (x, y, 1)
    shown: bool = True  # False: nothing of it is seen, the image is black as in the published code

    def camera(self, camera: Camera) -> Camera:
        """The photo's camera restricted to this crop; its principal point is off-centre."""
        height, width = self.image.shape[:2]
        return Camera(self.to_crop @ camera.K, camera.viewmat, width, height)

    def points(self, xy: np.ndarray) -> np.ndarray:
        """Photo pixels as crop pixels.  # [N, 2] -> [N, 2]"""
        return np.asarray(xy, np.float64) @ self.to_crop[:2, :2].T + self.to_crop[:2, 2]


def body_size(source: int = SOURCE_SIZE) -> tuple[int, int]:
    """Height and width of the body image in pixels: 5:3, down to multiples of 14."""
    return int(source * ASPECT / PATCH) * PATCH, int(source / PATCH) * PATCH


def body_crop(
    photo: np.ndarray,
    visible: np.ndarray,
    frame: np.ndarray | None = None,
    size: tuple[int, int] = body_size(),
) -> InputCrop:
    """The body image of one person.

    Args:
        photo: [H, W, 3] uint8 sRGB.
        visible: [H, W] bool, pixels that show the person; everything else becomes white.
        frame: [H, W] bool, what decides the place and scale of the crop, such as the silhouette as
            if nothing hid the person (LORM learns on hidden people framed like complete ones);
            None: the visible pixels, as published.
        size: height and width of the image in pixels, of 5:3 within 0.03.

    Raises:
        InputError: an empty mask, sizes that differ, or a person of hardly any pixels.
    """
    check_mask(photo, visible)
    frame = visible if frame is None else frame | visible
    canvas = _canvas(_box(frame), (photo.shape[1], photo.shape[0]))
    white = np.where(visible[..., None], photo.astype(np.float32) / 255, np.float32(1))
    picture, mask = _take(white, canvas, 1), _take(frame.astype(np.float32), canvas, 0)
    reduction = _FITTED / max(mask.shape)
    fitted = tuple(max(1, round(side * reduction)) for side in mask.shape)
    picture, mask = _resize(picture, fitted), _resize(mask, fitted)
    window = _window(mask)
    to_crop = _map(window, size) @ _map(canvas, fitted)
    return InputCrop(_resize(_take(picture, window, 1), size), to_crop)


def head_crop(
    photo: np.ndarray, shown: np.ndarray, head: np.ndarray, size: int = HEAD_SIZE
) -> InputCrop:
    """The head image of one person.

    Args:
        photo: [H, W, 3] uint8 sRGB.
        shown: [H, W] bool, what stays in the image: all but other people, or, without the
            photo's background, the person's visible pixels.
        head: [N, 2] points of the head (vertices of the body model) in photo pixels, or the two
            corners of a detector's box.
        size: side of the image in pixels.

    Returns:
        ``shown`` is False and the image black where the head is outside the photo or wholly hidden.
    """
    check_mask(photo, shown, everybody=True)
    low, high = head.min(0), head.max(0)
    side = round(_HEAD_GROWN * math.sqrt(float(np.prod(high - low))))
    side = min(max(side, 2), 4 * max(shown.shape))
    left, top = (round(float(v) - side / 2) for v in (low + high) / 2)
    window = (left, top, left + side, top + side)
    to_crop = _map(window, (size, size))
    x0, y0, x1, y1 = _cut((*np.floor(low).astype(int), *np.ceil(high).astype(int)), photo)
    if not shown[y0:y1, x0:x1].any():
        return InputCrop(np.zeros((size, size, 3), np.float32), to_crop, shown=False)
    part = _cut(window, photo)
    rows, columns = slice(part[1], part[3]), slice(part[0], part[2])
    near = np.where(shown[rows, columns, None], photo[rows, columns].astype(np.float32) / 255, 1)
    moved = (window[0] - part[0], window[1] - part[1], window[2] - part[0], window[3] - part[1])
    return InputCrop(_resize(_take(near.astype(np.float32), moved, 1), (size, size)), to_crop)


def check_mask(photo: np.ndarray, mask: np.ndarray, everybody: bool = False) -> None:
    """Raise one sentence where a photo and a mask do not give a crop.

    Args:
        photo: [H, W, 3] uint8.
        mask: [H, W] bool.
        everybody: the mask may be of anything, only its size is checked.
    """
    if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8:
        raise InputError(
            f"The photo must be 8-bit RGB, it has the shape {photo.shape} and type {photo.dtype}."
        )
    if mask.shape != photo.shape[:2]:
        raise InputError(
            f"The mask is {_by(mask)} pixels and the photo {_by(photo)}; give a mask made for "
            "this photo."
        )
    if mask.dtype != bool:
        raise InputError(f"The mask must be of type bool, it is {mask.dtype}.")
    if everybody:
        return
    if not mask.any():
        raise InputError(
            "The person's mask is empty; leave the person out or choose a larger photo."
        )
    x0, y0, x1, y1 = _box(mask)
    longest = max(x1 - x0, y1 - y0) + 1
    if longest < LEAST_SIDE:
        raise InputError(
            f"Only {longest} pixels of the person are seen, too few to reconstruct somebody; "
            f"choose a photo that shows people at least {LEAST_SIDE} pixels tall."
        )


def _by(image: np.ndarray) -> str:
    return " x ".join(str(side) for side in image.shape[1::-1])


def _box(mask: np.ndarray) -> Window:
    """First and last column and row of a mask, both inside."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def _canvas(box: Window, photo_size: tuple[int, int]) -> Window:
    """The box grown, cut to the photo (width, height) and padded to 5:3, roundings as published."""
    spans = []
    for low, high, limit in zip(box[:2], box[2:], photo_size, strict=True):
        middle, extent = (low + high) // 2, (high - low) * _GROWN
        spans.append(
            (int(max(middle - extent // 2, 0)), int(min(middle + extent - extent // 2, limit)))
        )
    (left, right), (top, bottom) = spans
    width, height = right - left, bottom - top
    target = int(min(width * (height / width / ASPECT), height)) if width < height else 0
    if target > width:
        beside = (target - width) // 2
        return left - beside, top, right + beside, bottom
    return left, top - int(width * ASPECT - height), right, bottom


def _window(mask: np.ndarray) -> Window:
    """The 5:3 window around the middle of a canvas that holds the mask [h, w] float."""
    height, width = mask.shape
    x0, y0, x1, y1 = _box(mask > 0)
    middle_x, middle_y = width // 2, height // 2
    needed_x = max(abs(middle_x - x0), abs(middle_x - x1))
    needed_y = max(abs(middle_y - y0), abs(middle_y - y1))
    half_x, half_y = needed_x, needed_y
    if half_y >= half_x * ASPECT:
        half_x = round(half_y / ASPECT)
    else:
        half_y = round(half_x * ASPECT)
    fits = half_x <= middle_x and half_y <= middle_y
    right_shape = half_x > 0 and abs(half_y / half_x - ASPECT) < _ASPECT_TOLERANCE
    if not (fits and right_shape):
        steps = max(1, math.ceil(max(needed_y / 5, needed_x / 3)))
        half_x, half_y = 3 * steps, 5 * steps
    return middle_x - half_x, middle_y - half_y, middle_x + half_x, middle_y + half_y


def _cut(window: Window, image: np.ndarray) -> Window:
    """The part of a window inside the image; empty where there is none."""
    height, width = image.shape[:2]
    x0, x1 = (int(np.clip(v, 0, width)) for v in (window[0], window[2]))
    y0, y1 = (int(np.clip(v, 0, height)) for v in (window[1], window[3]))
    return x0, y0, x1, y1


def _take(image: np.ndarray, window: Window, outside: float) -> np.ndarray:
    """A window of an image; what lies outside the image has one value."""
    x0, y0, x1, y1 = window
    a, b, c, d = _cut(window, image)
    part = np.full((y1 - y0, x1 - x0, *image.shape[2:]), outside, image.dtype)
    part[b - y0 : d - y0, a - x0 : c - x0] = image[b:d, a:c]
    return part


def _resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Area interpolation to height and width, as published."""
    return cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA)


def _map(window: Window, size: tuple[int, int]) -> np.ndarray:
    """Pixels of an image -> pixels of its window resized to height and width.  # [3, 3]"""
    x0, y0, x1, y1 = window
    scale_x, scale_y = size[1] / (x1 - x0), size[0] / (y1 - y0)
    return np.array([[scale_x, 0, -x0 * scale_x], [0, scale_y, -y0 * scale_y], [0, 0, 1.0]])


# Where a person's head is in the photo: from the fitted body model, no detector needed

_HEAD = [JOINT_INDEX[n] for n in ("head", "jaw", "left_eye_smplhf", "right_eye_smplhf")]


class HeadDetector(Protocol):
    """A plug-in that finds heads by itself, such as VGGHead; none is used unless one is given."""

    def head(self, photo: np.ndarray, expected: np.ndarray) -> np.ndarray | None:
        """Corners [2, 2] in photo pixels of the head nearest to the expected points, or None.

        Args:
            photo: [H, W, 3] uint8.
            expected: [N, 2] points of the body model's head in photo pixels.
        """
        ...


class FaceEnlarger(Protocol):
    """A plug-in that makes larger head images, such as GFPGAN; none is used unless one is given.

    Without one the head image of 112 pixels is enlarged by bicubic interpolation in the head
    encoder. Teacher and student must agree on it.
    """

    def enlarge(self, heads: np.ndarray) -> np.ndarray:
        """[B, h, h, 3] float32 sRGB 0..1 -> [B, s, s, 3]."""
        ...


def check_person(person: Person, index: int) -> None:
    """Raise one sentence where a fitted person holds values that are not numbers."""
    name = person.params.not_finite()
    if name:
        raise InputError(
            f"The {name} of person {index} holds values that are not finite numbers; fit the "
            "person again or leave the person out."
        )


def head_points(vertices: np.ndarray, parts: Tensor | np.ndarray, camera: Camera) -> np.ndarray:
    """The skin of the head in photo pixels.

    Args:
        vertices: of the posed body in the scene frame.  # [V, 3]
        parts: the joint with the largest weight.  # [V]
        camera: the photo's.

    Returns:
        # [N, 2]; one point far outside every photo where the head is behind the camera.
    """
    scene = vertices[np.isin(np.asarray(parts), _HEAD)]
    pixels, depth = camera.project(scene)
    ahead = depth > NEAR
    return pixels[ahead] if ahead.any() else np.full((1, 2), -1e6)
