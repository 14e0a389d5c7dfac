# SPDX-License-Identifier: Apache-2.0
"""Scenes of several people who stand close together without going through one another."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from crowdgaussian_shared.geometry.avatar import BodyParams, Gaussians
from crowdgaussian_shared.geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX

from ..body import BodyModel
from ..body.model import pose_body
from ..body.parts import find_regions
from ..core.mesh import face_normals, unit, vertex_normals
from ..splat.cameras import Cameras
from .people import draw_parameters, dress, lit, on_floor, paint, spread_points, surface_gaussians

# The people of a training scene: a coloured surface, and the body that is known to be in it

_LIVELY = 0.5  # of people do more than stand about
_FINE = 0.7  # of the usual width of a surface Gaussian, so that outlines stay where they are
_HIGHEST = 1.15  # sRGB; paint that light may still darken


@dataclass(frozen=True)
class Actor:
    """One person, standing on the floor over the origin."""

    vertices: np.ndarray  # [V, 3] metres
    faces: np.ndarray  # [F, 3]
    face_colours: np.ndarray  # [F, 3] sRGB, before the scene's light where `unlit`
    unlit: bool  # False: light is in the colours already
    body: BodyModel
    params: BodyParams  # of the body in the same place
    body_vertices: np.ndarray  # [Vb, 3] metres


@dataclass(frozen=True)
class PlacedActor:
    """An actor somewhere on the floor."""

    actor: Actor
    yaw: float  # radians about the vertical
    offset: np.ndarray  # [3] metres

    @property
    def rotation(self) -> np.ndarray:
        """[3, 3]"""
        return axis_angle_to_matrix(np.array([0.0, self.yaw, 0.0]))

    def points(self, local: np.ndarray) -> np.ndarray:
        """Points of the actor in the scene.  # [N, 3]"""
        return local @ self.rotation.T + self.offset


def made_up_actor(body: BodyModel, rng: np.random.Generator) -> Actor:
    """Somebody who does not exist."""
    parameters = draw_parameters(body, rng)
    if rng.random() < _LIVELY:
        parameters = on_floor(body, parameters.betas, _lively(parameters.pose, rng))
    return painted_actor(body, parameters, rng, unlit=True)


def painted_actor(
    body: BodyModel, parameters: BodyParams, rng: np.random.Generator, unlit: bool
) -> Actor:
    """Somebody in clothes that lie on the body; without `unlit` in the usual light."""
    posed = pose_body(body, parameters)
    regions = find_regions(body, posed)
    dressed = dress(posed, regions, rng)
    colours = paint(posed, regions, rng)
    if unlit:
        colours = colours.clip(0.02, _HIGHEST)
    else:
        colours = lit(colours, vertex_normals(posed.rest, posed.faces))
    return Actor(
        posed.pose_points(dressed),
        posed.faces,
        colours[posed.faces].mean(1),
        unlit,
        body,
        parameters,
        posed.pose_points(posed.rest),
    )


def _lively(pose: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Walks, bends, lifts arms."""
    pose = pose.copy()
    for side, sign in (("left", -1), ("right", 1)):
        pose[JOINT_INDEX[f"{side}_shoulder"]] += (
            0,
            sign * rng.uniform(0, 0.8),
            sign * rng.uniform(-1.3, 0.3),
        )
        pose[JOINT_INDEX[f"{side}_elbow"]] += 0, sign * rng.uniform(0, 1.3), 0
        pose[JOINT_INDEX[f"{side}_hip"]] += rng.uniform(-0.7, 0.2), 0, 0
        pose[JOINT_INDEX[f"{side}_knee"]] += rng.uniform(0, 0.8), 0, 0
    pose[JOINT_INDEX["spine1"]] += rng.uniform(0, 0.3), rng.normal(0, 0.2), rng.normal(0, 0.1)
    return pose


def moved_body(
    body: BodyModel, given: BodyParams, rotation: np.ndarray, offset: np.ndarray
) -> BodyParams:
    """The parameters of a body after its points went through rotation [3, 3] and offset [3]."""
    pelvis = pose_body(body, given).joints[0]
    pose = given.pose.astype(np.float64).copy()
    pose[0] = matrix_to_axis_angle(rotation @ axis_angle_to_matrix(pose[0]))
    transl = rotation @ (pelvis + given.transl) + offset - pelvis
    return BodyParams(given.betas, pose.astype(np.float32), transl.astype(np.float32), given.scale)


def turned_to_front(actor: Actor) -> Actor:
    """The same person turned about the vertical until the body's front faces +z."""
    front = axis_angle_to_matrix(actor.params.pose[0].astype(np.float64))[:, 2]
    turn = axis_angle_to_matrix(np.array([0.0, -np.arctan2(front[0], front[2]), 0.0]))
    return replace(
        actor,
        vertices=actor.vertices @ turn.T,
        params=moved_body(actor.body, actor.params, turn, np.zeros(3)),
        body_vertices=actor.body_vertices @ turn.T,
    )


def face_light(placed: PlacedActor, light: np.ndarray, direct: float) -> np.ndarray:
    """The colours of a person's faces in the scene's light.  # [F, 3] sRGB 0..1"""
    actor = placed.actor
    if not actor.unlit:
        return actor.face_colours
    normals = unit(face_normals(placed.points(actor.vertices), actor.faces))
    return lit(actor.face_colours, normals, tuple(light), direct)


def clean_gaussians(
    placed: PlacedActor, colours: np.ndarray, count: int, rng: np.random.Generator
) -> Gaussians:
    """Dense Gaussians on a person's surface.

    Args:
        placed: the person.
        colours: of the faces, lit.  # [F, 3]
        count: how many Gaussians.
        rng: where they lie.
    """
    vertices, faces = placed.points(placed.actor.vertices), placed.actor.faces
    normals = face_normals(vertices, faces)
    areas = np.linalg.norm(normals, axis=1) / 2
    chosen, shares = spread_points(areas, count, rng)
    points = np.einsum("nk,nkc->nc", shares, vertices[faces[chosen]])
    return surface_gaussians(
        points, unit(normals[chosen]), colours[chosen], _FINE * float(np.sqrt(areas.sum() / count))
    )


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

    people: tuple[PlacedActor, ...]
    light: np.ndarray  # [3] direction to it
    direct: float  # share of the light that comes from there


def compose(draw_actor: DrawActor, people: tuple[int, int], rng: np.random.Generator) -> CrowdScene:
    """A scene of somebody drawn anew each time.

    Args:
        draw_actor: makes a person.
        people: fewest and most.
        rng: decides everything.
    """
    placed: list[PlacedActor] = []
    shapes: list[np.ndarray] = []
    for _ in range(int(rng.integers(people[0], people[1] + 1))):
        actor = _newcomer(draw_actor, placed, rng)
        yaw = rng.uniform(-np.pi, np.pi)
        turned = PlacedActor(actor, yaw, np.zeros(3))
        own = supports(turned.points(actor.vertices))
        offset = _free_place(own, shapes, rng)
        placed.append(PlacedActor(actor, yaw, offset))
        shapes.append(moved_supports(own, offset))
    light = np.array([rng.normal(0, 0.4), 1.0, 0.5 + rng.normal(0, 0.4)])
    return CrowdScene(tuple(placed), light, float(rng.uniform(*_DIRECT)))


def _newcomer(draw_actor: DrawActor, placed: list[PlacedActor], rng: np.random.Generator) -> Actor:
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


def _free_place(
    shape: np.ndarray, others: list[np.ndarray], rng: np.random.Generator
) -> np.ndarray:
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
