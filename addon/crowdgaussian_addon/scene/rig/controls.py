# SPDX-License-Identifier: GPL-3.0-or-later
"""Controls beside the IK of limbs: a root for the whole person, foot roll, a curl for each hand.

They are bones that deform nothing, made with the IK controls and gone with them. What they do to
the 55 bones is done by constraints alone, so a file needs no scripts to run them, and where they
rest nothing moves. A rolled foot turns about the heel, or about the ball and then the tip of toes:

    foot control > heel > tip > ball > goal, which the leg's IK reaches for
"""

from dataclasses import dataclass
from typing import cast

import bpy
import numpy as np
from crowdgaussian_shared.geometry.skeleton import FINGERS
from mathutils import Vector

from ..attributes import armature_data
from .bones import ROOT

CONTROL = "crowdgaussian_control"  # bone property: what a control moves
ROLL, CURL = "CrowdGaussian roll", "CrowdGaussian curl"  # constraints
SIDES = ("left", "right")
FRONT, UP = Vector((0.0, -1.0, 0.0)), Vector((0.0, 0.0, 1.0))  # a Blender character faces -y

# Where a foot ends, over the way from ankle to ball: means of the sample's twelve feet (heels .35
# to .43, tips .34 to .42). Larger ones make a rolling foot hover, smaller ones let it sink in.
HEEL_BEHIND, TIP_AHEAD = 0.38, 0.40
_BREAK = np.radians(45.0)  # of the roll: from here on toes go along, as in Rigify's feet
_MOST_ROLL = np.radians(120.0)
_ROOT_LENGTH = 0.3  # metres; only how it is drawn without its shape

_CURL_LEAST, _CURL_MOST = np.radians(-60.0), np.radians(100.0)  # of every joint of a finger
_SPREAD_MOST = np.radians(40.0)  # of the control
# Of the fingers' angle, joint by joint from the palm: the thumb bends, and turns in front of them.
_THUMB_CURL, _THUMB_ACROSS = (0.1, 0.3, 0.4), (0.0, 0.5, 0.5)
# How far fingers fan for the control's turn: the middle one stays.
_SPREAD = {"index": 0.4, "middle": 0.0, "ring": -0.35, "pinky": -0.7, "thumb": 0.6}


@dataclass(frozen=True)
class Foot:
    """The bones that roll a foot, by name."""

    control: str
    roll: str
    heel: str
    tip: str
    ball: str
    goal: str
    toe: str  # of the 55

    @property
    def mechanics(self) -> tuple[str, ...]:
        """Bones that nobody touches."""
        return self.heel, self.tip, self.ball, self.goal


def _foot(side: str) -> Foot:
    roll, heel, tip, ball, goal = (
        f"{side}_foot_{part}" for part in ("roll", "heel", "tip", "ball", "goal")
    )
    return Foot(f"{side}_foot_ik", roll, heel, tip, ball, goal, f"{side}_foot")


FEET = {side: _foot(side) for side in SIDES}
HANDS = {side: f"{side}_fingers" for side in SIDES}  # the curl controls


def finger_bones(side: str) -> list[str]:
    """The fifteen of a hand."""
    return [f"{side}_{finger}{k}" for finger in FINGERS for k in (1, 2, 3)]


# Bones, made in Edit Mode


def add_root(bones: bpy.types.ArmatureEditBones) -> None:
    """The root at the person's feet; the pelvis and all controls without a parent hang on it."""
    root = bones.get(ROOT) or bones.new(ROOT)
    root.head, root.tail = (0.0, 0.0, 0.0), (0.0, _ROOT_LENGTH, 0.0)  # axes are the armature's
    root.roll, root.use_deform = 0.0, False
    for bone in bones:
        if bone != root and bone.parent is None:
            bone.parent = root


def add_foot(bones: bpy.types.ArmatureEditBones, side: str) -> None:
    """Pivots on the floor of the rest pose, and the control that turns about them."""
    foot = FEET[side]
    ankle, ball = bones[f"{side}_ankle"], bones[foot.toe].head.copy()
    length = max(ankle.head.y - ball.y, 0.02)
    heel = Vector((ankle.head.x, ankle.head.y + HEEL_BEHIND * length, 0.0))
    tip = Vector((ball.x, ball.y - TIP_AHEAD * length, 0.0))
    above = bones[foot.control]
    for name, place in ((foot.heel, heel), (foot.tip, tip), (foot.ball, ball)):
        above = _pointing(bones, name, place, 0.3 * length, above)
    goal = bones.new(foot.goal)
    goal.head, goal.tail, goal.roll = ankle.head, ankle.tail, ankle.roll
    goal.parent, goal.use_deform = above, False
    behind = heel - 0.5 * length * FRONT + 0.3 * length * UP
    _pointing(bones, foot.roll, behind, 0.5 * length, bones[foot.control])


def add_hand(bones: bpy.types.ArmatureEditBones, side: str) -> None:
    """The curl control, above the knuckles, with the axes of the fingers."""
    wrist, knuckle = bones[f"{side}_wrist"], bones[f"{side}_middle1"]
    along = knuckle.head - wrist.head
    control = bones.new(HANDS[side])
    control.head = knuckle.head + 0.5 * along.length * UP
    control.tail = control.head + 0.6 * along
    control.align_roll(UP)
    control.parent, control.use_deform = wrist, False


def _pointing(
    bones: bpy.types.ArmatureEditBones,
    name: str,
    place: Vector,
    length: float,
    parent: bpy.types.EditBone,
) -> bpy.types.EditBone:
    """A bone that looks where the toes do: its X is theirs, across the foot."""
    bone = bones.new(name)
    bone.head, bone.tail = place, place + length * FRONT
    bone.align_roll(UP)
    bone.parent, bone.use_deform = parent, False
    return bone


# Constraints


def roll_foot(rig: bpy.types.Object, side: str) -> None:
    """Turned forward the roll lifts the heel, then the foot onto its tip; back, the toes.

    The toes' own bone turns against the ball, so that they stay on the floor.
    """
    foot, b, m = FEET[side], _BREAK, _MOST_ROLL
    turn_with(rig, foot.ball, foot.roll, ROLL, x=(-b, 0.0, -b, 0.0))
    turn_with(rig, foot.tip, foot.roll, ROLL, x=(-m, -b, b - m, 0.0))
    turn_with(rig, foot.heel, foot.roll, ROLL, x=(0.0, m, 0.0, m))
    toes = turn_with(rig, foot.toe, foot.roll, ROLL, x=(-b, 0.0, b, 0.0))
    toes.mix_mode_rot = "BEFORE"  # against the foot, whatever the toes do by themselves
    rig.pose.bones[foot.roll].rotation_mode = "XYZ"


def curl_fingers(rig: bpy.types.Object, side: str) -> None:
    """The control's X bends all fingers of a hand, its Z fans them; on top of their own keys."""
    low, high, fan = _CURL_LEAST, _CURL_MOST, _SPREAD_MOST
    for finger in FINGERS:
        for k in (1, 2, 3):
            f = _THUMB_CURL[k - 1] if finger == "thumb" else 1.0
            s = _SPREAD[finger] if k == 1 else 0.0
            turn = turn_with(
                rig, f"{side}_{finger}{k}", HANDS[side], CURL,
                x=(-high, -low, -f * high, -f * low), z=(-fan, fan, -s * fan, s * fan),
            )  # fmt: skip
            if finger == "thumb" and k > 1:
                across = _THUMB_ACROSS[k - 1] * (1 if side == "left" else -1)
                turn.map_to_z_from = "X"
                turn.to_min_z_rot, turn.to_max_z_rot = across * high, across * low
    rig.pose.bones[HANDS[side]].rotation_mode = "XYZ"


_Range = tuple[float, float, float, float]  # from and to of the control, from and to of the bone


def turn_with(
    rig: bpy.types.Object,
    name: str,
    control: str,
    label: str,
    x: _Range,
    z: _Range = (0.0, 0.0, 0.0, 0.0),
) -> bpy.types.TransformConstraint:
    """A bone turns as a control does, axis by axis, within a range of radians."""
    made = rig.pose.bones[name].constraints.new("TRANSFORM")
    constraint = cast(bpy.types.TransformConstraint, made)
    constraint.name, constraint.target, constraint.subtarget = label, rig, control
    constraint.target_space = constraint.owner_space = "LOCAL"
    constraint.map_from = constraint.map_to = "ROTATION"
    constraint.from_rotation_mode = constraint.to_euler_order = "XYZ"
    constraint.mix_mode_rot = "AFTER"
    constraint.map_to_x_from, constraint.map_to_y_from, constraint.map_to_z_from = "X", "Y", "Z"
    for axis, values in (("x", x), ("z", z)):
        ends = ("from_min", "from_max", "to_min", "to_max")
        for end, value in zip(ends, values):
            setattr(constraint, f"{end}_{axis}_rot", value)
    return constraint


def drop_constraints(rig: bpy.types.Object, names: list[str], label: str) -> None:
    """Take constraints of one name off some bones."""
    for bone in (rig.pose.bones[name] for name in names if name in rig.pose.bones):
        for constraint in [c for c in bone.constraints if c.name == label]:
            bone.constraints.remove(constraint)


# What is there


def has_root(rig: bpy.types.Object) -> bool:
    """Whether the pelvis hangs on a root."""
    return ROOT in armature_data(rig).bones


def rolling_feet(rig: bpy.types.Object) -> list[str]:
    """Sides whose foot can be rolled."""
    return [side for side in SIDES if FEET[side].goal in armature_data(rig).bones]


def curling_hands(rig: bpy.types.Object) -> list[str]:
    """Sides whose fingers have a control."""
    return [side for side in SIDES if HANDS[side] in armature_data(rig).bones]


def rest_extras(rig: bpy.types.Object) -> None:
    """Feet and fingers follow nothing but their own bones for now; the root stays."""
    names = [FEET[side].roll for side in rolling_feet(rig)]
    for name in [*names, *(HANDS[side] for side in curling_hands(rig))]:
        rest_control(rig, name)


def rest_control(rig: bpy.types.Object, name: str) -> None:
    """A control where it was made, in whichever rotation mode it is."""
    bone = rig.pose.bones[name]
    bone.location, bone.rotation_euler = (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)
    bone.rotation_quaternion, bone.scale = (1.0, 0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
