# SPDX-License-Identifier: GPL-3.0-or-later
"""Corrections of a crowd: what an artist changed, and a new result brought in for them alone.

Only people whom a correction names get new meshes, in the objects they have: names, places,
selection, modifiers, materials and actions stay. Nobody else's data is touched.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import bpy
import numpy as np
from crowdgaussian_shared.errors import InputError
from crowdgaussian_shared.geometry.avatar import Avatar
from crowdgaussian_shared.geometry.axes import convert_points
from crowdgaussian_shared.geometry.rotations import axis_angle_to_matrix
from crowdgaussian_shared.geometry.skeleton import JOINT_NAMES
from crowdgaussian_shared.scene.edit import Box, PoseEdit, SceneEdit, box_below_face
from crowdgaussian_shared.scene.folder import SceneFolder

from .attributes import armature_data, mesh_data
from .importer import GONE, MISSING, SOURCE, WARNINGS, add_people, note_result, photo_footprint
from .people import REFINED, Person, all_people
from .render.display import renew_reduced, splat_objects
from .render.relight import is_lit, set_lit
from .rig.armature import rest_offset, set_pose
from .rig.body import build_body
from .rig.bones import bone_directions
from .rig.read_pose import (
    PHOTO_FRAME,
    PHOTO_POSE,
    photo_pose,
    read_pose,
    read_rest_joints,
    store_photo_pose,
    world_scale,
)
from .splats.build import build_splats, set_footprint, splat_modifier
from .splats.nodes.project import splat_node_group

_TURN = 0.01  # radians, from which on a joint counts as posed
_MOVE = 0.004  # metres, from which on somebody counts as moved
_REST = 1e-4  # metres between rest joints that need no new bones


def crowd_of(person: Person) -> bpy.types.Collection | None:
    """The crowd that a person was imported with; None for copies and people of elsewhere."""
    if person.index < 0:
        return None
    crowds = (c for c in bpy.data.collections if c.get(SOURCE) is not None)
    return next((c for c in crowds if person.collection in list(c.children_recursive)), None)


def crowds_in(scene: bpy.types.Scene) -> list[bpy.types.Collection]:
    """All crowds of a scene that came from a photo."""
    return [c for c in scene.collection.children_recursive if c.get(SOURCE) is not None]


def crowd_from(source: str) -> bpy.types.Collection | None:
    """The crowd that shows a scene folder now."""
    return next((c for c in bpy.data.collections if c.get(SOURCE) == source), None)


def people_in(crowd: bpy.types.Collection, scene: bpy.types.Scene) -> dict[int, Person]:
    """The people of a crowd who have their rigs, by their numbers in scene.json."""
    found: dict[int, Person] = {}
    inside = set(crowd.children_recursive)
    for person in all_people(scene):
        if person.index >= 0 and person.collection in inside:
            found.setdefault(person.index, person)
    return found


def left_out(crowd: bpy.types.Collection) -> list[int]:
    """Who was left out of a crowd, and can be brought back."""
    return [int(index) for index in crowd.get(GONE, ())]


def warnings_in(crowd: bpy.types.Collection) -> tuple[list[str], dict[int, list[str]]]:
    """What is worth a look: about the scene, and about people by their numbers in scene.json."""
    said = json.loads(crowd.get(WARNINGS, "{}"))
    return said.pop("", []), {int(name): sentences for name, sentences in said.items()}


def boxes_of_missed(crowd: bpy.types.Collection) -> dict[str, Box]:
    """Around people who were probably missed, in pixels of the photo, by the warning's sentence."""
    faces = json.loads(crowd.get(MISSING, "{}"))
    return {sentence: box_below_face(tuple(face)) for sentence, face in faces.items()}


def is_changed(rig: bpy.types.Object, depsgraph: bpy.types.Depsgraph | None = None) -> bool:
    """Whether somebody stands or is posed other than in the photo, at this frame.

    Raises:
        InputError: the rig lacks bones or carries no photo pose.
    """
    return not _same_pose(read_pose(rig, depsgraph), photo_pose(rig))


def pose_edit(person: Person) -> PoseEdit:
    """Pose and place as seen now, as a correction.

    Raises:
        InputError: the person is scaled, so that no pose says how they look.
    """
    if abs(world_scale(person.rig) - 1.0) > 1e-3:
        raise InputError(
            f"{person.name} is scaled; set the scale of the rig to 1, then press Refit."
        )
    return PoseEdit(*read_pose(person.rig))


def bring_in(
    crowd: bpy.types.Collection, folder: SceneFolder, step: SceneEdit, scene: bpy.types.Scene
) -> list[str]:
    """Shows the result of a correction.

    Args:
        crowd: as it was before.
        folder: with the step in it.
        step: the last one.
        scene: that the crowd is in.

    Returns:
        One sentence for each person of the step who is not as wanted.

    Raises:
        CrowdGaussianError: an avatar cannot be read; nothing is changed then.
    """
    info = folder.info
    touched = step.touched(len(info.people) - len(step.boxes))
    avatars = {i: folder.read_avatar(i) for i in touched if info.people[i].state == "done"}
    said = [
        f"Person {i} was not built: {info.people[i].error}" for i in touched if i not in avatars
    ]
    here = people_in(crowd, scene)
    for index in step.excluded:
        if index in here:
            remove_person(here[index], crowd)
    new = {}
    for index, avatar in avatars.items():
        if index in here:
            take_result(here[index], folder, avatar)
        elif index in step.corrected:
            said.append(f"Person {index} is not in the crowd any more; Import Again has them.")
        else:
            new[index] = avatar
    if new:
        add_people(crowd, folder, new)
    note_result(crowd, folder)
    return said


def take_result(person: Person, folder: SceneFolder, avatar: Avatar) -> None:
    """Another avatar of the same scene in the objects of a person."""
    info = folder.info
    renew(person, avatar, photo_footprint(avatar, info.camera.to_camera()))
    person.collection[REFINED] = info.people[person.index].refinement == "refined"


def renew(person: Person, avatar: Avatar, footprint: float) -> None:
    """Another avatar in the objects of a person.

    Args:
        person: whose rig is there.
        avatar: the new one.
        footprint: metres, as splats.set_footprint takes it.
    """
    rig, before = person.rig, _photo_pose_or_now(person.rig)
    if np.abs(read_rest_joints(rig) - avatar.rest_joints).max() > _REST:
        _move_joints(rig, avatar.rest_joints)
    if person.body is not None:
        _take_mesh(person.body, build_body(avatar, rig, person.body.data.name))
    if person.splats is not None:
        _take_mesh(person.splats, build_splats(avatar, rig, person.splats.data.name))
        degree = avatar.gaussians.sh_degree
        modifier = splat_modifier(person.splats)
        if modifier is not None:
            modifier.node_group = splat_node_group(degree)
            set_footprint(person.splats, footprint)
            if is_lit(person):
                set_lit(person, True)
        renew_reduced(person)
    _follow(rig, before, avatar)
    store_photo_pose(rig, avatar)


def remove_person(person: Person, crowd: bpy.types.Collection) -> None:
    """Takes somebody out of the scene; their actions, and an artist's own objects, stay."""
    collection, data = person.collection, person.rig.animation_data
    if data is not None and data.action is not None:
        data.action.use_fake_user = True
    for obj in {*splat_objects(person), *person.objects}:
        bpy.data.objects.remove(obj)
    for obj in list(collection.objects):
        if obj.name not in crowd.objects:
            crowd.objects.link(obj)
    for child in list(collection.children):
        crowd.children.link(child)
    bpy.data.collections.remove(collection)


def _take_mesh(obj: bpy.types.Object, scratch: bpy.types.Object) -> None:
    """Weights live in the mesh, so it is all that has to change hands."""
    old, name = mesh_data(obj), obj.data.name
    obj.data = scratch.data
    bpy.data.objects.remove(scratch)
    if not old.users:
        bpy.data.meshes.remove(old)
    obj.data.name = name


def _photo_pose_or_now(rig: bpy.types.Object) -> tuple[np.ndarray, np.ndarray]:
    return photo_pose(rig) if rig.get(PHOTO_POSE) is not None else read_pose(rig)


def _follow(rig: bpy.types.Object, before: tuple, avatar: Avatar) -> None:
    """The keyed photo pose becomes the corrected one; whoever was posed since stays as they are."""
    now, wanted = read_pose(rig), (avatar.pose, avatar.transl)
    if not (_same_pose(now, wanted) or _same_pose(now, before)):
        return
    if _wears_photo_pose(rig):
        set_pose(rig, avatar.pose, avatar.transl, frame=PHOTO_FRAME)
    elif rig.animation_data is None or rig.animation_data.action is None:
        set_pose(rig, avatar.pose, avatar.transl)


def _wears_photo_pose(rig: bpy.types.Object) -> bool:
    """Whether the active action is the single key of the import."""
    action = rig.animation_data.action if rig.animation_data is not None else None
    return action is not None and tuple(action.frame_range[:]) == (PHOTO_FRAME, PHOTO_FRAME)


def _same_pose(a: tuple, b: tuple) -> bool:
    turns = [axis_angle_to_matrix(np.asarray(pose, np.float64)) for pose, _ in (a, b)]
    cosines = (np.einsum("jik,jik->j", *turns) - 1) / 2
    moved = np.linalg.norm(np.asarray(a[1], np.float64) - np.asarray(b[1], np.float64))
    return bool(cosines.min() > np.cos(_TURN) and moved < _MOVE)


def _move_joints(rig: bpy.types.Object, joints: np.ndarray) -> None:
    """Another T-pose for the same bones."""
    if not rig.visible_get():
        raise InputError(f"{rig.name} is hidden; show it, then press Import Again.")
    heads = convert_points(np.asarray(joints, np.float64), "scene", "blender") + rest_offset(rig)
    tails, rolls = bone_directions(heads)
    layer = bpy.context.view_layer
    selected, active = [o for o in layer.objects if o.select_get()], layer.objects.active
    _select([rig], rig)
    bpy.ops.object.mode_set(mode="EDIT")
    for name, head, tail, roll in zip(JOINT_NAMES, heads, tails, rolls):
        bone = armature_data(rig).edit_bones[name]
        bone.head, bone.tail = head, tail
        bone.align_roll(roll)
    bpy.ops.object.mode_set(mode="OBJECT")
    _select(selected, active)


def _select(objects: Iterable[bpy.types.Object], active: bpy.types.Object | None) -> None:
    layer = bpy.context.view_layer
    for obj in list(layer.objects):
        obj.select_set(False)
    for obj in objects:
        obj.select_set(True)
    layer.objects.active = active


def source_of(crowd: bpy.types.Collection) -> Path:
    """The scene folder that a crowd shows."""
    return Path(crowd[SOURCE])
