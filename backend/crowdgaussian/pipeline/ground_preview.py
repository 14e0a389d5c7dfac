# SPDX-License-Identifier: Apache-2.0
"""The photo with the floor that was found: horizon, a grid of metres, and where people stand.

A wrong floor shows at a glance: the grid runs through shoes, or the horizon misses the eyes of
people as tall as the camera is high.
"""

import cv2
import numpy as np
from crowdgaussian_shared.geometry.camera import Camera

from ..people.types import Crowd, Person

GROUND_PREVIEW = "ground.png"
_WIDTH = 1024  # pixels of the preview's longer side
_HORIZON, _GRID, _FEET, _OFF = (255, 200, 40), (255, 255, 255), (80, 220, 120), (255, 110, 90)
_EVERY = 1.0  # metre between lines
_MARGIN = 2.0  # metres of grid around the people
_NEAR = 0.3  # metres in front of the camera where lines end
_PIECES = 40  # of a grid line, so that what is behind the camera can be left out


def ground_view(photo: np.ndarray, crowd: Crowd) -> np.ndarray:
    """Draws the floor into a small copy of the photo.

    Args:
        photo: [H, W, 3] uint8 sRGB.
        crowd: people in the scene frame, with the photo's camera.

    Returns:
        [h, w, 3] uint8 sRGB.
    """
    height, width = photo.shape[:2]
    factor = min(1.0, _WIDTH / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    picture = cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
    K = np.diag([size[0] / width, size[1] / height, 1.0]) @ crowd.camera.K
    camera = Camera(K, crowd.camera.viewmat, *size)
    drawn = picture.copy()
    places = np.array([_place(person) for person in crowd.people])  # [P, 2] x, z
    for start, end in _grid(places):
        _line(drawn, camera, start, end, _GRID, 1)
    picture = cv2.addWeighted(picture, 0.55, drawn, 0.45, 0.0)
    _horizon(picture, camera)
    for place, stands in zip(places, crowd.on_ground):
        _ring(picture, camera, place, _FEET if stands else _OFF)
    return picture


def horizon(camera: Camera) -> np.ndarray:
    """The line a u + b v + c = 0 in pixels on which all level directions lie.  # [3]"""
    up = camera.viewmat[:3, 1]  # of the scene, in camera axes
    return np.linalg.inv(camera.K).T @ up


def _place(person: Person) -> np.ndarray:
    """Where a person is on the floor.  # [2] x, z"""
    return np.asarray(person.transl, np.float64)[[0, 2]]


def _grid(places: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    low = np.floor((places.min(axis=0) - _MARGIN) / _EVERY) * _EVERY
    high = np.ceil((places.max(axis=0) + _MARGIN) / _EVERY) * _EVERY
    lines = []
    for axis in (0, 1):
        for value in np.arange(low[axis], high[axis] + _EVERY / 2, _EVERY):
            start, end = low.copy(), high.copy()
            start[axis] = end[axis] = value
            lines.append((start, end))
    return lines


def _pixels(camera: Camera, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Floor points in the picture, and whether they lie before the camera.  # [N, 2], [N]"""
    flat = np.column_stack([points[:, 0], np.zeros(len(points)), points[:, 1]])
    seen = flat @ camera.viewmat[:3, :3].T + camera.viewmat[:3, 3]
    ahead = seen[:, 2] > _NEAR
    image = seen @ camera.K.T
    return image[:, :2] / np.where(ahead, seen[:, 2], 1.0)[:, None], ahead


def _line(
    picture: np.ndarray,
    camera: Camera,
    start: np.ndarray,
    end: np.ndarray,
    colour: tuple[int, int, int],
    width: int,
) -> None:
    along = np.linspace(0.0, 1.0, _PIECES + 1)[:, None]
    pixels, ahead = _pixels(camera, start * (1 - along) + end * along)
    _polyline(picture, pixels, ahead, colour, width)


def _ring(
    picture: np.ndarray, camera: Camera, place: np.ndarray, colour: tuple[int, int, int]
) -> None:
    turn = np.linspace(0.0, 2 * np.pi, _PIECES + 1)
    circle = place + 0.3 * np.column_stack([np.cos(turn), np.sin(turn)])
    _polyline(picture, *_pixels(camera, circle), colour, 2)


def _polyline(
    picture: np.ndarray,
    pixels: np.ndarray,
    ahead: np.ndarray,
    colour: tuple[int, int, int],
    width: int,
) -> None:
    limit = 4.0 * max(picture.shape)  # OpenCV's fixed-point coordinates overflow far outside
    fine = ahead & (np.abs(pixels) < limit).all(axis=1)
    points = np.round(np.clip(pixels, -limit, limit) * 8).astype(np.int32)
    for k in np.flatnonzero(fine[:-1] & fine[1:]):
        cv2.line(
            picture, points[k].tolist(), points[k + 1].tolist(), colour, width, cv2.LINE_AA, shift=3
        )


def _horizon(picture: np.ndarray, camera: Camera) -> None:
    a, b, c = horizon(camera)
    if abs(b) < 1e-9:
        return
    ends = np.array([[u, -(a * u + c) / b] for u in (0.0, float(camera.width))])
    _polyline(picture, ends, np.ones(2, bool), _HORIZON, 2)
