# SPDX-License-Identifier: Apache-2.0
"""What a user should look at: warnings in sentences, and the floor drawn over the photo.

A wrong floor shows at a glance: the grid runs through shoes, or the horizon misses the eyes of
people as tall as the camera is high.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import cv2
import numpy as np
from crowdgaussian_shared.geometry.camera import Camera
from crowdgaussian_shared.scene.schema import CORRECTED, MISSED, SceneWarning

from ..core.landmarks import Landmark
from ..people.detect.detections import seen_share
from ..people.types import Crowd, Person

if TYPE_CHECKING:
    from ..body.model import BodyModel

# Hand-tuned; wider ranges and a lower share warn of less.
_MOSTLY_GUESSED = 1 / 3  # of the body's landmarks: with fewer seen, more is guessed than seen
_ADULT = (1.4, 2.05)  # metres: hardly any grown-up is shorter or taller
_FLOATING = 0.25  # metres between the floor and the lowest skin; a step is lower
_LEAST_STANDING = 2  # people from whom a floor is sure: one may stand on a step, or be a child
# Of avatar.quality.all_round: below it are 6 of 9 whom a look from all sides found badly wrong, and
# one of 34 who look right; chosen on these same people.
_LOOKS_RIGHT = 0.5
ALL_ROUND = "all_round"  # code of the warning
_OWN_FACE = 0.75  # of a face's size: a nose this near to its middle is in it


def scene_warnings(crowd: Crowd) -> tuple[SceneWarning, ...]:
    """Who was probably missed, and what of the floor and the camera is assumed."""
    found = [_missed(box) for box in crowd.missed]
    standing = crowd.certainty.standing
    if standing < _LEAST_STANDING:
        known = "only one person stands" if standing else "nobody surely stands"
        found.append(
            SceneWarning(
                "floor",
                f"The floor is unsure, as {known} on it; check it in previews/ground.png.",
            )
        )
    if crowd.focal_source == "default":
        found.append(
            SceneWarning(
                "focal",
                "The focal length is assumed; if you know the lens, reconstruct with "
                "--set photo.focal=28mm or whatever it is.",
            )
        )
    return tuple(found)


def _missed(box: np.ndarray) -> SceneWarning:
    x0, y0, x1, y1 = (float(value) for value in box)
    return SceneWarning(
        MISSED,
        f"Somebody at ({(x0 + x1) / 2:.0f}, {(y0 + y1) / 2:.0f}) was probably missed; press "
        "Add This Person in Blender, or name a box around them in `boxes` of `crowdgaussian edit`.",
        (x0, y0, x1, y1),
    )


def missed_in(warnings: tuple[SceneWarning, ...]) -> tuple[np.ndarray, ...]:
    """Whom a scene's warnings say to be missed, as Crowd.missed."""
    boxes = (one.box for one in warnings if one.code == MISSED)
    return tuple(np.array(box, np.float32) for box in boxes if box is not None)


def still_true(
    warnings: tuple[SceneWarning, ...], added: Iterable[Person]
) -> tuple[SceneWarning, ...]:
    """The warnings of a scene to which people were added: those no longer missed are left out."""
    noses = [person.keypoints.xy[Landmark.NOSE] for person in added]
    return tuple(one for one in warnings if not any(_is_face_of(one, nose) for nose in noses))


def _is_face_of(warning: SceneWarning, nose: np.ndarray) -> bool:
    if warning.code != MISSED or warning.box is None:
        return False
    low, high = np.array(warning.box[:2]), np.array(warning.box[2:])
    apart = float(np.linalg.norm(nose - (low + high) / 2))
    return apart < _OWN_FACE * float((high - low).max())


def person_warnings(
    index: int, person: Person, on_ground: bool, body: "BodyModel"
) -> tuple[SceneWarning, ...]:
    """What is doubtful about one person; nothing where a user has posed them.

    Args:
        index: of the person, for the sentences.
        person: the fit, in the scene frame.
        on_ground: whether they stand on the floor.
        body: the model of the fit.
    """
    if CORRECTED in person.flags:
        return ()
    found = []
    seen = person.keypoints.confidence
    if "hidden" in person.flags and seen_share(seen) < _MOSTLY_GUESSED:
        found.append(
            SceneWarning(
                "guessed",
                f"Most of person {index} is hidden and guessed; pose them and press Refit, or "
                "leave them out.",
            )
        )
    off_floor = {"seated", "airborne"} & {*person.flags}
    height = body.height(person.params)
    if on_ground and "child" not in person.flags and not _ADULT[0] <= height <= _ADULT[1]:
        found.append(
            SceneWarning(
                "height",
                f"Person {index} came out {height:.2f} m tall; if they are not, scale their rig "
                "in Blender, or leave them out.",
            )
        )
    low = 0.0 if on_ground or off_floor else body.posed(person.params).lowest
    if low > _FLOATING:
        found.append(
            SceneWarning(
                "floating",
                f"Person {index} floats {low:.2f} m above the floor; if they stand, use Snap to "
                "Ground in Blender.",
            )
        )
    return tuple(found)


# Words for the parts of avatar.quality.all_round
_WRONG_ROUND = {
    "whole": "holes",
    "shape": "swollen or torn",
    "colours": "stray colours",
    "legs": "legs unlike each other",
    "upright": "upside down or lying",
    "known": "mostly guessed",
    "head": "a guessed head",
    "free": "limbs where the photo shows nobody",
    "outline": "an outline that is not filled",
}


def seen_all_round(
    warnings: tuple[SceneWarning, ...], index: int, quality: Mapping[str, float]
) -> tuple[SceneWarning, ...]:
    """A person's warnings, and that they probably look wrong from other sides than the photo's.

    Args:
        warnings: what was said of the person before.
        index: of the person, for the sentence.
        quality: of the avatar, as avatar.quality.measure gives it.
    """
    others = tuple(one for one in warnings if one.code != ALL_ROUND)
    if quality.get("all_round", 1.0) >= _LOOKS_RIGHT:
        return others
    worst = min(_WRONG_ROUND, key=lambda part: quality.get(f"round_{part}", 1.0))
    sentence = (
        f"Person {index} probably looks wrong from the side or back: {_WRONG_ROUND[worst]}. "
        "Look all round; pose them and press Refit, or leave them out."
    )
    return (*others, SceneWarning(ALL_ROUND, sentence))


# The floor over the photo

GROUND_PREVIEW = "ground.png"
_WIDTH = 1024  # pixels of the preview's longer side
_HORIZON, _GRID, _FEET, _OFF = (255, 200, 40), (255, 255, 255), (80, 220, 120), (255, 110, 90)
_EVERY = 1.0  # metre between lines
_MARGIN = 2.0  # metres of grid around the people
_LINE_END = 0.3  # metres in front of the camera where lines end
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
    pixels, depth = camera.project(flat)
    return pixels, depth > _LINE_END


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
