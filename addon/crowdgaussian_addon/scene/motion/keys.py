# SPDX-License-Identifier: GPL-3.0-or-later
"""Poses of the 55 joints as values of bones, and as keys written a whole curve at a time.

Here poses are told in the frame of the armature's floor: the scene frame with the armature object
at the origin, facing +z. The object's own place and heading stay the artist's.
"""

from dataclasses import dataclass, replace
from typing import cast

import bpy
import numpy as np
from crowdgaussian_shared.errors import InputError
from crowdgaussian_shared.geometry.axes import convert_points, convert_rotations
from crowdgaussian_shared.geometry.rotations import (
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    matrix_to_quat,
    polar_rotation,
    quat_to_matrix,
)
from crowdgaussian_shared.geometry.skeleton import JOINT_NAMES
from crowdgaussian_shared.motion.fit import Wearer
from crowdgaussian_shared.motion.motion import Motion
from crowdgaussian_shared.motion.time import face_forward, move

from ..attributes import armature_data
from ..rig.armature import PELVIS, in_metres, rest_offset
from ..rig.bones import ROOT
from ..rig.read_pose import read_rest_joints

MOTION = "crowdgaussian_motion"  # action property: name of the motion that it holds
_LINEAR = 1  # of Keyframe.interpolation
_FLAT = 1e-6  # curves that vary by less need one key


@dataclass(frozen=True)
class BoneValues:
    """What bones get in each frame."""

    quats: np.ndarray  # [T, 55, 4] wxyz, relative to the rest
    location: np.ndarray  # [T, 3] of the pelvis, in its rest axes


def wearer_of(rig: bpy.types.Object) -> Wearer:
    """The body of a rig, for fitting motions to it."""
    return Wearer(read_rest_joints(rig), float(-rest_offset(rig)[2]))


def bone_values(
    rig: bpy.types.Object, poses: np.ndarray, transl: np.ndarray, place: np.ndarray | None = None
) -> BoneValues:
    """Poses as values of bones.

    Args:
        rig: a person's armature.
        poses: [T, 55, 3] axis-angle, radians.
        transl: [T, 3] metres, counted from the rest joints.
        place: [4, 4] armature -> world in Blender's axes, for poses told in the scene frame; None
            for poses told in the frame of the armature's floor.
    """
    rests = _rests(rig)
    turns = convert_rotations(axis_angle_to_matrix(np.asarray(poses)), "scene", "blender")
    rest = read_rest_joints(rig)[0]
    pelvis = convert_points(rest + np.asarray(transl, np.float64), "scene", "blender")
    if place is not None:
        back = np.linalg.inv(place)
        turns[:, 0] = polar_rotation(place[:3, :3]).T @ turns[:, 0]
        pelvis = pelvis @ back[:3, :3].T + back[:3, 3]
    axes = rests[:, :3, :3]
    quats = _continuous(matrix_to_quat(axes.swapaxes(1, 2) @ turns @ axes))
    return BoneValues(quats, (pelvis - rests[0, :3, 3]) @ axes[0])


def bone_poses(rig: bpy.types.Object, values: BoneValues) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of bone_values without a place -> poses [T, 55, 3], transl [T, 3]."""
    rests = _rests(rig)
    axes = rests[:, :3, :3]
    turns = axes @ quat_to_matrix(values.quats) @ axes.swapaxes(1, 2)
    pelvis = values.location @ axes[0].T + rests[0, :3, 3]
    transl = convert_points(pelvis, "blender", "scene") - read_rest_joints(rig)[0]
    return matrix_to_axis_angle(convert_rotations(turns, "blender", "scene")), transl


def read_bones(rig: bpy.types.Object) -> BoneValues:
    """What the bones hold now, constraints left aside."""
    bones = _pose_bones(rig)
    bases = np.array([bone.matrix_basis for bone in bones])
    quats = matrix_to_quat(polar_rotation(bases[:, :3, :3]))
    return BoneValues(quats[None], np.array(bones[0].location)[None])


def write_bones(rig: bpy.types.Object, values: BoneValues, frame: int | None = None) -> None:
    """Set the bones to the first of the values; key them at a frame if one is given."""
    for bone, quat in zip(_pose_bones(rig), values.quats[0]):
        bone.rotation_mode = "QUATERNION"
        bone.rotation_quaternion = quat
        if frame is not None:
            bone.keyframe_insert("rotation_quaternion", frame=frame, group=bone.name)
    pelvis = rig.pose.bones[PELVIS]
    pelvis.location = values.location[0]
    if frame is not None:
        pelvis.keyframe_insert("location", frame=frame, group=PELVIS)


def to_floor(motion: Motion, rest_joints: np.ndarray) -> Motion:
    """The motion with its first pelvis above the origin, facing +z."""
    return move(face_forward(motion), 0.0, -np.asarray(rest_joints, np.float64)[0] * (1, 0, 1))


def build_action(
    name: str, rig: bpy.types.Object, values: BoneValues, first: float
) -> bpy.types.Action:
    """An action with a key in every frame from `first` on; nobody uses it yet."""
    action = bpy.data.actions.new(name)
    slot = action.slots.new(id_type="OBJECT", name=rig.name)
    layer = action.layers.new("Layer")
    strip = cast(bpy.types.ActionKeyframeStrip, layer.strips.new(type="KEYFRAME"))
    bag = strip.channelbag(slot, ensure=True)
    frames = first + np.arange(len(values.quats), dtype=np.float64)
    for k, joint in enumerate(JOINT_NAMES):
        group = bag.groups.new(joint)
        path = f'pose.bones["{joint}"].'
        _write_curves(bag, group, path + "rotation_quaternion", frames, values.quats[:, k])
        if joint == PELVIS:
            _write_curves(bag, group, path + "location", frames, values.location)
    return action


def assign_action(rig: bpy.types.Object, action: bpy.types.Action) -> None:
    """The rig plays the action; hand-made keys that it played before are kept in the file."""
    data = rig.animation_data or rig.animation_data_create()
    old = data.action
    if old is not None and old.get(MOTION) is None and old.users <= 1:
        old.use_fake_user = True
    data.action = action
    if data.action_slot is None:  # setting a slot that is set already crashes Blender
        data.action_slot = action.slots[0]
    for bone in _pose_bones(rig):
        bone.rotation_mode = "QUATERNION"


def has_motion(rig: bpy.types.Object) -> bool:
    """Whether a motion plays on a rig already: as its action, or in a strip that is not muted."""
    data = rig.animation_data
    if data is None:
        return False
    actions = [data.action, *(s.action for t in data.nla_tracks if not t.mute for s in t.strips)]
    return any(action is not None and action.get(MOTION) is not None for action in actions)


def add_strip(
    rig: bpy.types.Object, action: bpy.types.Action, first: int, blend: tuple[int, int]
) -> None:
    """The action as a strip on a track above everything that plays now, which stays.

    Args:
        rig: a person's armature; what is its action now becomes a strip as well.
        action: its name is that of track and strip.
        first: frame.
        blend: frames over which it comes in and goes out. Without the latter its end is held.
    """
    data = rig.animation_data or rig.animation_data_create()
    if data.action is not None:
        below, slot = data.action, data.action_slot
        data.action = None
        _lay(data, below, slot, int(np.floor(below.frame_range[0]))).extrapolation = "HOLD"
    strip = _lay(data, action, action.slots[0], first)
    most = max(int(strip.frame_end - strip.frame_start), 0)
    strip.use_auto_blend = False
    strip.blend_in = min(blend[0], most)
    strip.blend_out = min(blend[1], most - int(strip.blend_in))
    strip.extrapolation = "NOTHING" if strip.blend_out else "HOLD_FORWARD"
    for bone in _pose_bones(rig):
        bone.rotation_mode = "QUATERNION"


def _lay(
    data: bpy.types.AnimData, action: bpy.types.Action, slot: bpy.types.ActionSlot, first: int
) -> bpy.types.NlaStrip:
    track = data.nla_tracks.new()
    track.name = action.name
    strip = track.strips.new(action.name, first, action)
    if strip.action_slot is None:  # setting a slot that is set already crashes Blender
        strip.action_slot = slot
    return strip


def require_free_bones(rig: bpy.types.Object, who: str) -> None:
    """Refuse rigs whose legs or arms follow something else than their keys.

    Raises:
        InputError: an IK constraint is on.
    """
    for bone in _pose_bones(rig):
        for constraint in bone.constraints:
            if constraint.type == "IK" and not constraint.mute and constraint.influence > 0:
                raise InputError(
                    f"{who}'s {bone.name} follows an IK control; switch the controls to FK or "
                    "remove them first."
                )


def near_to(values: BoneValues, now: BoneValues) -> BoneValues:
    """The same turns with the signs of what plays now, so that strips blend the short way."""
    dots = np.sum(values.quats[0] * now.quats[0], axis=-1)  # [55]
    return replace(values, quats=values.quats * np.where(dots < 0, -1.0, 1.0)[None, :, None])


def _write_curves(bag, group, path: str, frames: np.ndarray, rows: np.ndarray) -> None:
    """One curve for each column.  # frames [T], rows [T, k]"""
    for index, column in enumerate(rows.T):
        curve = bag.fcurves.new(path, index=index)
        curve.group = group
        count = 1 if np.ptp(column) < _FLAT else len(column)
        curve.keyframe_points.add(count)
        keys = np.stack([frames[:count], column[:count]], axis=1).astype(np.float32)
        curve.keyframe_points.foreach_set("co", keys.ravel())
        curve.keyframe_points.foreach_set("interpolation", np.full(count, _LINEAR, np.int32))
        curve.update()


def _continuous(quats: np.ndarray) -> np.ndarray:
    """Signs such that neighbours in time lie close: keys are interpolated as plain numbers."""
    jumps = np.sum(quats[1:] * quats[:-1], axis=-1) < 0
    signs = np.ones(quats.shape[:-1])
    signs[1:] = np.cumprod(np.where(jumps, -1.0, 1.0), axis=0)
    return quats * signs[..., None]


def _rests(rig: bpy.types.Object) -> np.ndarray:
    """Rest matrices of the 55 bones, in the armature.  # [55, 4, 4]"""
    _pose_bones(rig)
    return np.array([armature_data(rig).bones[name].matrix_local for name in JOINT_NAMES])


def _pose_bones(rig: bpy.types.Object) -> list[bpy.types.PoseBone]:
    missing = [name for name in JOINT_NAMES if name not in rig.pose.bones]
    if missing:
        raise InputError(
            f"{rig.name} lacks the bone {missing[0]}; undo its renaming or removal, or import the "
            "crowd again."
        )
    return [rig.pose.bones[name] for name in JOINT_NAMES]


def place_of(rig: bpy.types.Object) -> np.ndarray:
    """Armature, moved by its root where there is one -> world in metres.  # [4, 4]"""
    place = in_metres(rig, rig.matrix_world)
    root: bpy.types.PoseBone | None = rig.pose.bones.get(ROOT)
    return place if root is None else place @ np.array(root.matrix)
