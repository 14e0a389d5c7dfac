# SPDX-License-Identifier: Apache-2.0
"""Who stands on the floor, who jumps, sits or is a child: what a fitted body tells."""

from dataclasses import dataclass

import numpy as np
import torch
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX

from ...core.landmarks import FEET, FOOT_SIDES
from ..detect.detections import Detection
from ..fit.body_points import PosedPoints
from .plane import GroundEstimate, SupportEvidence

_HIPS, _KNEES, _ANKLES, _TOES = (
    (JOINT_INDEX[f"left_{part}"], JOINT_INDEX[f"right_{part}"])
    for part in ("hip", "knee", "ankle", "foot")
)
_HEAD, _PELVIS, _NECK = (JOINT_INDEX[name] for name in ("head", "pelvis", "neck"))
_FEET, _TRUNK = (*_ANKLES, *_TOES), (_PELVIS, *_HIPS, _NECK, _HEAD)
# Hand-tuned; wider ranges put more people on the floor, among them some who jump or sit.
_STEADY = 0.35  # of the leg's length the body's middle may lie beside the feet and be carried
_ADULT_RANGE = (1.36, 1.97)  # metres: an adult's stature on the floor; taller stands on a step
_CHILD_RANGE = (0.75, 1.36)
_HIDDEN_RANGE = (1.45, 1.98)  # stricter when the feet themselves are not seen
_REACHING_RANGE = (1.15, 2.4)  # hidden legs may be bent or stretched to reach the floor
_REACHING_SLIDE = (0.88, 1.12)
_DANGLING_RANGE = (1.5, 1.78)  # and when toes hang down as in a jump
# Cosines of a seated body, between trunk and thigh, thigh and shin (below), trunk and shin (above).
_SEATED_THIGH, _SEATED_SHIN, _SEATED_TRUNK = 0.4, 0.5, 0.6
_STRAIGHT = 0.9  # cosine between trunk and legs of somebody whose axis is plumb
_SEEN = 0.5  # confidence from which a foot is seen
_DANGLING = 0.5  # sine of the angle below the horizon from which on a foot hangs


@dataclass(frozen=True)
class SupportDecision:
    """What becomes of each body on the shared floor."""

    on_ground: np.ndarray  # [P] bool
    slide: np.ndarray  # [P] factor along the viewing rays
    flags: tuple[tuple[str, ...], ...]  # of "airborne", "seated", "child"


def support_evidence(
    posed: PosedPoints, stature: torch.Tensor, people: list[Detection], shape: tuple[int, int]
) -> SupportEvidence:
    """Collects what the ground is solved from.

    Args:
        posed: bodies in scene axes with the camera at the origin.
        stature: [P] metres.
        people: the detections of the same people.
        shape: height and width of the photo.
    """
    joints = posed.joints.numpy().astype(np.float64)
    return SupportEvidence(
        soles=posed.soles.numpy().astype(np.float64),
        stature=stature.numpy().astype(np.float64),
        feet_seen=np.array([feet_seen(person, shape) for person in people]),
        supported=~np.array([is_seated(body) for body in joints]),
        dangling=np.array(
            [
                feet_told(person) and is_dangling(body)
                for person, body in zip(people, posed.landmarks.numpy())
            ]
        ),
        axis=np.array([body_axis(body) for body in joints]),
    )


def feet_told(person: Detection) -> bool:
    """Whether the network has heels and toes at all."""
    return bool(person.keypoints.confidence[FEET].any())


def feet_seen(person: Detection, shape: tuple[int, int]) -> bool:
    """Whether the photo shows the foot that may carry the person.

    Where the network has no heels and toes (COCO's 17 keypoints) the ankles have to do.
    """
    xy, confidence = person.keypoints.xy, person.keypoints.confidence
    inside = np.all((xy >= 0) & (xy < [shape[1], shape[0] - 1]), axis=1)
    feet = FOOT_SIDES if feet_told(person) else [side[:1] for side in FOOT_SIDES]
    sides = [((confidence[list(side)] > _SEEN) & inside[list(side)]).all() for side in feet]
    return bool(any(sides))


def is_seated(joints: np.ndarray) -> bool:
    """Both thighs far from the trunk's line, both shins from the thighs'.  # [55, 3], y roughly up

    Somebody who crouches bends as much, but the middle of the body stays over the feet.
    """
    trunk = _unit(joints[_PELVIS] - joints[_NECK])
    bent = []
    for hip, knee, ankle in zip(_HIPS, _KNEES, _ANKLES):
        thigh, shin = _unit(joints[knee] - joints[hip]), _unit(joints[ankle] - joints[knee])
        bent.append(
            trunk @ thigh < _SEATED_THIGH
            and thigh @ shin < _SEATED_SHIN
            and trunk @ shin > _SEATED_TRUNK
        )
    feet = joints[list(_FEET)].mean(axis=0)
    beside = (joints[list(_TRUNK)].mean(axis=0) - feet)[[0, 2]]
    return all(bent) and float(np.linalg.norm(beside)) > _STEADY * _leg(joints)


def _leg(joints: np.ndarray) -> float:
    """Length of the stretched legs, metres.  # [55, 3]"""
    return float(
        np.mean(
            [
                np.linalg.norm(joints[hip] - joints[knee])
                + np.linalg.norm(joints[knee] - joints[ankle])
                for hip, knee, ankle in zip(_HIPS, _KNEES, _ANKLES)
            ]
        )
    )


def is_dangling(landmarks: np.ndarray) -> bool:
    """Whether the toes of both feet hang down, as in a jump.  # [33, 3], y roughly up"""
    return all(
        _unit(landmarks[toe] - landmarks[heel])[1] < -_DANGLING for _, heel, toe in FOOT_SIDES
    )


def body_axis(joints: np.ndarray) -> np.ndarray:
    """From the ankles to the head of somebody upright; zeros for somebody bent.  # [3]"""
    feet = joints[list(_ANKLES)].mean(axis=0)
    trunk, legs = _unit(joints[_NECK] - joints[_PELVIS]), _unit(joints[_PELVIS] - feet)
    return _unit(joints[_HEAD] - feet) if trunk @ legs > _STRAIGHT else np.zeros(3)


def decide_support(ground: GroundEstimate, people: SupportEvidence) -> SupportDecision:
    """Decides about everybody; those off the floor keep their depth.

    Only somebody whose feet are seen below the floor comes nearer: hidden legs are guessed, and
    may just as well be bent.
    """
    on_ground, slides, flags = [], [], []
    for index, slide in enumerate(ground.slide):
        height = slide * people.stature[index]
        seen, supported = people.feet_seen[index], people.supported[index]
        low, high = _ADULT_RANGE if seen else _HIDDEN_RANGE
        if people.dangling[index]:
            low, high = _DANGLING_RANGE
        stands = bool(supported and low <= height <= high)
        child = bool(supported and seen and _CHILD_RANGE[0] <= height < _CHILD_RANGE[1])
        reaches = bool(
            supported
            and not seen
            and not people.dangling[index]
            and _REACHING_RANGE[0] <= height <= _REACHING_RANGE[1]
        )
        on_ground.append(stands or child or reaches)
        if reaches and not stands:
            slide = np.clip(slide, *_REACHING_SLIDE)
        slides.append(slide if on_ground[-1] else min(slide, 1.0) if seen else 1.0)
        flags.append(
            tuple(
                name
                for name, holds in (
                    ("airborne", supported and (seen or people.dangling[index]) and height > high),
                    ("seated", not supported),
                    ("child", child),
                )
                if holds
            )
        )
    return SupportDecision(np.array(on_ground), np.array(slides), tuple(flags))


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(float(np.linalg.norm(vector)), 1e-9)
