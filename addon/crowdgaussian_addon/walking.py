# SPDX-License-Identifier: GPL-3.0-or-later
"""A pose that shows a person is animatable: a stride with one hand raised."""

import numpy as np
from crowdgaussian_shared.avatar import Avatar
from crowdgaussian_shared.rotations import axis_angle_to_matrix
from crowdgaussian_shared.skeleton import JOINT_INDEX, NUM_JOINTS
from crowdgaussian_shared.skinning import pose_body

_STRIDE = {  # axis-angle in radians, relative to the T-pose
    "left_hip": (-0.50, 0.0, 0.05),
    "right_hip": (0.35, 0.0, -0.05),
    "left_knee": (0.15, 0.0, 0.0),
    "right_knee": (0.45, 0.0, 0.0),
    "right_ankle": (0.20, 0.0, 0.0),
    "spine2": (0.0, 0.12, 0.0),
    "left_collar": (0.0, 0.0, 0.15),
    "left_shoulder": (0.0, -0.35, 0.55),
    "left_elbow": (0.0, -0.45, 0.75),
    "right_shoulder": (0.15, 0.25, 1.15),
    "right_elbow": (0.0, 0.45, 0.0),
    "head": (-0.05, 0.15, 0.0),
}


def walking_pose(avatar: Avatar, ground: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """The stride on the spot where the person stood, facing as they did, soles on the floor.

    Args:
        avatar: the person.
        ground: metres, height of the floor in the scene frame.

    Returns:
        pose [55, 3] axis-angle and transl [3] metres, for rig.set_pose.
    """
    pose = np.zeros((NUM_JOINTS, 3))
    facing = axis_angle_to_matrix(np.asarray(avatar.pose[0], np.float64))
    turn = np.arctan2(facing[0, 2] - facing[2, 0], facing[0, 0] + facing[2, 2])
    pose[0] = (0.0, turn, 0.0)
    for name, rotation in _STRIDE.items():
        pose[JOINT_INDEX[name]] = rotation
    transl = np.array(avatar.transl, np.float64)
    transl[1] = 0.0
    transl[1] = ground - pose_body(avatar, pose, transl)[:, 1].min()
    return pose, transl
