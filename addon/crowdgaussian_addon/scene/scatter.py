# SPDX-License-Identifier: GPL-3.0-or-later
"""Many copies of a few people: instances of actors, each with its place, heading and size."""

from collections.abc import Iterator
from dataclasses import dataclass

import bpy
import numpy as np
from crowdgaussian_shared.errors import CrowdGaussianError

from .actors import ACTOR, Variation, make_actor
from .people import Person
from .scatter_places import Places

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
        CrowdGaussianError: somebody has no splats.
    """
    for person in people:
        if person.splats is None:
            raise CrowdGaussianError(
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
    return (obj is not None and obj.instance_collection is not None
            and ACTOR in obj.instance_collection)


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
    order = np.concatenate([rng.permutation(len(actors))
                            for _ in range(len(places.points) // len(actors) + 1)])
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
