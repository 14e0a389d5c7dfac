# SPDX-License-Identifier: Apache-2.0
"""Motions from worlds with another axis up, or from tilted cameras, are brought into the scene.

A camera that looks down sees a floor that climbs. Its tilt is found from where feet stand, which is
one plane, and, as far as that leaves it open, from people standing mostly upright.
"""

from dataclasses import replace
from typing import Literal

import numpy as np

from ..geometry.axes import SCENE_FROM_OPENCV
from ..geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from ..geometry.skeleton import JOINT_INDEX
from .feet import between
from .kinematics import adult_joints, global_turns, joint_paths
from .motion import CONTACTS, Motion, runs

UpAxis = Literal["y", "z", "-y"]  # "-y" is an OpenCV camera's

SCENE_FROM: dict[UpAxis, np.ndarray] = {  # [3, 3] proper rotations about x
    "y": np.eye(3),
    "z": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "-y": SCENE_FROM_OPENCV,
}
_HEAD, _ANKLES = JOINT_INDEX["head"], [JOINT_INDEX["left_ankle"], JOINT_INDEX["right_ankle"]]
_LOOKS = 200  # frames looked at
_FLOOR_ERROR = 0.03  # metres, standard deviation of a stand's height over the floor
_BODY_ERROR = 0.1  # radians, of how upright people are on average, and of cameras
_LEVEL = np.radians(3.0)  # smaller tilts are left alone


def up_axis(directions: np.ndarray) -> UpAxis:
    """The axis that people stand along.  # [T, 3] from feet to heads"""
    mean = np.mean(directions / np.linalg.norm(directions, axis=-1, keepdims=True), axis=0)
    scores = {axis: float((matrix @ mean)[1]) for axis, matrix in SCENE_FROM.items()}
    return max(scores, key=lambda axis: scores[axis])


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
    return _turned(motion, SCENE_FROM[up])


def level(motion: Motion) -> Motion:
    """The motion with its floor made horizontal, if it is tilted by more than a few degrees.

    Args:
        motion: upright but for a tilt of the camera, with contacts.
    """
    turn = np.eye(3)
    for _ in range(3):  # a tilt is found to first order
        turn = _tilt(_turned(motion, turn)) @ turn
    angle = np.linalg.norm(matrix_to_axis_angle(turn))
    return motion if angle < _LEVEL else _turned(motion, turn)


def _turned(motion: Motion, matrix: np.ndarray) -> Motion:
    poses = motion.poses.copy()
    poses[:, 0] = matrix_to_axis_angle(matrix @ axis_angle_to_matrix(poses[:, 0]))
    return replace(motion, poses=poses, transl=motion.transl @ matrix.T)


def _tilt(motion: Motion) -> np.ndarray:
    """The small turn that levels the floor (ridge regression of stands' heights).  # [3, 3]

    The floor is height = c + a x + b z, and people stand along (-a, 1, -b).
    """
    paths = joint_paths(adult_joints(), global_turns(motion.poses), motion.transl)
    up = paths[:, _HEAD] - paths[:, _ANKLES].mean(axis=1)
    up = np.mean(up / np.linalg.norm(up, axis=1, keepdims=True), axis=0)
    body = np.array([-up[0], -up[2]]) / max(up[1], 0.5)
    rows = [np.eye(2) / _BODY_ERROR, np.eye(2) / _BODY_ERROR]
    values = [body / _BODY_ERROR, np.zeros(2)]
    for points in _stands(motion, paths):
        points = points - points.mean(axis=0)
        rows.append(points[:, [0, 2]] / _FLOOR_ERROR)
        values.append(points[:, 1] / _FLOOR_ERROR)
    a, b = np.linalg.lstsq(np.concatenate(rows), np.concatenate(values), rcond=None)[0]
    return between(np.array([-a, 1.0, -b]), np.array([0.0, 1.0, 0.0]))


def _stands(motion: Motion, paths: np.ndarray) -> list[np.ndarray]:
    """Where ankles stand and where balls stand, whose heights differ.  # two of [n, 3]"""
    found: list[list[np.ndarray]] = [[], []]
    contacts = np.zeros((motion.frames, 4), bool) if motion.contacts is None else motion.contacts
    for column, name in enumerate(CONTACTS):
        path = paths[:, JOINT_INDEX[name]]
        for first, last in runs(contacts[:, column]):
            found[name.endswith("foot")].append(path[first:last].mean(axis=0))
    return [np.array(places) for places in found if len(places) > 1]


def _standing(motion: Motion) -> np.ndarray:
    """From the ankles to the head, in some of the frames.  # [t, 3]"""
    some = np.unique(np.linspace(0, motion.frames - 1, _LOOKS).astype(int))
    turns = global_turns(motion.poses[some])
    places = joint_paths(adult_joints(), turns, np.zeros((len(some), 3)))
    return places[:, _HEAD] - places[:, _ANKLES].mean(axis=1)
