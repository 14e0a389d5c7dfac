# SPDX-License-Identifier: GPL-3.0-or-later
"""A crowd that grows while its job runs: each person comes in when they are finished, and gets
other splats in the same objects when they have been refined.

Nothing here keeps a Blender object: a crowd is found again by the job id that its collection
carries, so undo, redo and loading a file do no harm.
"""

import bpy
from crowdgaussian_shared.scene.folder import SceneFolder

from .corrections import people_in, take_result
from .importer import (
    PERSON,
    SOURCE,
    ImportedPerson,
    ImportResult,
    add_people,
    import_scene,
    start_crowd,
)
from .people import REFINED
from .shot import Shot

JOB = "crowdgaussian_job"  # collection property


def find_crowd(job: str) -> bpy.types.Collection | None:
    """The crowd of a job in this file."""
    return next((c for c in bpy.data.collections if c.get(JOB) == job), None)


def within_reach(crowd: bpy.types.Collection) -> bool:
    """Whether people can be added: the crowd is in the active view layer and not excluded."""
    layers = [bpy.context.view_layer.layer_collection]
    while layers:
        layer = layers.pop()
        if layer.collection == crowd:
            return not layer.exclude
        layers.extend(layer.children)
    return False


def waiting_people(folder: SceneFolder, imported: tuple[int, ...]) -> list[int]:
    """Finished people that have not been imported, in the order of scene.json."""
    people = enumerate(folder.info.people)
    return [i for i, person in people if person.state == "done" and i not in imported]


def refined_people(folder: SceneFolder) -> list[int]:
    """Whose avatars are refined, as scene.json says."""
    people = enumerate(folder.info.people)
    return [i for i, person in people if person.state == "done" and person.refinement == "refined"]


def refined_in(crowd: bpy.types.Collection) -> tuple[int, ...]:
    """Who shows a refined avatar in a crowd."""
    return tuple(
        sorted(
            c[PERSON]
            for c in crowd.children_recursive
            if c.get(PERSON) is not None and c.get(REFINED)
        )
    )


def people_of(crowd: bpy.types.Collection) -> tuple[int, ...]:
    """Who is in a crowd, as in scene.json."""
    return tuple(sorted(c[PERSON] for c in crowd.children_recursive if c.get(PERSON) is not None))


def grow_crowd(folder: SceneFolder, job: str, index: int, shot: Shot) -> ImportedPerson:
    """Brings one finished person in; the first one brings camera and floor, and starts the shot.

    Raises:
        CrowdGaussianError: the person's file cannot be read, or the scene has no camera.
    """
    avatar = folder.read_avatar(index)
    crowd = find_crowd(job)
    if crowd is None:
        crowd = start_crowd(folder, shot)
        crowd[JOB] = job
    return add_people(crowd, folder, {index: avatar})[0]


def take_refined(folder: SceneFolder, job: str, index: int) -> bool:
    """Shows the refined avatar of somebody who came in before -> whether they are there.

    A crowd that was corrected meanwhile shows another folder and is left alone.

    Raises:
        CrowdGaussianError: the person's file cannot be read.
    """
    avatar, crowd = folder.read_avatar(index), find_crowd(job)
    if crowd is None or crowd[SOURCE] != str(folder.path.resolve()):
        return False
    person = people_in(crowd, bpy.context.scene).get(index)
    if person is None:
        return False
    take_result(person, folder, avatar)
    return True


def import_again(folder: SceneFolder, job: str, shot: Shot) -> ImportResult:
    """Everybody once more, in a crowd of their own that takes the job's later people.

    Raises:
        CrowdGaussianError: the scene cannot be read.
    """
    result = import_scene(folder, shot)
    older = find_crowd(job)
    if older is not None:
        del older[JOB]
    result.collection[JOB] = job
    return result
