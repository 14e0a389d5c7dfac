# SPDX-License-Identifier: Apache-2.0
"""Where on the body the face, the scalp, the hands and the other parts lie."""

from dataclasses import dataclass

import numpy as np
from crowdgaussian_shared.skeleton import JOINT_INDEX, JOINT_NAMES

from .geometry import vertex_normals
from .posed_body import PosedBody

HEAD, TORSO, ARM, HAND, LEG, FOOT = range(6)
_HEAD_JOINTS = ("head", "jaw", "left_eye_smplhf", "right_eye_smplhf")
_ARM_JOINTS = ("shoulder", "elbow")
_LEG_JOINTS = ("hip", "knee")
_FOOT_JOINTS = ("ankle", "foot")


@dataclass(frozen=True)
class Regions:
    """Per vertex of one person's body."""

    group: np.ndarray  # [V] int: HEAD (with the neck), TORSO, ARM, HAND, LEG, FOOT
    face: np.ndarray  # [V] float 0..1: the front of the face, without hair
    scalp: np.ndarray  # [V] float 0..1: where hair grows
    neck: np.ndarray  # [V] bool
    interior: np.ndarray  # [V] bool: eyeballs' backs and the mouth's inside


def find_regions(body, posed: PosedBody) -> Regions:
    """Regions from the skinning and from where the eyes are."""
    parts = np.asarray(body.parts, np.int64)
    group = _groups()[parts]
    face, scalp = _face_and_scalp(posed, group == HEAD)
    behind = vertex_normals(posed.rest, posed.faces)[:, 2] < 0.2
    interior = np.asarray(body.interior, bool) | (np.asarray(body.eyes, bool) & behind)
    neck = parts == JOINT_INDEX["neck"]
    return Regions(np.where(neck, HEAD, group), face, scalp, neck, interior)


def _groups() -> np.ndarray:
    """The group of each joint.  # [55] int"""
    def of(name: str) -> int:
        if name in _HEAD_JOINTS:
            return HEAD
        for words, group in ((_ARM_JOINTS, ARM), (_LEG_JOINTS, LEG), (_FOOT_JOINTS, FOOT)):
            if any(name.endswith(word) for word in words):
                return group
        return HAND if name.startswith(("left_", "right_")) and "collar" not in name else TORSO

    return np.array([of(name) for name in JOINT_NAMES])


def _face_and_scalp(posed: PosedBody, head: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Soft masks; lengths are measured in distances between the eyes."""
    left, right = (posed.joints[JOINT_INDEX[f"{side}_eye_smplhf"]] for side in ("left", "right"))
    apart = max(float(np.linalg.norm(left - right)), 0.03)
    local = (posed.rest - 0.5 * (left + right)) / apart  # [V, 3]
    normals = vertex_normals(posed.rest, posed.faces)
    forward, height = local[:, 2], local[:, 1]
    front = _ramp(forward, -0.75, -0.25) * _ramp(normals[:, 2], -0.1, 0.25)
    below_hairline = _ramp(-height, -1.15, -0.85)
    face = head * front * below_hairline
    hairline = 0.9 + 0.85 * np.minimum(forward, 0.0)  # falls towards the nape
    scalp = head * _ramp(height - np.maximum(hairline, -1.3), -0.1, 0.15) * (1 - face)
    return face, scalp


def _ramp(values: np.ndarray, low: float, high: float) -> np.ndarray:
    t = np.clip((values - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)
