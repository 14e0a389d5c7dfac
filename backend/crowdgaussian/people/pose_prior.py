# SPDX-License-Identifier: Apache-2.0
"""What joints of living people do: usual angles, limits, relaxed hands.

Angles are components of the axis-angle vector of each joint in the T-pose frame: x flexes spine,
hips and knees, y turns, z leans; a left elbow bends about -y, a right one about +y, knees about
+x (the signs of SMPLify-X's angle prior). The numbers are ours, from ranges of motion in anatomy
books, rounded.
"""

import torch
from crowdgaussian_shared.skeleton import BODY_JOINTS, JOINT_INDEX, JOINT_NAMES
from torch import Tensor

# joint: (usual, spread, lowest, highest) per axis x, y, z, radians; left side, mirrored for right.
_LEFT = {
    "hip": ((-0.15, 0.05, 0.05), (0.55, 0.3, 0.25), (-2.1, -0.8, -0.5), (0.5, 0.8, 0.9)),
    "knee": ((0.15, 0.0, 0.0), (0.7, 0.12, 0.06), (0.0, -0.25, -0.1), (2.5, 0.25, 0.1)),
    "ankle": ((0.0, 0.0, 0.0), (0.25, 0.12, 0.1), (-0.6, -0.35, -0.3), (0.8, 0.35, 0.3)),
    "foot": ((0.0, 0.0, 0.0), (0.1, 0.04, 0.04), (-0.6, -0.1, -0.1), (0.3, 0.1, 0.1)),
    "collar": ((0.0, -0.05, -0.05), (0.1, 0.12, 0.14), (-0.3, -0.4, -0.35), (0.3, 0.4, 0.5)),
    "shoulder": ((0.1, -0.3, -0.9), (0.5, 0.6, 0.6), (-1.4, -2.2, -1.7), (1.4, 1.0, 1.5)),
    "elbow": ((0.0, -0.6, 0.0), (0.5, 0.7, 0.12), (-1.3, -2.5, -0.25), (1.3, 0.0, 0.25)),
    "wrist": ((0.0, 0.0, 0.0), (0.3, 0.2, 0.25), (-0.6, -0.5, -0.9), (0.6, 0.5, 0.9)),
}
_MIDDLE = {
    "spine1": ((0.05, 0.0, 0.0), (0.15, 0.08, 0.08), (-0.3, -0.25, -0.25), (0.6, 0.25, 0.25)),
    "spine2": ((0.03, 0.0, 0.0), (0.12, 0.08, 0.08), (-0.25, -0.25, -0.2), (0.5, 0.25, 0.2)),
    "spine3": ((0.0, 0.0, 0.0), (0.08, 0.08, 0.07), (-0.2, -0.25, -0.2), (0.35, 0.25, 0.2)),
    "neck": ((0.05, 0.0, 0.0), (0.2, 0.25, 0.12), (-0.5, -0.6, -0.35), (0.6, 0.6, 0.35)),
    "head": ((0.0, 0.0, 0.0), (0.2, 0.25, 0.12), (-0.5, -0.6, -0.35), (0.5, 0.6, 0.35)),
}
_MIRROR = torch.tensor([1.0, -1.0, -1.0])
_CURL = {"index": 0.3, "middle": 0.35, "ring": 0.4, "pinky": 0.42, "thumb": 0.12}


def _row(joint: str) -> Tensor:
    """Usual, spread, lowest, highest of one joint.  # [4, 3]"""
    side, _, part = joint.partition("_")
    if side not in ("left", "right"):
        return torch.tensor(_MIDDLE[joint])
    row = torch.tensor(_LEFT[part])
    if side == "left":
        return row
    usual, spread, low, high = row * torch.stack([_MIRROR, torch.ones(3), _MIRROR, _MIRROR])
    return torch.stack([usual, spread, torch.minimum(low, high), torch.maximum(low, high)])


_TABLE = torch.stack([_row(joint) for joint in BODY_JOINTS[1:]])  # [21, 4, 3]


def usual_pose() -> Tensor:
    """The middle of the prior: standing, arms down.  # [21, 3]"""
    return _TABLE[:, 0].clone()


def pose_energy(body_pose: Tensor) -> Tensor:
    """How unusual a pose is.  # [B, 21, 3] -> [B]"""
    return (((body_pose - _TABLE[:, 0]) / _TABLE[:, 1]) ** 2).sum(dim=(1, 2))


def limit_energy(body_pose: Tensor) -> Tensor:
    """How far joints are bent beyond what bodies do, in squared radians.  # [B, 21, 3] -> [B]"""
    beyond = (body_pose - _TABLE[:, 3]).clamp_min(0) + (_TABLE[:, 2] - body_pose).clamp_min(0)
    return beyond.square().sum(dim=(1, 2))


def relaxed_hands() -> Tensor:
    """Axis-angle of jaw, eyes and fingers: hands at rest curl a little.  # [33, 3]"""
    pose = torch.zeros(len(JOINT_NAMES), 3)
    for side, sign in (("left", -1.0), ("right", 1.0)):
        for finger, curl in _CURL.items():
            for k in (1, 2, 3):
                pose[JOINT_INDEX[f"{side}_{finger}{k}"], 2] = sign * curl
    return pose[len(BODY_JOINTS):]
