# SPDX-License-Identifier: Apache-2.0
"""The 55 joints over many frames at once, and the skeleton of an adult nobody in particular."""

import numpy as np

from ..geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from ..geometry.skeleton import FINGERS, JOINT_INDEX, JOINT_NAMES, PARENTS

# Midline and left joints of an adult 1.64 m tall in T-pose, metres from the pelvis: the mean shape
# of the open body model, rounded.
_ADULT = {
    "pelvis": (0, 0, 0), "spine1": (0, 0.072, -0.012), "spine2": (0, 0.149, -0.014),
    "spine3": (0, 0.274, -0.026), "neck": (0, 0.448, 0.013), "head": (0, 0.53, 0.036),
    "jaw": (0, 0.551, 0.059), "left_eye_smplhf": (0.029, 0.583, 0.122),
    "left_hip": (0.107, -0.086, 0.005), "left_knee": (0.122, -0.457, -0.003),
    "left_ankle": (0.114, -0.872, -0.032), "left_foot": (0.124, -0.918, 0.107),
    "left_collar": (0.022, 0.375, 0.027), "left_shoulder": (0.167, 0.354, 0.022),
    "left_elbow": (0.417, 0.354, 0.022), "left_wrist": (0.641, 0.354, 0.022),
}  # fmt: skip
_ADULT_FINGERS = {  # where each begins, and the step from one of its joints to the next
    "index": ((0.744, 0.350, 0.048), (0.024, -0.003, 0.003)),
    "middle": ((0.743, 0.354, 0.022), (0.03, -0.003, -0.003)),
    "pinky": ((0.728, 0.350, -0.015), (0.017, -0.003, -0.006)),
    "ring": ((0.737, 0.355, 0.003), (0.026, -0.003, -0.006)),
    "thumb": ((0.679, 0.350, 0.046), (0.018, -0.019, 0.02)),
}
ADULT_SOLE = -0.945  # metres, height of the soles below the pelvis


def adult_joints() -> np.ndarray:
    """Rest joints for motions that do not say whose they are.  # [55, 3] metres"""
    places = {name: np.array(place, float) for name, place in _ADULT.items()}
    for finger in FINGERS:
        start, step = (np.array(v) for v in _ADULT_FINGERS[finger])
        for k in range(3):
            places[f"left_{finger}{k + 1}"] = start + k * step
    for name, place in list(places.items()):
        if name.startswith("left_"):
            places["right_" + name[5:]] = place * (-1, 1, 1)
    return np.stack([places[name] for name in JOINT_NAMES])


def leg_length(rest_joints: np.ndarray) -> float:
    """Thigh and shin, the mean of both legs, in metres."""
    total = 0.0
    for side in ("left", "right"):
        hip, knee, ankle = (rest_joints[JOINT_INDEX[f"{side}_{j}"]] for j in _LEG)
        total += float(np.linalg.norm(knee - hip) + np.linalg.norm(ankle - knee))
    return total / 2


_LEG = ("hip", "knee", "ankle")


def global_turns(poses: np.ndarray) -> np.ndarray:
    """Orientations of all joints.  # [T, 55, 3] axis-angle -> [T, 55, 3, 3]"""
    turns = axis_angle_to_matrix(np.asarray(poses, np.float64))
    for joint, parent in enumerate(PARENTS):
        if parent >= 0:
            turns[:, joint] = turns[:, parent] @ turns[:, joint]
    return turns


def local_poses(turns: np.ndarray) -> np.ndarray:
    """The inverse of global_turns.  # [T, 55, 3, 3] -> [T, 55, 3]"""
    local = turns.copy()
    for joint, parent in enumerate(PARENTS):
        if parent >= 0:
            local[:, joint] = turns[:, parent].swapaxes(-1, -2) @ turns[:, joint]
    return matrix_to_axis_angle(local)


def joint_paths(rest_joints: np.ndarray, turns: np.ndarray, transl: np.ndarray) -> np.ndarray:
    """Where the joints go, as in joint_transforms.

    Args:
        rest_joints: [55, 3] metres, canonical frame.
        turns: [T, 55, 3, 3] from global_turns.
        transl: [T, 3] metres.

    Returns:
        [T, 55, 3] float64 metres.
    """
    rest = np.asarray(rest_joints, np.float64)
    places = np.empty((*turns.shape[:2], 3))
    places[:, 0] = rest[0] + transl
    for joint, parent in enumerate(PARENTS):
        if parent >= 0:
            bone = rest[joint] - rest[parent]
            places[:, joint] = places[:, parent] + turns[:, parent] @ bone
    return places


def heading(turns: np.ndarray) -> np.ndarray:
    """The turn about y nearest to each rotation, in radians.  # [..., 3, 3] -> [...]"""
    return np.arctan2(turns[..., 0, 2] - turns[..., 2, 0], turns[..., 0, 0] + turns[..., 2, 2])


def about_y(angle: float) -> np.ndarray:
    """The rotation about the vertical by an angle in radians.  # [3, 3]"""
    return axis_angle_to_matrix(np.array([0.0, angle, 0.0]))
