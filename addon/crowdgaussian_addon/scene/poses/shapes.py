# SPDX-License-Identifier: GPL-3.0-or-later
"""Poses that come with the add-on, as angles relative to the T-pose, in degrees.

Axes are SMPL-X's: x to the person's left, y up, z forward. On the left, arms go down about -z and
forward about -y, elbows bend about -y, hips lift the thigh about -x, knees bend about x.
"""

import numpy as np
from crowdgaussian_shared.geometry.skeleton import FINGERS, JOINT_INDEX, NUM_JOINTS

Angles = dict[str, tuple[float, float, float]]


def _both(angles: Angles) -> Angles:
    """A pose of the left, mirrored to the right."""
    mirrored = {f"right_{name[5:]}": (x, -y, -z) for name, (x, y, z) in angles.items()
                if name.startswith("left_")}  # fmt: skip
    return angles | mirrored


def _curled(side: str, degrees: float) -> Angles:
    """Fingers bent by so much at every joint; the thumb less."""
    sign = -1.0 if side == "left" else 1.0
    fingers = {f"{side}_{finger}{k}": (0.0, 0.0, sign * degrees)
               for finger in FINGERS if finger != "thumb" for k in (1, 2, 3)}  # fmt: skip
    thumb = {f"{side}_thumb{k}": (0.0, 0.0, 0.35 * sign * degrees) for k in (2, 3)}
    return fingers | thumb


_EASY_HANDS = _curled("left", 14.0) | _curled("right", 14.0)
_ARMS_DOWN = _both({"left_collar": (0, 0, -4), "left_shoulder": (6, -4, -72),
                    "left_elbow": (0, -16, 0)})  # fmt: skip
_STANDING = _ARMS_DOWN | _EASY_HANDS

POSES: dict[str, Angles] = {
    "T-pose": {},
    "A-pose": _both({"left_shoulder": (0, 0, -45)}),
    "Standing": _STANDING,
    "At ease": _STANDING | {
        "pelvis": (0, 4, 3), "left_hip": (0, 6, -6), "right_hip": (-9, -12, 1),
        "right_knee": (16, 0, 0), "right_ankle": (-6, 0, 0), "left_ankle": (0, 0, 3),
        "spine2": (0, -2, -4), "head": (3, 8, 2),
    },
    "Waving": _STANDING | {
        "right_collar": (0, 0, -10), "right_shoulder": (0, 12, -18), "right_elbow": (0, 0, -78),
        "right_wrist": (0, 0, -8), "head": (0, -8, -4), "spine3": (0, 0, 3),
    } | _curled("right", 2.0),
    "Walking": _STANDING | {
        "left_hip": (-26, 0, 2), "left_knee": (8, 0, 0), "left_ankle": (6, 0, 0),
        "right_hip": (16, 0, -2), "right_knee": (22, 0, 0), "right_ankle": (16, 0, 0),
        "right_foot": (-24, 0, 0), "left_shoulder": (6, 18, -72), "right_shoulder": (6, 26, 72),
        "spine1": (3, -4, 0), "spine3": (0, 8, 0),
    },
    "Sitting": _both({
        "left_hip": (-86, -8, -4), "left_knee": (84, 0, 0), "left_ankle": (2, 0, 0),
        "left_shoulder": (4, -32, -62), "left_elbow": (0, -34, 0),
    }) | _EASY_HANDS | {"spine1": (6, 0, 0), "neck": (4, 0, 0)},
    "Cheering": _both({
        "left_collar": (0, 0, 16), "left_shoulder": (0, -8, 50), "left_elbow": (0, -14, 12),
        "left_hip": (0, 0, 7), "left_ankle": (0, 0, -7),
    }) | _curled("left", 60.0) | _curled("right", 60.0) | {"head": (-12, 0, 0)},
    "Hands on hips": _both({
        "left_shoulder": (68, -1, -48), "left_elbow": (0, -104, 0), "left_wrist": (0, 30, 0),
        "left_hip": (0, 0, 6), "left_ankle": (0, 0, -6),
    }) | _EASY_HANDS,
    "Pointing": _STANDING | {
        "left_collar": (0, -8, 4), "left_shoulder": (0, -78, -4), "left_elbow": (0, -4, 0),
        "head": (0, 6, 0),
    } | _curled("left", 55.0) | {f"left_index{k}": (0, 0, 0) for k in (1, 2, 3)},
}  # fmt: skip


def pose_angles(name: str) -> np.ndarray:
    """A pose by its name.  # [55, 3] axis-angle, radians"""
    pose = np.zeros((NUM_JOINTS, 3))
    for joint, angles in POSES[name].items():
        pose[JOINT_INDEX[joint]] = np.radians(angles)
    return pose
