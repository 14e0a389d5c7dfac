# SPDX-License-Identifier: Apache-2.0
"""What a promptable network is asked for each person: a box, own points, neighbours' points."""

from dataclasses import dataclass

import numpy as np

from ..people.types import Crowd, Person
from .config import SegmentConfig
from .sam_network import NO_POINT, Prompts

TORSO = (11, 12, 23, 24)  # MediaPipe's shoulders and hips: points that lie well inside a body
OWN_POINTS = 3
_LIMBS = (0, *range(11, 17), *range(23, 29))
_BOX_MARGIN = 0.02  # of the box: landmarks lie inside the body, the box goes around it
_APART = 0.03  # of the body's height: a neighbour's point nearer to an own one says nothing


@dataclass(frozen=True)
class Evidence:
    """The keypoints that tell about one person's mask, photo pixels."""

    box: np.ndarray  # [4]
    own: np.ndarray  # [N, 2] seen keypoints of the person
    others: np.ndarray  # [M, 2] seen keypoints of other people inside the box
    positive: np.ndarray  # [<= 3, 2] of own, prompts
    negative: np.ndarray  # [K, 2] of others, prompts


def gather_evidence(crowd: Crowd, distances: np.ndarray, heights: list[float],
                    config: SegmentConfig) -> list[Evidence]:
    """What speaks for and against each person's pixels.

    Args:
        crowd: the people.
        distances: [P, P, 33] metres to body q where the photo shows keypoint k of person p; inf
            where q is not. A keypoint behind another body is not seen, however sure it is.
        heights: of the bodies, photo pixels.
        config: from which confidence on a keypoint counts.
    """
    seen = [_seen(person, distances[index], index, config.min_confidence)
            for index, person in enumerate(crowd.people)]
    return [_evidence(crowd, seen, index, heights[index]) for index in range(len(seen))]


def make_prompts(evidence: list[Evidence]) -> Prompts:
    """One batch for everybody; rows with fewer points are filled with NO_POINT."""
    most = max((len(one.positive) + len(one.negative) for one in evidence), default=0)
    points = np.zeros((len(evidence), most, 2))
    labels = np.full((len(evidence), most), NO_POINT, np.int32)
    for row, one in enumerate(evidence):
        own, count = len(one.positive), len(one.positive) + len(one.negative)
        points[row, :count] = np.concatenate([one.positive, one.negative])
        labels[row, :own], labels[row, own:count] = 1, 0
    return Prompts(np.stack([one.box for one in evidence]), points, labels)


def _seen(person: Person, distances: np.ndarray, index: int, trusted: float) -> np.ndarray:
    """Which keypoints are sure and not behind another body.  # [33] bool"""
    others = np.delete(distances, index, axis=0)
    covered = (others < distances[index] - 0.1).any(axis=0) if len(others) else False
    behind = covered & np.isfinite(distances[index])
    return (person.keypoints.confidence >= trusted) & ~behind


def _evidence(crowd: Crowd, seen: list[np.ndarray], index: int, height: float) -> Evidence:
    person = crowd.people[index]
    box = _grown(person.box)
    limbs = [k for k in _LIMBS if seen[index][k]]
    own = person.keypoints.xy[limbs].astype(float)
    surest = sorted((k for k in TORSO if seen[index][k]),
                    key=lambda k: -person.keypoints.confidence[k])
    positive = person.keypoints.xy[surest[:OWN_POINTS] or limbs[:1]].astype(float)
    others, negative = [np.zeros((0, 2))], [np.zeros((0, 2))]
    for other, neighbour in enumerate(crowd.people):
        if other != index:
            xy = neighbour.keypoints.xy
            clear = seen[other] & _inside(xy, box) & _away(xy, own, _APART * height)
            others.append(xy[[k for k in _LIMBS if clear[k]]])
            negative.append(xy[[k for k in TORSO if clear[k]]])
    return Evidence(box, own, np.concatenate(others), positive, np.concatenate(negative))


def _grown(box: np.ndarray) -> np.ndarray:
    margin = _BOX_MARGIN * np.tile(box[2:] - box[:2], 2)
    return box + margin * [-1, -1, 1, 1]


def _inside(xy: np.ndarray, box: np.ndarray) -> np.ndarray:
    return ((xy >= box[:2]) & (xy <= box[2:])).all(axis=1)


def _away(xy: np.ndarray, own: np.ndarray, reach: float) -> np.ndarray:
    """Which points [N, 2] are further than reach from all own ones [M, 2]."""
    apart = np.linalg.norm(xy[:, None] - own[None], axis=2)
    return (apart > reach).all(axis=1)
