# SPDX-License-Identifier: Apache-2.0
"""The 55 joints of SMPL-X: names, order and parents, shared by every body model and every rig.

Source: the joint table of the smplx package (vchoutas/smplx, joint_names.py).
"""

import numpy as np

BODY_JOINTS = (
    "pelvis",
    "left_hip",
    "right_hip",
    "spine1",
    "left_knee",
    "right_knee",
    "spine2",
    "left_ankle",
    "right_ankle",
    "spine3",
    "left_foot",
    "right_foot",
    "neck",
    "left_collar",
    "right_collar",
    "head",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
)
FACE_JOINTS = ("jaw", "left_eye_smplhf", "right_eye_smplhf")
FINGERS = ("index", "middle", "pinky", "ring", "thumb")


def _hand(side: str) -> tuple[str, ...]:
    return tuple(f"{side}_{finger}{k}" for finger in FINGERS for k in (1, 2, 3))


JOINT_NAMES: tuple[str, ...] = BODY_JOINTS + FACE_JOINTS + _hand("left") + _hand("right")
NUM_JOINTS = len(JOINT_NAMES)  # 55
JOINT_INDEX: dict[str, int] = {name: i for i, name in enumerate(JOINT_NAMES)}

_BODY_PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19)
_FACE_PARENTS = (15, 15, 15)


def _hand_parents(wrist: int, first: int) -> tuple[int, ...]:
    return tuple(wrist if k % 3 == 0 else first + k - 1 for k in range(15))


PARENTS: tuple[int, ...] = (
    _BODY_PARENTS + _FACE_PARENTS + _hand_parents(20, 25) + _hand_parents(21, 40)
)


def mirror_index() -> np.ndarray:
    """Index of each joint's left-right counterpart (itself on the midline).  # [55] int64"""
    swap = {"left": "right", "right": "left"}
    other = (
        n.replace(n[: n.find("_")], swap[n[: n.find("_")]], 1) if n[: n.find("_")] in swap else n
        for n in JOINT_NAMES
    )
    return np.array([JOINT_INDEX[n] for n in other], dtype=np.int64)
