# SPDX-License-Identifier: Apache-2.0
"""The 33 MediaPipe pose landmarks as weighted vertices and joints of the open body.

Limbs are joints, shifted to where MediaPipe marks them: the shifts are the mean differences to
its detections on renderings of this body (27 views), 15 to 40 mm before, 1 to 15 mm after.

Every landmark is sum_k weights[k] point[ids[k]], where point is the list of all vertices followed
by the 55 joints. Odd ids from 7 on are the subject's left.
"""

from dataclasses import dataclass

import numpy as np
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX, mirror_index

SLOTS = 4
# left landmark -> joint: weight
_JOINT_LANDMARKS = {
    13: {"left_elbow": 0.95, "left_shoulder": 0.05},
    15: {"left_wrist": 1.0},
    17: {"left_pinky1": 0.85, "left_wrist": 0.15},
    19: {"left_index1": 0.85, "left_wrist": 0.15},
    21: {"left_thumb2": 1.0},
    23: {"left_hip": 0.9, "pelvis": 0.07, "right_hip": 0.03},
    25: {"left_knee": 1.0},
    27: {"left_ankle": 0.91, "left_knee": 0.09},
}
_SHOULDER_TOP = 0.3  # share of the skin above the shoulder joint
_HEEL_ANKLE = 0.7  # share of the ankle joint: the mark lies on the side of the heel
_EAR_ACROSS = 0.12  # share of the other ear: the mark lies on the edge of the cheek
# (left, right) landmark ids
_PAIRS = ((1, 4), (2, 5), (3, 6), *((k, k + 1) for k in range(7, 33, 2)))


@dataclass(frozen=True)
class Anatomy:
    """What the landmark rules look at."""

    vertices: np.ndarray  # [V, 3] mean body, T-pose
    joints: np.ndarray  # [55, 3]
    faces: np.ndarray  # [F, 3]
    interior_faces: np.ndarray  # [F] bool
    parts: np.ndarray  # [V] dominant joint
    mirror: np.ndarray  # [V]
    left_ear: np.ndarray  # [3] where photos are annotated


def _extreme(anatomy: Anatomy, mask: np.ndarray, direction: tuple[float, float, float]) -> int:
    score = np.where(mask, anatomy.vertices @ np.array(direction), -np.inf)
    return int(score.argmax())


def _rim(anatomy: Anatomy) -> np.ndarray:
    """Vertices between the skin and a cavity: the lid margins and the lips' inner line."""
    inside, outside = np.zeros((2, len(anatomy.vertices)), dtype=bool)
    inside[anatomy.faces[anatomy.interior_faces]] = True
    outside[anatomy.faces[~anatomy.interior_faces]] = True
    return inside & outside


def _face_landmarks(anatomy: Anatomy) -> dict[int, dict[int, float]]:
    vertices = anatomy.vertices
    left = vertices[:, 0] > 1e-4
    eyeball = anatomy.parts == JOINT_INDEX["left_eye_smplhf"]
    centre = vertices[eyeball].mean(axis=0)
    rim = _rim(anatomy) & left & ~eyeball
    lids = rim & (np.linalg.norm(vertices - centre, axis=1) < 0.035)
    lips = rim & (vertices[:, 1] < centre[1] - 0.035)
    head = np.isin(anatomy.parts, [JOINT_INDEX["head"], JOINT_INDEX["jaw"]])
    ear = int(np.linalg.norm(vertices - anatomy.left_ear, axis=1).argmin())
    return {
        0: {_extreme(anatomy, head & (np.abs(vertices[:, 0]) < 1e-3), (0, 0, 1)): 1.0},
        1: {_extreme(anatomy, lids, (-1, 0, 0)): 1.0},
        2: {_pupil(anatomy, eyeball, centre): 1.0},
        3: {_extreme(anatomy, lids, (1, 0, 0)): 1.0},
        7: {ear: 1 - _EAR_ACROSS, int(anatomy.mirror[ear]): _EAR_ACROSS},
        9: {_extreme(anatomy, lips, (1, 0, 0)): 1.0},
    }


def _pupil(anatomy: Anatomy, eyeball: np.ndarray, centre: np.ndarray) -> int:
    """The eyeball vertex straight ahead of its centre."""
    ahead = anatomy.vertices - centre
    off_axis = np.linalg.norm(ahead[:, :2], axis=1)
    return int(np.where(eyeball & (ahead[:, 2] > 0), off_axis, np.inf).argmin())


def _limb_landmarks(anatomy: Anatomy) -> dict[int, dict[int, float]]:
    vertices, count = anatomy.vertices, len(anatomy.vertices)
    shoulder, ankle, foot = (JOINT_INDEX[f"left_{n}"] for n in ("shoulder", "ankle", "foot"))
    above = np.abs(vertices[:, 0] - 0.83 * anatomy.joints[shoulder, 0]) < 0.015
    sole = vertices[np.isin(anatomy.parts, [ankle, foot]), 1].min()
    heel = (anatomy.parts == ankle) & (vertices[:, 1] < sole + 0.035)
    toes = anatomy.parts == foot
    top = _extreme(anatomy, above, (0, 1, 0))
    back = _extreme(anatomy, heel, (0, 0, -1))
    result = {
        11: {count + shoulder: 1 - _SHOULDER_TOP, top: _SHOULDER_TOP},
        29: {back: 1 - _HEEL_ANKLE, count + ankle: _HEEL_ANKLE},
        31: {_extreme(anatomy, toes, (0, 0, 1)): 0.5, _extreme(anatomy, toes, (0.5, 0, 1)): 0.5},
    }
    for landmark, row in _JOINT_LANDMARKS.items():
        result[landmark] = {count + JOINT_INDEX[name]: share for name, share in row.items()}
    return result


def build_landmarks(anatomy: Anatomy) -> tuple[np.ndarray, np.ndarray]:
    """Landmark regressors of the mean body: ids [33, 4] int32, weights [33, 4], rows sum to 1."""
    count = len(anatomy.vertices)
    weighted = _face_landmarks(anatomy) | _limb_landmarks(anatomy)
    other = np.concatenate([anatomy.mirror, count + mirror_index()])
    for left, right in _PAIRS:
        weighted[right] = {int(other[i]): w for i, w in weighted[left].items()}
    ids = np.zeros((33, SLOTS), dtype=np.int32)
    weights = np.zeros((33, SLOTS), dtype=np.float32)
    for landmark, row in weighted.items():
        ids[landmark, : len(row)] = list(row)
        weights[landmark, : len(row)] = list(row.values())
    return ids, weights
