# SPDX-License-Identifier: Apache-2.0
"""Scenes of several people who stand close together without going through one another."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ..splat.cameras import Cameras
from .actors import Actor, Placed

_SLICE = 0.2  # metres of height that are looked at together
_DIRECTIONS = 16  # along which two outlines may be apart
_GAP = 0.02  # metres that stay between people
_FOV = 0.6  # radians, of the cameras before they are framed
MARGIN = 1.1  # of a picture's side to what it shows
_DIRECT = 0.12, 0.3  # share of the light from one side; light from all around is the rest
_DRAWS = 8  # of somebody new
_GROWTH = 1.15  # of the circle in which a place is sought

DrawActor = Callable[[np.random.Generator], Actor]


@dataclass(frozen=True)
class CrowdScene:
    """People on a floor in one light."""

    people: tuple[Placed, ...]
    light: np.ndarray  # [3] direction to it
    direct: float  # share of the light that comes from there


def compose(draw_actor: DrawActor, people: tuple[int, int], rng: np.random.Generator) -> CrowdScene:
    """A scene of somebody drawn anew each time.

    Args:
        draw_actor: makes a person.
        people: fewest and most.
        rng: decides everything.
    """
    placed: list[Placed] = []
    shapes: list[np.ndarray] = []
    for _ in range(int(rng.integers(people[0], people[1] + 1))):
        actor = _newcomer(draw_actor, placed, rng)
        yaw = rng.uniform(-np.pi, np.pi)
        turned = Placed(actor, yaw, np.zeros(3))
        own = supports(turned.points(actor.vertices))
        offset = _free_place(own, shapes, rng)
        placed.append(Placed(actor, yaw, offset))
        shapes.append(moved_supports(own, offset))
    light = np.array([rng.normal(0, 0.4), 1.0, 0.5 + rng.normal(0, 0.4)])
    return CrowdScene(tuple(placed), light, float(rng.uniform(*_DIRECT)))


def _newcomer(draw_actor: DrawActor, placed: list[Placed], rng: np.random.Generator) -> Actor:
    """Somebody who is not there yet, where there are others to draw."""
    for _ in range(_DRAWS):
        actor = draw_actor(rng)
        if all(actor is not each.actor for each in placed):
            break
    return actor


def supports(points: np.ndarray) -> np.ndarray:
    """How far a person reaches in each direction, slice by slice of their height.

    Returns:
        # [slices, directions] metres from the origin; -inf where a slice is empty.
    """
    reach = points[:, [0, 2]] @ _directions().T  # [N, D]
    level = (points[:, 1] / _SLICE).astype(int).clip(0, 14)
    result = np.full((15, _DIRECTIONS), -np.inf)
    np.maximum.at(result, level, reach)
    return result


def moved_supports(shape: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """The same person elsewhere on the floor."""
    return shape + _directions() @ offset[[0, 2]]


def apart(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether a vertical plane lies between two people in every slice of height.

    Then they do not touch, as their outlines' convex hulls do not.
    """
    half = _DIRECTIONS // 2
    gaps = -one - np.roll(other, half, axis=1)  # [slices, D]: along d, one ends before other begins
    empty = np.isinf(one).any(1) | np.isinf(other).any(1)
    return bool((empty | (gaps.max(1) >= _GAP)).all())


def _free_place(shape: np.ndarray, others: list[np.ndarray],
                rng: np.random.Generator) -> np.ndarray:
    radius = 0.3
    while True:
        angle, distance = rng.uniform(0, 2 * np.pi), radius * np.sqrt(rng.random())
        offset = distance * np.array([np.cos(angle), 0.0, np.sin(angle)])
        here = moved_supports(shape, offset)
        if all(apart(here, other) for other in others):
            return offset
        radius *= _GROWTH


def _directions() -> np.ndarray:
    angles = 2 * np.pi * np.arange(_DIRECTIONS) / _DIRECTIONS
    return np.stack([np.cos(angles), np.sin(angles)], 1)  # [D, 2] along x and z


def hemisphere_views(scene: CrowdScene, views: int, size: int) -> Cameras:
    """Cameras all around and above, each framed so that it shows everybody and little else."""
    points = np.concatenate([each.points(each.actor.vertices) for each in scene.people])
    low, high = points.min(0), points.max(0)
    reach = 0.5 * float(np.linalg.norm(high - low)) / np.sin(_FOV / 2)
    cameras = Cameras.hemisphere((low + high) / 2, reach, views, fov=_FOV, size=size)
    return cameras.framed(torch.from_numpy(points[::4]).float(), MARGIN)
