# SPDX-License-Identifier: GPL-3.0-or-later
"""People and poses as assets with pictures, in catalogues beside the .blend file."""

from collections.abc import Iterator

import bpy
import numpy as np
from crowdgaussian_shared.avatar import BodyMesh
from crowdgaussian_shared.skinning import joint_transforms, skin_gaussians

from . import catalogue
from .asset_picture import paint_person, paint_pose, set_preview
from .motion import standing_photo
from .people import Person, read_avatar, read_body
from .poses import add_pose_asset, library_poses, on_floor, pose_assets
from .posing import PHOTO_POSE, read_rest_joints


def add_pose(name: str, pose: np.ndarray, person: Person) -> None:
    """One pose asset with its picture, in place of one of the same name."""
    body = None if person.body is None else read_body(person)
    _replace({name: _make_pose(name, pose, person, body)})


def _make_pose(
    name: str, pose: np.ndarray, person: Person, body: BodyMesh | None
) -> bpy.types.Action:
    action = add_pose_asset(name, pose, person, catalogue.POSES)
    if body is not None:
        still = on_floor(pose, person, name)
        set_preview(action, paint_pose(body, read_rest_joints(person.rig), still))
    return action


def _replace(added: dict[str, bpy.types.Action]) -> None:
    """New pose assets take the place and the names of older ones."""
    fresh = set(added.values())
    for old in [a for a in pose_assets() if a.name in added and a not in fresh]:
        bpy.data.actions.remove(old)
    for name, action in added.items():
        action.name = name


def add_library(people: list[Person]) -> Iterator[tuple[float, str]]:
    """The poses of the add-on and everybody's photo pose, as assets; all or none.

    Yields:
        The fraction done, and the next pose.
    """
    poses = {name: (pose, person) for person in reversed(people)
             for name, pose in library_poses(person).items()}  # fmt: skip
    models = {person for _, person in poses.values() if person.body is not None}
    bodies = {person: read_body(person) for person in models}
    added: dict[str, bpy.types.Action] = {}
    done = False
    try:
        for number, (name, (pose, person)) in enumerate(poses.items()):
            yield number / len(poses), name
            added[name] = _make_pose(name, pose, person, bodies.get(person))
        done = True
    finally:
        if not done:
            for action in added.values():
                bpy.data.actions.remove(action)
    _replace(added)


def mark_person(person: Person) -> None:
    """The person's collection becomes an asset with a picture of them in the photo's pose.

    Raises:
        CrowdGaussianError: splats or body were deleted.
    """
    picture = paint_person(_posed(person))
    collection = person.collection
    collection.asset_mark()
    data = collection.asset_data
    data.catalog_id, data.author = catalogue.PEOPLE, "CrowdGaussian"
    data.description = "A rigged person of Gaussian splats"
    set_preview(collection, picture)


def unmark_person(person: Person) -> None:
    """Undoes mark_person."""
    person.collection.asset_clear()


def _posed(person: Person):
    avatar = read_avatar(person)
    pose, transl = avatar.pose, avatar.transl
    if PHOTO_POSE in person.rig:
        still = standing_photo(person)
        pose, transl = still.poses[0], still.transl[0]
    transforms = joint_transforms(avatar.rest_joints, pose, transl)
    return skin_gaussians(avatar.gaussians, avatar.skin_joints, avatar.skin_weights, transforms)
