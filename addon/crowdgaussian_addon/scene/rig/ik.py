# SPDX-License-Identifier: GPL-3.0-or-later
"""IK controls for arms and legs, on demand, on top of the 55 bones and never among them.

Each limb gets two bones without parent that deform nothing: a target where its hand or foot is, and
a pole that its elbow or knee points to. The limb's own bones keep their names, rolls and keys; they
follow by constraints. Blender's solver turns the limb about the line from root to target until a
fixed axis of the upper bone points to the pole, so a pole put on that axis moves nothing: switching
in either direction, and removing the controls, keeps the pose.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import bpy
import numpy as np
from crowdgaussian_shared.errors import InputError
from crowdgaussian_shared.geometry.skeleton import JOINT_NAMES, PARENTS
from mathutils import Matrix, Vector

from ..attributes import armature_data
from .bones import CONTROLS, bone_collection, collect_bones

CONTROL = "crowdgaussian_control"  # bone property: the limb that a control moves
_IK, _FOLLOW = "CrowdGaussian IK", "CrowdGaussian IK rotation"
_AWAY = 0.6  # distance of a pole from its joint over the limb's length
_PARENT = {name: JOINT_NAMES[p] for name, p in zip(JOINT_NAMES, PARENTS) if p >= 0}


@dataclass(frozen=True)
class Limb:
    """Three bones in a row, and the names of their controls."""

    upper: str
    lower: str
    end: str
    target: str
    pole: str
    front: bool  # knees point where the upper bone's Z does, elbows the other way


def _limbs() -> dict[str, Limb]:
    found = {}
    for side in ("left", "right"):
        found[f"{side}_arm"] = _limb(side, "shoulder elbow wrist hand_ik elbow_pole", False)
        found[f"{side}_leg"] = _limb(side, "hip knee ankle foot_ik knee_pole", True)
    return found


def _limb(side: str, parts: str, front: bool) -> Limb:
    upper, lower, end, target, pole = (f"{side}_{part}" for part in parts.split())
    return Limb(upper, lower, end, target, pole, front)


LIMBS = _limbs()
Matrices = dict[str, np.ndarray]  # evaluated pose matrices in the armature's space, [4, 4]


def limbs_with_controls(rig: bpy.types.Object) -> list[str]:
    """Limbs that have controls, in the order of LIMBS."""
    return [name for name, limb in LIMBS.items() if {limb.target, limb.pole} & _controls(rig)]


def ik_is_on(rig: bpy.types.Object, name: str) -> bool:
    """Whether a limb follows its controls now."""
    return any(c.influence > 0.5 and not c.mute for c in _constraints(rig, LIMBS[name]))


def pose_matrices(rig: bpy.types.Object) -> Matrices:
    """All bones as evaluated now."""
    posed = rig.evaluated_get(bpy.context.evaluated_depsgraph_get())
    return {bone.name: np.array(bone.matrix) for bone in posed.pose.bones}


def require_editable(rig: bpy.types.Object) -> None:
    """Bones can be added and removed.

    Raises:
        InputError: the rig is hidden, linked from another file, or lacks limb bones.
    """
    if not rig.visible_get():
        raise InputError(f"{rig.name} is hidden; show it, then change its controls.")
    if rig.library is not None or rig.data.library is not None:
        raise InputError(f"{rig.name} is linked from another file; make it local first.")
    needed = (bone for limb in LIMBS.values() for bone in (limb.upper, limb.lower, limb.end))
    missing = next((bone for bone in needed if bone not in rig.pose.bones), None)
    if missing:
        raise InputError(f"{rig.name} lacks the bone {missing}; undo its removal.")


def add_controls(rig: bpy.types.Object, names: list[str]) -> None:
    """Bones and constraints for limbs that have none, following the pose of now.

    Args:
        rig: a person's armature that passed require_editable.
        names: keys of LIMBS.
    """
    names = [name for name in names if name not in limbs_with_controls(rig)]
    if not names:
        return
    now = pose_matrices(rig)

    def add(bones: bpy.types.ArmatureEditBones) -> None:
        for name in names:
            _add_bones(bones, LIMBS[name])

    _edit(rig, add)
    collect_bones(armature_data(rig))  # rigs of older files have no collections
    collection = bone_collection(armature_data(rig), CONTROLS)
    for name in names:
        limb = LIMBS[name]
        for control in (limb.target, limb.pole):
            bone = armature_data(rig).bones[control]
            bone[CONTROL], bone.color.palette = name, "THEME09"
            collection.assign(bone)
            rig.pose.bones[control].rotation_mode = "QUATERNION"
        place_controls(rig, name, now)
        _add_constraints(rig, limb)


def remove_controls(rig: bpy.types.Object, names: list[str]) -> None:
    """Take controls away; limbs that followed them stay as they are seen now, unkeyed."""
    now = pose_matrices(rig)
    followed = [name for name in names if ik_is_on(rig, name)]
    doomed = []
    for limb in (LIMBS[name] for name in names):
        for bone in (limb.lower, limb.end):
            constraints = rig.pose.bones[bone].constraints
            for constraint in [c for c in constraints if c.name in (_IK, _FOLLOW)]:
                constraints.remove(constraint)
        doomed += [bone for bone in (limb.target, limb.pole) if bone in _controls(rig)]

    def remove(bones: bpy.types.ArmatureEditBones) -> None:
        for bone in doomed:
            bones.remove(bones[bone])

    _edit(rig, remove)
    collections = armature_data(rig).collections_all
    collection: bpy.types.BoneCollection | None = collections.get(CONTROLS)
    if collection is not None and not collection.bones:
        armature_data(rig).collections.remove(collection)
    for name in followed:  # last: leaving Edit Mode evaluates keys
        set_limb(rig, name, now)


def switch_controls(rig: bpy.types.Object, name: str, on: bool) -> None:
    """Let a limb follow its controls or its own keys, from the pose of now."""
    now = pose_matrices(rig)
    (place_controls if on else set_limb)(rig, name, now)
    for constraint in _constraints(rig, LIMBS[name]):
        constraint.influence, constraint.mute = float(on), False


def place_controls(rig: bpy.types.Object, name: str, pose: Matrices) -> None:
    """Put target and pole where they leave the limb in a pose."""
    limb = LIMBS[name]
    target, pole = rig.pose.bones[limb.target], rig.pose.bones[limb.pole]
    basis = np.linalg.inv(np.array(target.bone.matrix_local)) @ pose[limb.end]
    target.location, target.rotation_quaternion, _ = Matrix(basis.tolist()).decompose()
    place = np.append(_pole_place(limb, pose), 1.0)
    pole.location = (np.linalg.inv(np.array(pole.bone.matrix_local)) @ place)[:3]


def set_limb(rig: bpy.types.Object, name: str, pose: Matrices) -> None:
    """Turn a limb's own bones so that it is in a pose without its controls."""
    limb = LIMBS[name]
    for bone_name in (limb.upper, limb.lower, limb.end):
        bone, parent = rig.pose.bones[bone_name], _PARENT[bone_name]
        rest = np.linalg.inv(np.array(armature_data(rig).bones[parent].matrix_local))
        rest = rest @ np.array(bone.bone.matrix_local)
        turned = np.linalg.inv(pose[parent]) @ pose[bone_name]
        basis = Matrix((np.linalg.inv(rest) @ turned).tolist())
        bone.rotation_mode = "QUATERNION"
        bone.rotation_quaternion = basis.to_quaternion()


def key_controls(rig: bpy.types.Object, name: str, frame: int) -> None:
    """Key target and pole as they are."""
    limb = LIMBS[name]
    for control in (limb.target, limb.pole):
        for path in ("location", "rotation_quaternion"):
            rig.pose.bones[control].keyframe_insert(path, frame=frame, group=control)


def key_limb(rig: bpy.types.Object, name: str, frame: int) -> None:
    """Key the limb's own bones as they are."""
    limb = LIMBS[name]
    for bone in (limb.upper, limb.lower, limb.end):
        rig.pose.bones[bone].keyframe_insert("rotation_quaternion", frame=frame, group=bone)


def _pole_place(limb: Limb, pose: Matrices) -> np.ndarray:
    """A point beyond the joint, on the half-plane that the upper bone's Z axis spans now.  # [3]"""
    root, joint, end = (pose[bone][:3, 3] for bone in (limb.upper, limb.lower, limb.end))
    along = (end - root) / max(np.linalg.norm(end - root), 1e-9)
    axis = pose[limb.upper][:3, 2] * (1.0 if limb.front else -1.0)
    side = axis - along * (axis @ along)
    side /= max(np.linalg.norm(side), 1e-9)
    length = np.linalg.norm(joint - root) + np.linalg.norm(end - joint)
    foot = root + along * ((joint - root) @ along)
    return foot + side * (np.linalg.norm(joint - foot) + _AWAY * length)


def _controls(rig: bpy.types.Object) -> set[str]:
    return {bone.name for bone in armature_data(rig).bones if bone.get(CONTROL) is not None}


def _constraints(rig: bpy.types.Object, limb: Limb) -> list[bpy.types.Constraint]:
    bones = [rig.pose.bones[n] for n in (limb.lower, limb.end) if n in rig.pose.bones]
    return [c for bone in bones for c in bone.constraints if c.name in (_IK, _FOLLOW)]


def _add_bones(bones: bpy.types.ArmatureEditBones, limb: Limb) -> None:
    end = bones[limb.end]
    length = (bones[limb.lower].head - bones[limb.upper].head).length
    target, pole = bones.new(limb.target), bones.new(limb.pole)
    target.head, target.tail = end.head, end.tail
    target.roll = end.roll
    side = Vector((0.0, -1.0 if limb.front else 1.0, 0.0))  # a Blender character faces -y
    pole.head = bones[limb.lower].head + side * (2 * _AWAY * length)
    pole.tail = pole.head + side * (0.3 * length)
    for bone in (target, pole):
        bone.use_deform = False


def _add_constraints(rig: bpy.types.Object, limb: Limb) -> None:
    bones = rig.pose.bones
    reach = cast(bpy.types.KinematicConstraint, bones[limb.lower].constraints.new("IK"))
    reach.name, reach.chain_count, reach.use_stretch = _IK, 2, False
    reach.target = reach.pole_target = rig
    reach.subtarget, reach.pole_subtarget = limb.target, limb.pole
    reach.pole_angle = np.pi / 2 if limb.front else -np.pi / 2  # the upper bone's Z, or -Z
    turn = cast(bpy.types.CopyRotationConstraint, bones[limb.end].constraints.new("COPY_ROTATION"))
    turn.name, turn.target, turn.subtarget = _FOLLOW, rig, limb.target
    turn.target_space = turn.owner_space = "POSE"


def _edit(rig: bpy.types.Object, work: Callable[[bpy.types.ArmatureEditBones], None]) -> None:
    """Work on a rig's edit bones, with mode, selection and active object as they were."""
    layer = bpy.context.view_layer
    active, mode = layer.objects.active, bpy.context.mode
    if mode != "OBJECT":
        bpy.ops.object.mode_set(mode="OBJECT")
    selected = [obj for obj in layer.objects if obj.select_get()]
    for obj in selected:
        obj.select_set(False)
    rig.select_set(True)
    layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    work(armature_data(rig).edit_bones)
    bpy.ops.object.mode_set(mode="OBJECT")
    rig.select_set(False)
    for obj in selected:
        obj.select_set(True)
    layer.objects.active = active
    if mode == "POSE" and active is not None and active.type == "ARMATURE":
        bpy.ops.object.mode_set(mode="POSE")


# IK controls and motion: what one of them says is keyed on the other, frame by frame

Recording = dict[int, dict[str, Matrices]]  # frame -> rig's name -> pose


def motion_range(rig: bpy.types.Object) -> tuple[int, int] | None:
    """First and last frame that a rig's keys say anything about; None without keys."""
    data = rig.animation_data
    if data is None:
        return None
    ranges: list[tuple[float, float]] = []
    if data.action is not None:
        first, last = data.action.frame_range[:]
        ranges.append((first, last))
    tracks = (track for track in data.nla_tracks if not track.mute)
    ranges += [(s.frame_start, s.frame_end) for track in tracks for s in track.strips]
    if not ranges:
        return None
    return round(min(low for low, _ in ranges)), round(max(high for _, high in ranges))


def record(
    scene: bpy.types.Scene, rigs: list[bpy.types.Object], frames: list[int]
) -> Iterator[tuple[int, Recording]]:
    """Play frames and note everybody's pose; yields after each frame, ends where it began."""
    start, noted = scene.frame_current, {}
    try:
        for frame in frames:
            scene.frame_set(frame)
            noted[frame] = {rig.name: pose_matrices(rig) for rig in rigs}
            yield frame, noted
    finally:
        if frames:
            scene.frame_set(start)


def key_recording(
    rig: bpy.types.Object, names: list[str], recording: Recording, on_controls: bool
) -> None:
    """Key limbs' controls, or the limbs' own bones, as recorded."""
    put, key = (place_controls, key_controls) if on_controls else (set_limb, key_limb)
    for frame, poses in recording.items():
        for name in names:
            put(rig, name, poses[rig.name])
            key(rig, name, frame)


def keep_limbs(rig: bpy.types.Object, names: list[str]) -> None:
    """Keys of a pose that does not move follow the limbs as they are set now."""
    frames = motion_range(rig)
    if frames is not None and frames[0] == frames[1]:
        for name in names:
            key_limb(rig, name, frames[0])


def moving_frames(rigs: list[bpy.types.Object]) -> list[int]:
    """Every frame in which any of the rigs moves by keys."""
    ranges = [r for r in map(motion_range, rigs) if r is not None and r[1] > r[0]]
    if not ranges:
        return []
    return list(range(min(low for low, _ in ranges), max(high for _, high in ranges) + 1))


def all_limbs(choice: str) -> list[str]:
    """Limbs named by "ARMS", "LEGS" or "ALL"."""
    return [name for name in LIMBS if choice == "ALL" or choice[:3].lower() in name]
