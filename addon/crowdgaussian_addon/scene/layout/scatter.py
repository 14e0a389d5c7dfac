# SPDX-License-Identifier: GPL-3.0-or-later
"""Many copies of a few people: instances of actors, each with its place, heading and size."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import bpy
import numpy as np
from crowdgaussian_shared.errors import InputError

from ..attributes import mesh_data
from ..people import Person
from .instances import ACTOR, Variation, make_actor

# Where scattered copies stand: on a surface, or along a curve

_STEEPEST = 0.5  # cosine of 60 degrees: nobody stands on anything steeper
_TRIES = 30  # points tried for each copy before it counts as having no room


@dataclass(frozen=True)
class Places:
    """Spots for copies."""

    points: np.ndarray  # [C, 3] world, metres
    headings: np.ndarray  # [C] radians about z; 0 faces -y


def places_on_surface(
    surface: bpy.types.Object, count: int, spacing: float, rng: np.random.Generator
) -> Places:
    """Random spots on the faces that somebody can stand on; fewer than asked when there is no room.

    Args:
        surface: a mesh object.
        count: how many are wanted.
        spacing: metres, the least distance between two.
        rng: chooses.

    Raises:
        InputError: not a mesh, or without any face that is not too steep.
    """
    if surface.type != "MESH":
        raise InputError(f"{surface.name} is not a mesh; choose a mesh object to scatter over.")
    corners = _triangles(surface)  # [T, 3, 3]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    areas = np.linalg.norm(normals, axis=1)
    areas = np.where(np.abs(normals[:, 2]) > _STEEPEST * areas, areas, 0.0)
    if not areas.sum() > 0:
        raise InputError(f"{surface.name} has no face to stand on; choose another surface.")
    tried = rng.choice(len(areas), _TRIES * count, p=areas / areas.sum())
    u, v = rng.random((2, len(tried), 1))
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    a, b, c = corners[tried].transpose(1, 0, 2)
    points = _apart(a + u * (b - a) + v * (c - a), count, spacing)
    return Places(points, rng.uniform(-np.pi, np.pi, len(points)))


def places_along_curve(
    curve: bpy.types.Object, count: int, width: float, rng: np.random.Generator
) -> Places:
    """Spots at even distances along a curve, facing where it leads.

    Args:
        curve: a curve object.
        count: how many.
        width: metres that spots may lie to the left or right of it.
        rng: chooses how far.

    Raises:
        InputError: not a curve, or one without any length.
    """
    if curve.type != "CURVE":
        raise InputError(f"{curve.name} is not a curve; choose a curve to scatter along.")
    starts, ends = _segments(curve)
    lengths = np.linalg.norm(ends - starts, axis=1)
    if not lengths.sum() > 0:
        raise InputError(f"{curve.name} has no length; add points to it.")
    reach = np.cumsum(lengths)
    wanted = (np.arange(count) + 0.5) / count * reach[-1]
    segment = np.minimum(np.searchsorted(reach, wanted), len(lengths) - 1)
    part = (wanted - reach[segment] + lengths[segment]) / np.maximum(lengths[segment], 1e-9)
    along = (ends - starts)[segment]
    flat = along[:, :2] / np.maximum(np.linalg.norm(along[:, :2], axis=1, keepdims=True), 1e-9)
    points = starts[segment] + part[:, None] * along
    aside = rng.uniform(-width, width, count)[:, None]
    points[:, :2] += aside * np.stack([-flat[:, 1], flat[:, 0]], axis=1)
    return Places(points, np.arctan2(flat[:, 0], -flat[:, 1]))


def _apart(points: np.ndarray, count: int, spacing: float) -> np.ndarray:
    kept = np.empty((count, 3))
    number = 0
    for point in points:
        if number == count:
            break
        if number == 0 or np.linalg.norm(kept[:number] - point, axis=1).min() >= spacing:
            kept[number] = point
            number += 1
    return kept[:number]


def _triangles(surface: bpy.types.Object) -> np.ndarray:
    """Triangles of the evaluated mesh in the world.  # [T, 3, 3]"""
    evaluated = surface.evaluated_get(bpy.context.evaluated_depsgraph_get())
    mesh = mesh_data(evaluated)
    mesh.calc_loop_triangles()
    corners = np.empty(3 * len(mesh.loop_triangles), np.int32)
    mesh.loop_triangles.foreach_get("vertices", corners)
    places = np.empty(3 * len(mesh.vertices), np.float32)
    mesh.vertices.foreach_get("co", places)
    world = np.array(evaluated.matrix_world)
    points = places.reshape(-1, 3).astype(np.float64) @ world[:3, :3].T + world[:3, 3]
    return points[corners].reshape(-1, 3, 3)


def _segments(curve: bpy.types.Object) -> tuple[np.ndarray, np.ndarray]:
    """Starts and ends of the curve's pieces in the world, without bevel.  # [S, 3] each"""
    data = cast(bpy.types.Curve, curve.data).copy()
    data.bevel_depth, data.extrude, data.bevel_object, data.taper_object = 0.0, 0.0, None, None
    data.dimensions = "3D"  # a flat curve would be filled
    scratch = bpy.data.objects.new("scratch", data)
    mesh = scratch.to_mesh()  # None for a curve without points
    places = np.empty(3 * len(mesh.vertices) if mesh else 0, np.float32)
    edges = np.empty(2 * len(mesh.edges) if mesh else 0, np.int32)
    if mesh:
        mesh.vertices.foreach_get("co", places)
        mesh.edges.foreach_get("vertices", edges)
        scratch.to_mesh_clear()
    bpy.data.objects.remove(scratch)
    bpy.data.curves.remove(data)
    world = np.array(curve.matrix_world)
    points = places.reshape(-1, 3).astype(np.float64) @ world[:3, :3].T + world[:3, 3]
    ends = edges.reshape(-1, 2)
    return points[ends[:, 0]], points[ends[:, 1]]


COPIES = "crowdgaussian_copies"  # property of a collection of copies


@dataclass(frozen=True)
class ScatterOptions:
    """How copies differ."""

    variants: int = 2  # actors of each person
    delay: int = 24  # frames, at most, that an actor's motion is ahead
    bend: float = 0.12  # radians, typical turn of a joint of the upper body
    turn: float = 0.2  # radians, at most, away from the place's heading
    size: float = 0.05  # at most so much larger or smaller
    reduced: bool = False  # a quarter of the splats
    seed: int = 0


def scatter(
    scene: bpy.types.Scene, people: list[Person], places: Places, options: ScatterOptions
) -> Iterator[tuple[float, str]]:
    """Instance people at places, in steps; the copies are in the scene after the last step.

    Closed early it removes the actors that it has made.

    Raises:
        InputError: somebody has no splats.
    """
    for person in people:
        if person.splats is None:
            raise InputError(
                f"{person.name} has no splats any more; undo that or import the crowd again."
            )
    rng = np.random.default_rng(options.seed)
    actors: list[bpy.types.Collection] = []
    done = False
    try:
        count = len(people) * options.variants
        for number in range(count):
            person = people[number % len(people)]
            yield number / count, person.name
            actors.append(make_actor(scene, person, _variation(number, people, options, rng)))
        _instance(scene, actors, places, options, rng)
        done = True
    finally:
        if not done:
            _remove(actors)


def is_copy(obj: bpy.types.Object | None) -> bool:
    """Whether an object is a scattered copy."""
    return (
        obj is not None
        and obj.instance_collection is not None
        and obj.instance_collection.get(ACTOR) is not None
    )


def _variation(
    number: int, people: list[Person], options: ScatterOptions, rng: np.random.Generator
) -> Variation:
    """The first actor of each person is the person as they are."""
    if number < len(people):
        return Variation(0, 0.0, 0, options.reduced)
    delay, seed = int(rng.integers(0, options.delay + 1)), int(rng.integers(1 << 31))
    return Variation(delay, options.bend, seed, options.reduced)


def _instance(
    scene: bpy.types.Scene,
    actors: list[bpy.types.Collection],
    places: Places,
    options: ScatterOptions,
    rng: np.random.Generator,
) -> None:
    copies = bpy.data.collections.new("Crowd copies")
    copies[COPIES] = True
    scene.collection.children.link(copies)
    order = np.concatenate(
        [rng.permutation(len(actors)) for _ in range(len(places.points) // len(actors) + 1)]
    )
    for point, heading, number in zip(places.points, places.headings, order):
        actor = actors[number]
        copy = bpy.data.objects.new(actor.name.replace(" actor", " copy"), None)
        copy.instance_type, copy.instance_collection = "COLLECTION", actor
        copy.empty_display_size = 0.15
        copy.location = point
        copy.rotation_euler = (0.0, 0.0, heading + rng.uniform(-options.turn, options.turn))
        copy.scale = [1.0 + rng.uniform(-options.size, options.size)] * 3
        copies.objects.link(copy)


def _remove(actors: list[bpy.types.Collection]) -> None:
    for actor in actors:
        for obj in list(actor.objects):
            bpy.data.objects.remove(obj)
        bpy.data.collections.remove(actor)
