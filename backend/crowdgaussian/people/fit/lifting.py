# SPDX-License-Identifier: Apache-2.0
"""Landmarks in the photo alone, read as bodies in space: foreshortening tells depth, up to signs.

The signs come from how limbs bend and from which way the trunk faces (as in Taylor 2000, with
anatomy for the user's clicks); what stays open is returned as several readings for a fit to judge.
"""

from dataclasses import dataclass, replace

import numpy as np
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX

from ...core.landmarks import HIPS, LIMBS, NUM_LANDMARKS, SHOULDERS, TORSO, Landmark
from ..detect.detections import Detection

_BONES = (  # two landmarks; between joints of these names the average body has this length
    *(
        (start, middle) if upper else (middle, end)
        for start, middle, end in LIMBS
        for upper in (True, False)
    ),
    (Landmark.LEFT_SHOULDER, Landmark.LEFT_HIP),
    (Landmark.RIGHT_SHOULDER, Landmark.RIGHT_HIP),
    (Landmark.LEFT_SHOULDER, Landmark.RIGHT_SHOULDER),
)
# Hand-tuned; not measured one by one.
_SEEN = 0.3  # confidence from which a bone tells the scale
_UPRIGHT = 0.85  # part of its length that a trunk shows, below which it leans
_STRAIGHT = 0.92  # part of its length from which on a bone is taken to lie in the picture's plane
_STATURE = 1.7  # metres
_SIDEWAYS = 0.35  # of facing towards or away from the camera, below which limbs spread sideways
_SCALE_QUANTILE = 0.8  # of the bones' scales; higher trusts the longest, lower is steadier
_HIP_SHARE = 0.35  # of the shoulders' width between middle and hip; a shoulder has half of it
_FACING = ((0.6, 0.4), 0.85)  # weights of shoulders and hips; width of shoulders seen straight on
# Which way the upper arms point, forward or back, and to which side the trunk is turned.
DEPTH_HYPOTHESES = ((1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0))


@dataclass(frozen=True)
class Lengths:
    """Lengths of the average body, metres."""

    bones: np.ndarray  # [11] in the order of _BONES
    shoulders: float
    trunk: float  # middle of the hips to middle of the shoulders

    @classmethod
    def of(cls, rest_joints: np.ndarray) -> "Lengths":
        """From the joints [55, 3] of a T-pose."""
        ends = np.array([[rest_joints[JOINT_INDEX[end.joint]] for end in bone] for bone in _BONES])
        bones = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1)
        middle = [
            np.mean(
                [rest_joints[JOINT_INDEX[f"{side}_{part}"]] for side in ("left", "right")], axis=0
            )
            for part in ("shoulder", "hip")
        ]
        return cls(bones, float(bones[-1]), float(np.linalg.norm(middle[0] - middle[1])))


def pixels_per_metre(xy: np.ndarray, confidence: np.ndarray, lengths: Lengths) -> float:
    """Scale of one person: foreshortening only shortens bones, so the longest ones tell it."""
    seen = np.array([np.linalg.norm(xy[a] - xy[b]) for a, b in _BONES])
    sure = np.array([min(confidence[a], confidence[b]) for a, b in _BONES])
    trunk = np.linalg.norm(xy[SHOULDERS].mean(axis=0) - xy[HIPS].mean(axis=0)) / lengths.trunk
    ratios = (seen / lengths.bones)[sure > _SEEN]
    if confidence[TORSO].min() > _SEEN:
        ratios = np.append(ratios, trunk)
    if not len(ratios):
        return max(float(np.ptp(xy[:, 1])), 1.0) / _STATURE
    return max(float(np.quantile(ratios, _SCALE_QUANTILE)), 1e-3)


def body_size(xy: np.ndarray, confidence: np.ndarray, lengths: Lengths) -> float:
    """Rough height of the whole body in pixels, however little of it is seen."""
    return _STATURE * pixels_per_metre(xy, confidence, lengths)


def lift(person: Detection, lengths: Lengths, reading: tuple[float, float]) -> Detection:
    """The person with metric landmarks guessed from the photo alone.

    Args:
        person: its own metric landmarks are not used.
        lengths: of the average body.
        reading: one of DEPTH_HYPOTHESES.
    """
    xy = person.keypoints.xy.astype(np.float64)
    scale = pixels_per_metre(xy, person.keypoints.confidence, lengths)
    flat = (xy - xy[HIPS].mean(axis=0)) / scale
    # x right, y down, z away from the camera
    world = np.column_stack([flat, np.zeros(NUM_LANDMARKS)])
    left, forward = _facing(flat, lengths, reading[1])
    for joint, side in zip(TORSO, (1, -1, 1, -1), strict=True):
        width = lengths.shoulders * (0.5 if joint in SHOULDERS else _HIP_SHARE)
        world[joint, 2] = side * width * left[2]
    rise = flat[HIPS, 1].mean() - flat[SHOULDERS, 1].mean()
    if abs(rise) < _UPRIGHT * lengths.trunk:  # a trunk that leans leans forward
        world[SHOULDERS, 2] += np.sign(forward[2] or 1.0) * np.sqrt(
            lengths.trunk**2 - min(rise, lengths.trunk) ** 2
        )
    for limb, (start, middle, end) in enumerate(LIMBS):
        arm, outward = limb < 2, left[2] * (1 if limb % 2 == 0 else -1)
        towards = forward[2] if abs(forward[2]) > _SIDEWAYS else outward
        upper, lower = (reading[0], 1.0) if arm else (1.0, -1.0)
        for (a, b), sign in (((start, middle), upper), ((middle, end), lower)):
            length = lengths.bones[_BONES.index((a, b))]
            seen = np.linalg.norm(world[b, :2] - world[a, :2])
            depth = np.sqrt(max((_STRAIGHT * length) ** 2 - seen**2, 0.0))
            world[b, 2] = world[a, 2] + np.sign(towards or 1.0) * sign * depth
    return replace(person, keypoints=replace(person.keypoints, world=world.astype(np.float32)))


def _facing(flat: np.ndarray, lengths: Lengths, side: float) -> tuple[np.ndarray, np.ndarray]:
    """Where the trunk's left and front point, x right, y down, z away.  # [3], [3]

    Shoulders as wide as they are mean a person who faces the camera or its back to it; narrow
    ones mean that the person is turned, to which side is a matter of the reading.
    """
    shoulders = flat[Landmark.LEFT_SHOULDER, 0] - flat[Landmark.RIGHT_SHOULDER, 0]
    hips = flat[Landmark.LEFT_HIP, 0] - flat[Landmark.RIGHT_HIP, 0]
    (of_shoulders, of_hips), straight = _FACING
    across = of_shoulders * shoulders + of_hips * hips
    cosine = float(np.clip(across / (straight * lengths.shoulders), -1, 1))
    sine = side * float(np.sqrt(1 - cosine**2))
    return np.array([cosine, 0.0, sine]), np.array([sine, 0.0, -cosine])
