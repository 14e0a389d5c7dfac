# SPDX-License-Identifier: Apache-2.0
"""A motion made for one body fitted to another: strides, floor and feet."""

from dataclasses import dataclass, replace

import numpy as np

from ..geometry.avatar import Avatar
from ..geometry.rotations import axis_angle_to_matrix
from .feet import LEGS, keep_feet, sole_heights
from .kinematics import adult_joints, global_turns, heading, joint_paths, leg_length, local_poses
from .motion import Motion, check_motion
from .time import face_forward, move

_LOWEST = 2.0  # percentile of the soles' heights that comes to lie on the floor
_SCALES = (0.75, 1.35)  # what a stride found from standing feet may be, of the legs' ratio
_SURE = 1e-3  # square metres: squared steps while feet stand, below which nothing is found


@dataclass(frozen=True)
class Wearer:
    """The body that a motion is fitted to."""

    rest_joints: np.ndarray  # [55, 3] metres, canonical frame
    sole: float  # metres, canonical height of the soles


def fit_motion(motion: Motion, wearer: Wearer, feet: bool = True, floor: bool = True) -> Motion:
    """The motion for this body, with standing feet that stand.

    Args:
        motion: as a reader gives it; without contacts feet are left alone.
        wearer: who shall move.
        feet: hold standing feet.
        floor: put the lowest sole on y = 0; else heights are those of the motion.

    Returns:
        A motion whose `transl` is counted from the wearer's rest joints, as in joint_transforms,
        and whose floor is y = 0.
    """
    motion = check_motion(motion, motion.name)
    rest = np.asarray(wearer.rest_joints, np.float64)
    turns = global_turns(motion.poses)
    scale = _stride(motion, rest, turns)
    transl = motion.transl[0] * (1, 0, 1) + scale * (motion.transl - motion.transl[0] * (1, 0, 1))
    if floor:
        transl = transl - (0.0, _lowest(rest, turns, transl, wearer.sole), 0.0)
    leg = leg_length(rest)
    if not feet or motion.contacts is None or not motion.contacts.any():
        return replace(motion, transl=transl, leg=leg)
    transl = keep_feet(rest, turns, transl, motion.contacts, motion.fps, wearer.sole)
    return replace(motion, poses=local_poses(turns), transl=transl, leg=leg)


def _stride(motion: Motion, rest: np.ndarray, turns: np.ndarray) -> float:
    """How much longer the way of this body is than the way in the motion.

    The legs' ratio where the motion says whose it is. Else it is found where a foot stands: there
    the pelvis goes as far over the floor as the foot goes back under it (least squares).
    """
    if motion.leg is not None:
        return leg_length(rest) / motion.leg
    likely = leg_length(rest) / leg_length(adult_joints())
    if motion.contacts is None:
        return likely
    places = joint_paths(rest, turns, np.zeros((motion.frames, 3)))
    way = np.diff(motion.transl, axis=0)[:, [0, 2]]
    product = square = 0.0
    for side, leg in enumerate(LEGS):
        for point, column in ((leg.ankle, side), (leg.foot, side + 2)):
            stands = motion.contacts[1:, column] & motion.contacts[:-1, column]
            back = -np.diff(places[:, point], axis=0)[:, [0, 2]]
            product += float(np.sum((way * back)[stands]))
            square += float(np.sum((way * way)[stands]))
    if square < _SURE:
        return likely
    low, high = (likely * scale for scale in _SCALES)
    return float(np.clip(product / square, low, high))


def _lowest(rest: np.ndarray, turns: np.ndarray, transl: np.ndarray, sole: float) -> float:
    places = joint_paths(rest, turns, transl)
    heights = np.minimum(*(sole_heights(rest, turns, places, leg, sole) for leg in LEGS))
    return float(np.percentile(heights, _LOWEST))


def play_in_place_of(motion: Motion, avatar: Avatar, floor: float = 0.0) -> Motion:
    """The motion fitted to an avatar: begins where the photo has them, and as they face there.

    Args:
        motion: as a reader gives it.
        avatar: who shall move.
        floor: metres, scene frame: what they stand on.

    Returns:
        A motion whose poses and transl pose_avatar takes as they are.
    """
    sole = float(avatar.body.vertices[:, 1].min())
    fitted = face_forward(fit_motion(motion, Wearer(avatar.rest_joints, sole)))
    turned = move(fitted, float(heading(axis_angle_to_matrix(avatar.pose[0]))), np.zeros(3))
    step = (avatar.transl - turned.transl[0]) * (1, 0, 1)
    return move(turned, 0.0, step + (0.0, floor, 0.0))
