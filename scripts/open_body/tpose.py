# SPDX-License-Identifier: Apache-2.0
"""From anny's A-pose to the T-pose of SMPL-X by inverse skinning.

The T-pose is the shape whose linear blend skinning back to the A-pose is anny's body, exactly:
arms that hang, the commonest pose in photos, then keep anny's own shoulders.
"""

import numpy as np
from crowdgaussian_shared.geometry.skeleton import FINGERS, JOINT_INDEX, PARENTS

_THIGH = np.array([0.04, -1.0, -0.02])  # left side; SMPL-X's legs lean back a little
_SHANK = np.array([-0.02, -1.0, -0.07])
_TOE_OUT = np.deg2rad(8.0)
_FINGER_CURL = 0.3  # share of the relaxed hand's finger bend that stays
_FINGER_SPREAD = 0.8
_STRAIGHT_FINGERS = ("index", "middle", "ring", "pinky")


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def align(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The smallest rotation that turns one direction into another.  # [3], [3] -> [3, 3]"""
    a, b = _unit(source), _unit(target)
    v = np.cross(a, b)
    cross = np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])
    return np.eye(3) + cross + cross @ cross / (1.0 + a @ b)


def _frame(along: np.ndarray, side: np.ndarray) -> np.ndarray:
    first = _unit(along)
    second = _unit(side - (side @ first) * first)
    return np.stack([first, second, np.cross(first, second)], axis=1)


def _arm(joints: np.ndarray, side: str, sign: float, rotations: np.ndarray) -> None:
    def at(name: str) -> np.ndarray:
        return joints[JOINT_INDEX[f"{side}_{name}"]]

    out = np.array([sign, 0.0, 0.0])
    shoulder = align(at("elbow") - at("shoulder"), out)
    elbow = align(shoulder @ (at("wrist") - at("elbow")), out) @ shoulder
    hand = _frame(at("middle1") - at("wrist"), at("index1") - at("pinky1"))
    wrist = _frame(out, np.array([0.0, 0.0, 1.0])) @ hand.T
    for name, rotation in (("shoulder", shoulder), ("elbow", elbow), ("wrist", wrist)):
        rotations[JOINT_INDEX[f"{side}_{name}"]] = rotation


def _fingers(joints: np.ndarray, tips: np.ndarray, side: str, rotations: np.ndarray) -> None:
    wrist = rotations[JOINT_INDEX[f"{side}_wrist"]]
    for finger, tip in zip(FINGERS, tips, strict=True):
        ids = [JOINT_INDEX[f"{side}_{finger}{k}"] for k in (1, 2, 3)]
        ends = [joints[ids[1]], joints[ids[2]], tip]
        previous = wrist
        for joint, end in zip(ids, ends, strict=True):
            if finger in _STRAIGHT_FINGERS:
                direction = wrist @ (end - joints[joint])
                target = direction * [1.0, _FINGER_CURL, _FINGER_SPREAD]
                previous = align(previous @ (end - joints[joint]), target) @ previous
            rotations[joint] = previous


def _leg(joints: np.ndarray, side: str, sign: float, rotations: np.ndarray) -> None:
    hip, knee, ankle, foot = (JOINT_INDEX[f"{side}_{n}"] for n in ("hip", "knee", "ankle", "foot"))
    flip = np.array([sign, 1.0, 1.0])
    rotations[hip] = align(joints[knee] - joints[hip], _THIGH * flip)
    shank = rotations[hip] @ (joints[ankle] - joints[knee])
    rotations[knee] = align(shank, _SHANK * flip) @ rotations[hip]
    cos, sin = np.cos(sign * _TOE_OUT), np.sin(sign * _TOE_OUT)
    rotations[ankle] = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    rotations[foot] = rotations[ankle]


def a_to_t_rotations(joints: np.ndarray, tips: np.ndarray) -> np.ndarray:
    """World rotation of each joint that turns one A-posed body to T.  # [55, 3], [10, 3]"""
    rotations = np.tile(np.eye(3), (len(joints), 1, 1))
    for side, sign, its_tips in (("left", 1.0, tips[:5]), ("right", -1.0, tips[5:])):
        _arm(joints, side, sign, rotations)
        _fingers(joints, its_tips, side, rotations)
        _leg(joints, side, sign, rotations)
    return rotations


def unpose(
    vertices: np.ndarray, joints: np.ndarray, tips: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """One body from A-pose to T-pose, the pelvis at the origin.

    Args:
        vertices: [V, 3] metres, A-pose.
        joints: [55, 3] A-pose.
        tips: [10, 3] finger tips.
        weights: [V, 55].

    Returns:
        vertices [V, 3] and joints [55, 3] in the T-pose.
    """
    rotations = a_to_t_rotations(joints.astype(np.float64), tips.astype(np.float64))
    placed = np.zeros((len(joints), 3))
    for joint in range(1, len(joints)):
        parent = PARENTS[joint]
        offset = joints[joint] - joints[parent]
        placed[joint] = placed[parent] + rotations[parent] @ offset
    back = rotations.transpose(0, 2, 1)
    shift = joints - np.einsum("jab,jb->ja", back, placed)
    linear = (weights @ back.reshape(-1, 9)).reshape(-1, 3, 3)
    posed = vertices - weights @ shift
    return np.linalg.solve(linear, posed[..., None])[..., 0], placed
