# SPDX-License-Identifier: Apache-2.0
"""The 33 MediaPipe pose landmarks as weighted vertices and joints of the open body.

Every landmark is sum_k weights[k] point[ids[k]], where point is the list of all vertices followed
by the 55 joints. Odd ids from 7 on are the subject's left.
"""

from dataclasses import dataclass

import numpy as np
from crowdgaussian_shared.skeleton import JOINT_INDEX, mirror_index

SLOTS = 4
# left landmark -> joints whose mean it is
_JOINT_LANDMARKS = {
    11: ("left_shoulder",), 13: ("left_elbow",), 15: ("left_wrist",), 17: ("left_pinky1",),
    19: ("left_index1",), 21: ("left_thumb2", "left_thumb3"), 25: ("left_knee",),
    27: ("left_ankle",),
}
_HIP = 23
# (left, right) landmark ids
_PAIRS = ((1, 4), (2, 5), (3, 6), *((k, k + 1) for k in range(7, 33, 2)))


@dataclass(frozen=True)
class Anatomy:
    """What the landmark rules look at."""

    vertices: np.ndarray  # [V, 3] mean body, T-pose
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


def _face_vertices(anatomy: Anatomy) -> dict[int, tuple[int, ...]]:
    vertices = anatomy.vertices
    left = vertices[:, 0] > 1e-4
    eyeball = anatomy.parts == JOINT_INDEX["left_eye_smplhf"]
    centre = vertices[eyeball].mean(axis=0)
    rim = _rim(anatomy) & left & ~eyeball
    lids = rim & (np.linalg.norm(vertices - centre, axis=1) < 0.035)
    lips = rim & (vertices[:, 1] < centre[1] - 0.035)
    head = np.isin(anatomy.parts, [JOINT_INDEX["head"], JOINT_INDEX["jaw"]])
    ear = np.linalg.norm(vertices - anatomy.left_ear, axis=1).argmin()
    return {
        0: (_extreme(anatomy, head & (np.abs(vertices[:, 0]) < 1e-3), (0, 0, 1)),),
        1: (_extreme(anatomy, lids, (-1, 0, 0)),),
        2: (_extreme(anatomy, eyeball, (0, 0, 1)),),
        3: (_extreme(anatomy, lids, (1, 0, 0)),),
        7: (int(ear),),
        9: (_extreme(anatomy, lips, (1, 0, 0)),),
    }


def _foot_vertices(anatomy: Anatomy) -> dict[int, tuple[int, ...]]:
    vertices = anatomy.vertices
    ankle, foot = JOINT_INDEX["left_ankle"], JOINT_INDEX["left_foot"]
    sole = vertices[np.isin(anatomy.parts, [ankle, foot]), 1].min()
    heel = (anatomy.parts == ankle) & (vertices[:, 1] < sole + 0.035)
    toes = anatomy.parts == foot
    return {
        29: (_extreme(anatomy, heel, (0, 0, -1)),),
        31: (_extreme(anatomy, toes, (0, 0, 1)),),
    }


def build_landmarks(anatomy: Anatomy, hip: dict[int, float]) -> tuple[np.ndarray, np.ndarray]:
    """Landmark regressors.

    Args:
        anatomy: the mean body.
        hip: point id -> weight of the left hip landmark.

    Returns:
        ids [33, 4] int32 and weights [33, 4] float32, rows sum to 1.
    """
    count = len(anatomy.vertices)
    chosen = _face_vertices(anatomy) | _foot_vertices(anatomy)
    for landmark, names in _JOINT_LANDMARKS.items():
        chosen[landmark] = tuple(count + JOINT_INDEX[name] for name in names)
    weighted = {k: dict.fromkeys(ids, 1.0 / len(ids)) for k, ids in chosen.items()}
    weighted[_HIP] = hip
    other = np.concatenate([anatomy.mirror, count + mirror_index()])
    for left, right in _PAIRS:
        weighted[right] = {int(other[i]): w for i, w in weighted[left].items()}
    ids = np.zeros((33, SLOTS), dtype=np.int32)
    weights = np.zeros((33, SLOTS), dtype=np.float32)
    for landmark, row in weighted.items():
        ids[landmark, : len(row)] = list(row)
        weights[landmark, : len(row)] = list(row.values())
    return ids, weights
