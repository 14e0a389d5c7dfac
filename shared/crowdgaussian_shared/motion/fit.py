# SPDX-License-Identifier: Apache-2.0
"""A motion made for one body fitted to another: strides, floor, feet, and hands off the trunk."""

from dataclasses import dataclass, replace

import numpy as np

from ..geometry.avatar import Avatar
from ..geometry.rotations import axis_angle_to_matrix
from ..geometry.skeleton import JOINT_INDEX
from .feet import LEGS, Leg, hull, keep_feet, reach, sole_heights
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


def fit_motion(
    motion: Motion, wearer: Wearer, feet: bool = True, floor: bool = True, hands: bool = False
) -> Motion:
    """The motion for this body, with standing feet that stand.

    Args:
        motion: as a reader gives it; without contacts feet are left alone.
        wearer: who shall move.
        feet: hold standing feet.
        floor: put the lowest sole on y = 0; else heights are those of the motion.
        hands: bring hands that sink into the trunk to its surface.

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
    moved = hands and _hands_off(rest, turns, motion.fps)
    if feet and motion.contacts is not None and motion.contacts.any():
        transl = keep_feet(rest, turns, transl, motion.contacts, motion.fps, wearer.sole)
        moved = True
    poses = local_poses(turns) if moved else motion.poses
    return replace(motion, poses=poses, transl=transl, leg=leg)


# Hands off the trunk: four slices of it are ellipses, each as its joint is turned

# Joint: half width, centre in front of the joint, half depth, over the distance of the shoulders.
# Means of ten bodies of the sample and of a photo of football players (widths to 6 %, depths 9 %).
_TRUNK = {
    "pelvis": (0.52, 0.13, 0.44),
    "spine1": (0.47, 0.20, 0.39),
    "spine2": (0.45, 0.17, 0.38),
    "spine3": (0.58, 0.15, 0.38),
}
_BELOW, _ABOVE = 0.3, 0.35  # how far the lowest and the highest slice reach, over the same
_HAND = 0.015  # metres: half a hand's thickness
_SMOOTH = 0.15  # seconds over which a hand goes round before it would sink in, and after
_ROUNDS = 3  # of pushing a hand out: fingers may sink in where the wrist came out
_ARMS = tuple(
    Leg(*(JOINT_INDEX[f"{side}_{j}"] for j in ("shoulder", "elbow", "wrist", "middle1")))
    for side in ("left", "right")
)
_TIPS = ("wrist", "index1", "pinky1", "thumb3", "index3", "middle3", "pinky3")


def _hands_off(rest: np.ndarray, turns: np.ndarray, fps: float) -> bool:
    """Arms reach round the trunk, elbows bent as they are -> whether any had to.

    Args:
        rest: [55, 3] metres.
        turns: [T, 55, 3, 3] orientations of all joints; changed in place.
        fps: frames a second.
    """
    moved = False
    for arm, side in zip(_ARMS, ("left", "right")):
        tips = [JOINT_INDEX[f"{side}_{tip}"] for tip in _TIPS]
        for _ in range(_ROUNDS):
            places = joint_paths(rest, turns, np.zeros((len(turns), 3)))
            push = _way_out(rest, turns, places, places[:, tips])
            if not push.any():
                break
            moved = True
            push = _smoothed(push, round(_SMOOTH * fps))
            rows = np.flatnonzero(push.any(axis=1))  # straight arms elsewhere stay straight
            turned = turns[rows]
            reach(turned, places[rows], arm, places[rows, arm.ankle] + push[rows])
            turns[rows] = turned
    return moved


def _way_out(
    rest: np.ndarray, turns: np.ndarray, places: np.ndarray, points: np.ndarray
) -> np.ndarray:
    """The way of the deepest of some points to the trunk's surface.

    Args:
        rest: [55, 3] metres.
        turns: [T, 55, 3, 3].
        places: [T, 55, 3] of all joints, metres.
        points: [T, K, 3] metres.

    Returns:
        [T, 3] metres, zero where none is inside.
    """
    wide = float(np.linalg.norm(np.subtract(*(rest[arm.hip] for arm in _ARMS))))
    joints = [JOINT_INDEX[name] for name in _TRUNK]
    heights = rest[joints, 1]
    edges = (heights[1:] + heights[:-1]) / 2
    lows = np.append(heights[0] - _BELOW * wide, edges) - heights
    highs = np.append(edges, heights[-1] + _ABOVE * wide) - heights
    out, depth = np.zeros((len(points), 3)), np.zeros(len(points))
    for joint, low, high, (a, z, b) in zip(joints, lows, highs, _TRUNK.values()):
        local = (points - places[:, joint, None]) @ turns[:, joint]  # [T, K, 3]
        flat = local[..., [0, 2]] - (0.0, z * wide)
        half = np.array([a, b]) * wide + _HAND
        share = np.maximum(np.linalg.norm(flat / half, axis=2), 1e-6)
        inside = (share < 1) & (local[..., 1] > low) & (local[..., 1] < high)
        way = np.where(inside[..., None], flat * (1 / share - 1)[..., None], 0.0)
        length = np.linalg.norm(way, axis=2)
        worst = length.argmax(axis=1)
        rows = np.arange(len(points))
        deeper = length[rows, worst] > depth
        found = np.zeros((len(points), 3))
        found[:, [0, 2]] = way[rows, worst]
        turned = np.einsum("tab,tb->ta", turns[:, joint], found)
        out[deeper], depth[deeper] = turned[deeper], length[rows, worst][deeper]
    return out


def _smoothed(push: np.ndarray, half: int) -> np.ndarray:
    """Pushes that begin before they must and are nowhere shorter.  # [T, 3]"""
    if half < 1:
        return push
    length = np.linalg.norm(push, axis=1)
    window = np.ones(4 * half + 1)
    mean = np.stack([np.convolve(c, window)[2 * half : 2 * half + len(c)] for c in push.T], axis=1)
    unit = mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-9)
    return unit * hull(length, half)[:, None]


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
