# SPDX-License-Identifier: Apache-2.0
"""Motions from worlds with another axis up are turned into the scene frame (y up)."""

from dataclasses import replace
from typing import Literal

import numpy as np

from .motion import Motion
from .motion_kinematics import adult_joints, global_turns, joint_paths
from .rotations import axis_angle_to_matrix, matrix_to_axis_angle
from .skeleton import JOINT_INDEX

UpAxis = Literal["y", "z", "-y"]  # "-y" is an OpenCV camera's

SCENE_FROM: dict[str, np.ndarray] = {  # [3, 3] proper rotations about x
    "y": np.eye(3),
    "z": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "-y": np.diag([1.0, -1.0, -1.0]),
}
_HEAD, _ANKLES = JOINT_INDEX["head"], [JOINT_INDEX["left_ankle"], JOINT_INDEX["right_ankle"]]
_LOOKS = 200  # frames looked at


def up_axis(directions: np.ndarray) -> UpAxis:
    """The axis that people stand along.  # [T, 3] from feet to heads"""
    mean = np.mean(directions / np.linalg.norm(directions, axis=-1, keepdims=True), axis=0)
    scores = {axis: float((matrix @ mean)[1]) for axis, matrix in SCENE_FROM.items()}
    return max(scores, key=scores.get)


def upright(motion: Motion, up: UpAxis | Literal["auto"] = "auto") -> Motion:
    """The motion in the scene frame.

    Args:
        motion: in a world with any axis up.
        up: that axis, or "auto" to find it from how the person mostly stands.
    """
    if up == "auto":
        up = up_axis(_standing(motion))
    if up == "y":
        return motion
    matrix = SCENE_FROM[up]
    poses = motion.poses.copy()
    poses[:, 0] = matrix_to_axis_angle(matrix @ axis_angle_to_matrix(poses[:, 0]))
    return replace(motion, poses=poses, transl=motion.transl @ matrix.T)


def _standing(motion: Motion) -> np.ndarray:
    """From the ankles to the head, in some of the frames.  # [t, 3]"""
    some = np.unique(np.linspace(0, motion.frames - 1, _LOOKS).astype(int))
    turns = global_turns(motion.poses[some])
    places = joint_paths(adult_joints(), turns, np.zeros((len(some), 3)))
    return places[:, _HEAD] - places[:, _ANKLES].mean(axis=1)
