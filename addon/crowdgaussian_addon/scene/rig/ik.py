# SPDX-License-Identifier: GPL-3.0-or-later
"""IK controls for arms and legs, on demand, on top of the 55 bones and never among them.

Each limb gets two bones that deform nothing: a target where its hand or foot is, and a pole that
its elbow or knee points to. The limb's own bones keep their names, rolls and keys; they follow by
constraints. Root, foot roll and finger curl (controls.py) come and go with them. Blender's solver
turns the limb about the line from root to target until a fixed axis of the upper bone points to the
pole, so a pole put on that axis moves nothing: switching in either direction, and removing the
controls, keeps the pose.
"""

from dataclasses import dataclass
from typing import cast

import bpy
import numpy as np
from crowdgaussian_shared.errors import InputError
from mathutils import Matrix

from ..attributes import armature_data
from . import controls
from .armature import PELVIS
from .bones import ROOT, collect_bones, edit_bones
from .controls import CONTROL, CURL, FEET, HANDS, ROLL
from .read_pose import Matrices, Recording, motion_range, pose_matrices
from .widgets import dress_controls, drop_collections

_IK, _FOLLOW, _BEND = "CrowdGaussian IK", "CrowdGaussian IK rotation", "CrowdGaussian IK bend"
# Of elbows and knees about the axes that are no hinge: without it a leg that was straight bends up
# to 50 degrees beside its pole, with it 3.5 (sample, T-pose). Below 1, or nothing turns there.
_STIFF = 0.99
# Bend that the solver starts from beside the pose: from a straight arm it would find none. With 1
# degree limbs that bend the other way are moved by .26 mm, with this by less than .2.
_BEND_FIRST = np.radians(0.2)
_USED = 1e-6  # metres and entries of rotations: a control that is off its rest
_AWAY = 0.6  # distance of a pole from its joint over the limb's length


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


def limbs_with_controls(rig: bpy.types.Object) -> list[str]:
    """Limbs that have controls, in the order of LIMBS."""
    return [name for name, limb in LIMBS.items() if {limb.target, limb.pole} & _controls(rig)]


def ik_is_on(rig: bpy.types.Object, name: str) -> bool:
    """Whether a limb follows its controls now."""
    return any(c.influence > 0.5 and not c.mute for c in _constraints(rig, LIMBS[name]))


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


def add_controls(
    rig: bpy.types.Object, names: list[str], root: bool = True, fingers: bool = True
) -> None:
    """Bones and constraints for limbs that have none, following the pose of now.

    Legs get foot roll with their controls, and so do those that have controls of an older version.

    Args:
        rig: a person's armature that passed require_editable.
        names: keys of LIMBS.
        root: a bone above the pelvis and all controls.
        fingers: a curl control for each hand whose arm is named.
    """
    now, present = pose_matrices(rig), limbs_with_controls(rig)
    new = [name for name in names if name not in present]
    feet, hands = _without(rig, names, fingers)

    def add(bones: bpy.types.ArmatureEditBones) -> None:
        for name in new:
            _add_bones(bones, LIMBS[name])
        for side in feet:
            controls.add_foot(bones, side)
        for side in hands:
            controls.add_hand(bones, side)
        if root or controls.has_root(rig):
            controls.add_root(bones)

    edit_bones(rig, add)
    collect_bones(armature_data(rig))  # rigs of older files have no collections
    _mark(rig)
    for name in new:
        for control in (LIMBS[name].target, LIMBS[name].pole):
            rig.pose.bones[control].rotation_mode = "QUATERNION"
        place_controls(rig, name, now)
        _add_constraints(rig, LIMBS[name])
    for name in names:
        _bend_as_a_hinge(rig, name)
    for side in feet:
        controls.roll_foot(rig, side)
        _reach_for_goal(rig, side)
    for side in hands:
        controls.curl_fingers(rig, side)


def _without(rig: bpy.types.Object, names: list[str], fingers: bool) -> tuple[list[str], list[str]]:
    """Sides of named legs without foot roll, and of named arms without a curl control."""
    rolling, curling = controls.rolling_feet(rig), controls.curling_hands(rig)
    feet = [s for s in controls.SIDES if f"{s}_leg" in names and s not in rolling]
    hands = [s for s in controls.SIDES if f"{s}_arm" in names and s not in curling]
    return feet, hands if fingers else []


def _mark(rig: bpy.types.Object) -> None:
    """Every control says which limb it comes and goes with, and looks like what it does."""
    owners = {ROOT: ROOT}
    for name, limb in LIMBS.items():
        owners |= {limb.target: name, limb.pole: name}
    for side in controls.SIDES:
        owners[HANDS[side]] = f"{side}_arm"
        owners |= dict.fromkeys((FEET[side].roll, *FEET[side].mechanics), f"{side}_leg")
    bones = armature_data(rig).bones
    there = [name for name in owners if name in bones]
    for name in there:
        bones[name][CONTROL] = owners[name]
    dress_controls(rig, there)


def remove_controls(rig: bpy.types.Object, names: list[str], followed: list[str]) -> None:
    """Take limbs' controls away, and the root with the last; the person stays as seen now, unkeyed.

    Args:
        rig: a person's armature.
        names: keys of LIMBS that have controls.
        followed: from followed_parts, while the controls were there.
    """
    now, bones = pose_matrices(rig), armature_data(rig).bones
    owners = set(names)
    if set(limbs_with_controls(rig)) <= owners:
        owners.add(ROOT)
    doomed = [name for name in _controls(rig) if bones[name][CONTROL] in owners]
    for limb in (LIMBS[name] for name in names):
        rig.pose.bones[limb.lower].ik_stiffness_y = rig.pose.bones[limb.lower].ik_stiffness_z = 0.0
        for label in (_IK, _BEND):
            controls.drop_constraints(rig, [limb.lower], label)
        controls.drop_constraints(rig, [limb.end], _FOLLOW)
    for side in controls.SIDES:
        if FEET[side].roll in doomed:
            controls.drop_constraints(rig, [FEET[side].toe], ROLL)
        if HANDS[side] in doomed:
            controls.drop_constraints(rig, controls.finger_bones(side), CURL)

    def remove(edited: bpy.types.ArmatureEditBones) -> None:
        for bone in doomed:
            edited.remove(edited[bone])

    edit_bones(rig, remove)
    drop_collections(rig)
    for name in followed:  # last: leaving Edit Mode evaluates keys
        set_part(rig, name, now)


def switch_controls(rig: bpy.types.Object, name: str, on: bool) -> None:
    """Let a limb follow its controls or its own keys, from the pose of now."""
    now = pose_matrices(rig)
    if on:
        place_controls(rig, name, now)
        _unroll(rig, name, now)
    else:
        set_part(rig, name, now)
    for constraint in _constraints(rig, LIMBS[name]):
        constraint.influence, constraint.mute = float(on), False


def place_controls(rig: bpy.types.Object, name: str, pose: Matrices) -> None:
    """Put target and pole where they leave the limb in a pose."""
    limb = LIMBS[name]
    target, pole = rig.pose.bones[limb.target], rig.pose.bones[limb.pole]
    basis = np.linalg.inv(_still(rig, limb.target, pose)) @ pose[limb.end]
    target.location, target.rotation_quaternion, _ = Matrix(basis.tolist()).decompose()
    place = np.append(_pole_place(limb, pose), 1.0)
    pole.location = (np.linalg.inv(_still(rig, limb.pole, pose)) @ place)[:3]


def _unroll(rig: bpy.types.Object, name: str, pose: Matrices) -> None:
    """The foot's control has the whole pose of the foot, its toes that of the toes."""
    side = name.split("_")[0]
    if name.endswith("leg") and side in controls.rolling_feet(rig):
        controls.rest_control(rig, FEET[side].roll)
        _set_bone(rig, FEET[side].toe, pose)


def bones_of(part: str) -> list[str]:
    """Those of the 55 that a part of the controls moves: of a limb, a hand, or the root."""
    if part == ROOT:
        return [PELVIS]
    side = part.split("_")[0]
    if part not in LIMBS:
        return controls.finger_bones(side)
    limb = LIMBS[part]
    return [limb.upper, limb.lower, limb.end, *([FEET[side].toe] if limb.front else [])]


def followed_parts(rig: bpy.types.Object, names: list[str], recording: Recording) -> list[str]:
    """What some limbs' controls say, now or in a motion, that the rig's own bones do not."""
    poses = [pose_matrices(rig), *(poses[rig.name] for poses in recording.values())]
    found = [name for name in names if ik_is_on(rig, name)]
    for side in controls.curling_hands(rig):
        if f"{side}_arm" in names and _is_used(rig, HANDS[side], poses):
            found.append(f"{side}_hand")
    last = set(limbs_with_controls(rig)) <= set(names)
    if last and controls.has_root(rig) and _is_used(rig, ROOT, poses):
        found.append(ROOT)
    return found


def _is_used(rig: bpy.types.Object, name: str, poses: list[Matrices]) -> bool:
    return any(np.abs(_still(rig, name, pose) - pose[name]).max() > _USED for pose in poses)


def set_part(rig: bpy.types.Object, part: str, pose: Matrices) -> None:
    """Turn a part's own bones so that it is in a pose without its controls."""
    for name in bones_of(part):
        _set_bone(rig, name, pose)


def _set_bone(rig: bpy.types.Object, name: str, pose: Matrices) -> None:
    bone = rig.pose.bones[name]
    basis = Matrix((np.linalg.inv(_still(rig, name, pose)) @ pose[name]).tolist())
    bone.rotation_mode = "QUATERNION"
    bone.rotation_quaternion = basis.to_quaternion()
    if name == PELVIS:
        bone.location = basis.to_translation()


def _still(rig: bpy.types.Object, name: str, pose: Matrices) -> np.ndarray:
    """Where a bone would be, in a pose of its parents, that adds nothing itself.  # [4, 4]"""
    bone = armature_data(rig).bones[name]
    rest, parent = np.array(bone.matrix_local), bone.parent
    if parent is None or parent.name not in pose:  # a root that is new rests
        return rest
    return pose[parent.name] @ np.linalg.inv(np.array(parent.matrix_local)) @ rest


def key_controls(rig: bpy.types.Object, name: str, frame: int) -> None:
    """Key target and pole as they are."""
    limb = LIMBS[name]
    for control in (limb.target, limb.pole):
        for path in ("location", "rotation_quaternion"):
            rig.pose.bones[control].keyframe_insert(path, frame=frame, group=control)


def key_part(rig: bpy.types.Object, part: str, frame: int) -> None:
    """Key a part's own bones as they are."""
    for bone in bones_of(part):
        rig.pose.bones[bone].keyframe_insert("rotation_quaternion", frame=frame, group=bone)
    if part == ROOT:
        rig.pose.bones[PELVIS].keyframe_insert("location", frame=frame, group=PELVIS)


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
    toe = f"{limb.end.split('_')[0]}_foot"
    bones = [rig.pose.bones[n] for n in (limb.lower, limb.end, toe) if n in rig.pose.bones]
    names = (_IK, _FOLLOW, _BEND, ROLL) if limb.front else (_IK, _FOLLOW, _BEND)
    return [c for bone in bones for c in bone.constraints if c.name in names]


def _add_bones(bones: bpy.types.ArmatureEditBones, limb: Limb) -> None:
    end = bones[limb.end]
    length = (bones[limb.lower].head - bones[limb.upper].head).length
    target, pole = bones.new(limb.target), bones.new(limb.pole)
    target.head, target.tail = end.head, end.tail
    target.roll = end.roll
    side = controls.FRONT if limb.front else -controls.FRONT
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


def _bend_as_a_hinge(rig: bpy.types.Object, name: str) -> None:
    """Elbow or knee bend about their X, elbows forward and knees back, and never start straight."""
    limb, on = LIMBS[name], ik_is_on(rig, name)
    bone = rig.pose.bones[limb.lower]
    bone.ik_stiffness_y = bone.ik_stiffness_z = _STIFF
    if any(constraint.name == _BEND for constraint in bone.constraints):
        return
    bend = -_BEND_FIRST if limb.front else _BEND_FIRST
    first = controls.turn_with(rig, limb.lower, limb.target, _BEND, x=(0.0, 0.0, bend, bend))
    first.influence = float(on)
    bone.constraints.move(len(bone.constraints) - 1, 0)  # the solver starts from those before it


def _reach_for_goal(rig: bpy.types.Object, side: str) -> None:
    """A leg follows the end of its foot's pivots; the toes' turn is switched with the leg."""
    limb, on = LIMBS[f"{side}_leg"], ik_is_on(rig, f"{side}_leg")
    for constraint in _constraints(rig, limb):
        if constraint.name == ROLL:
            constraint.influence = float(on)
        elif constraint.name != _BEND:
            cast(bpy.types.CopyRotationConstraint, constraint).subtarget = FEET[side].goal


# IK controls and motion: what one of them says is keyed on the other, frame by frame


def key_recording(
    rig: bpy.types.Object, names: list[str], recording: Recording, on_controls: bool
) -> None:
    """Key limbs' controls, or the own bones of limbs and other parts, as recorded."""
    put, key = (place_controls, key_controls) if on_controls else (set_part, key_part)
    for frame, poses in recording.items():
        for name in names:
            put(rig, name, poses[rig.name])
            key(rig, name, frame)


def keep_parts(rig: bpy.types.Object, names: list[str]) -> None:
    """Keys of a pose that does not move follow the parts as they are set now."""
    frames = motion_range(rig)
    if frames is not None and frames[0] == frames[1]:
        for name in names:
            key_part(rig, name, frames[0])


def all_limbs(choice: str) -> list[str]:
    """Limbs named by "ARMS", "LEGS" or "ALL"."""
    return [name for name in LIMBS if choice == "ALL" or choice[:3].lower() in name]
