# SPDX-License-Identifier: GPL-3.0-or-later
"""The armature of a person: 55 bones with SMPL-X names, posed exactly as the skinning reference.

The armature object stands on the floor below the pelvis and faces where the person faces, so that
its rest pose is a T-pose standing on the spot: rest coordinates are the canonical ones in Blender's
axes plus a rest offset that puts the pelvis over the origin and the soles at height zero. Position
and heading belong to the object; everything else of a pose belongs to the bones.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import cast

import bpy
import numpy as np
from crowdgaussian_shared.geometry.avatar import Avatar
from crowdgaussian_shared.geometry.axes import BLENDER_FROM_SCENE, convert_points, convert_rotations
from crowdgaussian_shared.geometry.rotations import axis_angle_to_matrix
from crowdgaussian_shared.geometry.skeleton import JOINT_NAMES, PARENTS
from crowdgaussian_shared.geometry.skinning import joint_transforms
from mathutils import Matrix

from ..attributes import armature_data
from ..context import aside, override
from .bones import FACE, ROOT, bone_directions, collect_bones

REST_OFFSET = "crowdgaussian_rest_offset"  # armature property: metres, Blender's axes
UNIT = "crowdgaussian_unit"  # of rigs and splats without one: metres in a unit of their scene
PELVIS = JOINT_NAMES[0]
BoneWork = Callable[[bpy.types.ArmatureEditBones], None]


@dataclass(frozen=True)
class RestPose:
    """What an armature is built from."""

    name: str
    joints: np.ndarray  # [55, 3] metres, canonical frame
    floor: float  # metres, canonical height of the soles


def rest_pose(avatar: Avatar, name: str) -> RestPose:
    """The T-pose of an avatar."""
    return RestPose(name, avatar.rest_joints, float(avatar.body.vertices[:, 1].min()))


def build_rigs(
    people: list[RestPose], collections: list[bpy.types.Collection]
) -> list[bpy.types.Object]:
    """All armatures at once. The active object must be in object mode."""
    rigs = []
    for person, collection in zip(people, collections):
        armature = bpy.data.armatures.new(person.name)
        armature.display_type = "STICK"
        rig = bpy.data.objects.new(person.name, armature)
        rig.show_in_front = True
        rig[REST_OFFSET] = _offset(person).tolist()
        collection.objects.link(rig)
        rigs.append(rig)
    if rigs:
        edit_aside(rigs, [partial(_add_bones, person=person) for person in people])
    for rig in rigs:
        rig.select_set(False)
        collect_bones(armature_data(rig))
        armature_data(rig).collections[FACE].is_visible = False  # eyes and jaw lie over the face
    return rigs


def rest_offset(rig: bpy.types.Object) -> np.ndarray:
    """Canonical point in Blender's axes + this = point in the armature's space.  # [3]"""
    return np.array(rig[REST_OFFSET])


def metres_per_unit(scene: bpy.types.Scene) -> float:
    """How long the scene says a unit is."""
    settings = scene.unit_settings
    return 1.0 if settings.system == "NONE" else float(settings.scale_length)


def unit_of(rig: bpy.types.Object) -> float:
    """Metres in a unit of the world that a person stands in; 1 in files of older versions."""
    return float(rig.get(UNIT, 1.0))


def in_metres(rig: bpy.types.Object, matrix: Matrix | np.ndarray) -> np.ndarray:
    """A map into the person's world as one into the same world in metres.  # [4, 4] float64"""
    metres = np.array(matrix, np.float64)
    metres[:3] *= unit_of(rig)
    return metres


def bind_to_rig(obj: bpy.types.Object, rig: bpy.types.Object) -> None:
    """Parent to the rig and deform by its bones."""
    obj.parent = rig
    modifier = cast(bpy.types.ArmatureModifier, obj.modifiers.new("Armature", "ARMATURE"))
    modifier.object = rig
    modifier.use_bone_envelopes = False


def place_rig(
    rig: bpy.types.Object, avatar: Avatar, ground: float = 0.0, unit: float = 1.0
) -> None:
    """Stand the armature object on the floor under the person of the photo, facing as they do.

    Args:
        rig: the person's armature.
        avatar: gives the photo's pose and transl.
        ground: metres, height of the floor.
        unit: metres in a unit of the scene; the object's scale makes up for it.
    """
    transforms = joint_transforms(avatar.rest_joints, avatar.pose, avatar.transl)
    pelvis = transforms[0] @ np.append(avatar.rest_joints[0], 1.0)
    x, y, _ = convert_points(pelvis[:3], "scene", "blender")
    rig.rotation_mode = "XYZ"
    rig.location = (x / unit, y / unit, ground / unit)
    if unit != 1.0:
        rig[UNIT] = unit
        rig.scale = (1 / unit,) * 3
    rig.rotation_euler = (0.0, 0.0, _heading(transforms[0, :3, :3]))


def set_pose(
    rig: bpy.types.Object,
    pose: np.ndarray,
    transl: np.ndarray,
    frame: int | None = None,
    place: np.ndarray | None = None,
) -> None:
    """Pose the bones so that the person is where joint_transforms(rest, pose, transl) puts them.

    The armature object keeps its place; the pelvis bone makes up the difference.

    Args:
        rig: the person's armature.
        pose: [55, 3] axis-angle, radians, SMPL-X convention; pose[0] in the scene frame.
        transl: [3] metres, scene frame.
        frame: key every bone at this frame; None sets the pose without keys.
        place: [4, 4] Blender's axes, metres, where the armature object is taken to stand; None for
            where it stands, with its root.
    """
    turns = axis_angle_to_matrix(np.asarray(pose, np.float64))
    turns = convert_rotations(turns, "scene", "blender")  # [55, 3, 3]
    for name, turn in zip(JOINT_NAMES[1:], turns[1:]):
        bone = rig.pose.bones[name]
        rest = np.array(bone.bone.matrix_local.to_3x3())
        bone.rotation_quaternion = Matrix((rest.T @ turn @ rest).tolist()).to_quaternion()
    place = standing_place(rig) if place is None else place
    _set_pelvis(rig, turns[0], np.asarray(transl, np.float64), place)
    if frame is not None:
        _key(rig, frame)


def _set_pelvis(
    rig: bpy.types.Object, turn: np.ndarray, transl: np.ndarray, place: np.ndarray
) -> None:
    bone = rig.pose.bones[PELVIS]
    rest = np.array(bone.bone.matrix_local)
    offset = rest_offset(rig)
    joint = rest[:3, 3] - offset  # canonical pelvis in Blender's axes
    world = np.eye(4)  # canonical in Blender's axes -> world
    world[:3, :3] = turn
    world[:3, 3] = joint - turn @ joint + BLENDER_FROM_SCENE @ transl
    world = world @ np.array(Matrix.Translation((-offset).tolist()))  # armature rest -> world
    basis = np.linalg.inv(rest) @ np.linalg.inv(place) @ world @ rest
    location, rotation, _ = Matrix(basis.tolist()).decompose()
    bone.location = location
    bone.rotation_quaternion = rotation


def standing_place(rig: bpy.types.Object) -> np.ndarray:
    """Where a person without a pose stands: the object, whose place is not evaluated, and root.

    Armature -> world in metres.  # [4, 4]
    """
    place = rig.matrix_basis
    if rig.parent is not None:
        place = rig.parent.matrix_world @ rig.matrix_parent_inverse @ place
    if ROOT in rig.pose.bones:
        place = place @ rig.pose.bones[ROOT].matrix
    return in_metres(rig, place)


def _key(rig: bpy.types.Object, frame: int) -> None:
    for bone in rig.pose.bones:
        bone.keyframe_insert("rotation_quaternion", frame=frame, group=bone.name)
    rig.pose.bones[PELVIS].keyframe_insert("location", frame=frame, group=PELVIS)


def _heading(rotation: np.ndarray) -> float:
    """The turn about the vertical nearest to a scene-frame rotation, in radians."""
    return float(np.arctan2(rotation[0, 2] - rotation[2, 0], rotation[0, 0] + rotation[2, 2]))


def _offset(person: RestPose) -> np.ndarray:
    x, y, _ = convert_points(np.asarray(person.joints[0], np.float64), "scene", "blender")
    return np.array([-x, -y, -person.floor])


def edit_aside(rigs: list[bpy.types.Object], works: list[BoneWork]) -> None:
    """Work on the edit bones of rigs, each its own, without evaluating the artist's scene.

    Args:
        rigs: all in object mode.
        works: what to do to each.
    """
    with aside() as scene:
        for rig in rigs:
            scene.collection.objects.link(rig)
            rig.select_set(True, view_layer=scene.view_layers[0])
        scene.view_layers[0].objects.active = rigs[0]
        with override(active_object=rigs[0], object=rigs[0]):
            bpy.ops.object.mode_set(mode="EDIT")
            for rig, work in zip(rigs, works):
                work(armature_data(rig).edit_bones)
            bpy.ops.object.mode_set(mode="OBJECT")


def _add_bones(bones: bpy.types.ArmatureEditBones, person: RestPose) -> None:
    heads = convert_points(np.asarray(person.joints, np.float64), "scene", "blender")
    heads = heads + _offset(person)
    tails, rolls = bone_directions(heads)
    for name, parent, head, tail, roll in zip(JOINT_NAMES, PARENTS, heads, tails, rolls):
        bone = bones.new(name)
        bone.head, bone.tail = head, tail
        bone.align_roll(roll)
        if parent >= 0:
            bone.parent = bones[JOINT_NAMES[parent]]
