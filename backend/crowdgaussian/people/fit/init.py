# SPDX-License-Identifier: Apache-2.0
"""A first guess of each body in closed form: from metric landmarks, or from those in the photo."""

from dataclasses import dataclass, replace

import numpy as np
from crowdgaussian_shared.geometry.axes import OPENCV_FROM_SCENE
from crowdgaussian_shared.geometry.camera import pixel_rays
from crowdgaussian_shared.geometry.rotations import matrix_to_axis_angle
from crowdgaussian_shared.geometry.skeleton import BODY_JOINTS, JOINT_INDEX
from torch import Tensor

from ...core.device import float_tensor
from ...core.landmarks import HIPS, LIMBS, NUM_LANDMARKS, SHOULDERS, TORSO, Landmark
from ..detect.detections import Detection
from .objective import usual_pose
from .targets import scene_world

_COLLARS = [BODY_JOINTS.index(f"{side}_collar") - 1 for side in ("left", "right")]  # in body_pose
_BEND_SIDES = (1.0, 1.0, -1.0, -1.0)  # of LIMBS: where the middle joint bends in the T-pose

# Hand-tuned; not measured one by one.
_SHOULDER_SHARE = 0.5  # of the shoulders' line against the hips' in which way the trunk's left is
_OPPOSITE = -0.9999  # cosine below which two directions have no smallest rotation
_BENT = 0.3  # sine from which a limb's bend tells its twist; lower: straight arms twist at random
_WRONG_WAY = -0.2  # cosine to the hinge's side below which a bend is noise
_LEAST_WEIGHT = 1e-3  # of a landmark nobody sees
_NEAREST = 0.5  # metres: a nearer place is a failure, and the body's height tells the distance
_HEIGHT = 1.6  # metres from the highest to the lowest landmark of somebody who stands
_SCALE_RANGE = (0.7, 1.5)  # of the average body's bones over the network's


@dataclass(frozen=True)
class Guess:
    """Start values of P bodies, scene axes with the camera at the origin."""

    orientation: Tensor  # [P, 3, 3]
    body_pose: Tensor  # [P, 21, 3] axis-angle
    pelvis: Tensor  # [P, 3] metres


def guess(
    people: list[Detection], rest_joints: np.ndarray, K: np.ndarray, mirror_depth: bool
) -> Guess:
    """Start values from the metric landmarks.

    Args:
        people: detections.
        rest_joints: [55, 3] of the average body.
        K: [3, 3].
        mirror_depth: read every body the other way round in depth, as a silhouette allows.
    """
    rows = []
    for person in people:
        world = scene_world(person, K)
        if mirror_depth:
            world = world * [1.0, 1.0, -1.0]
        orientation = torso_frame(world)
        rows.append(
            (
                orientation,
                limb_pose(world, orientation, rest_joints),
                _place(person, world, rest_joints, K),
            )
        )
    stacked = (float_tensor(np.stack(part)) for part in zip(*rows))
    return Guess(*stacked)


def torso_frame(world: np.ndarray) -> np.ndarray:
    """Orientation of the trunk: columns are its left, up and front.  # [33, 3] -> [3, 3]"""
    shoulders = world[Landmark.LEFT_SHOULDER], world[Landmark.RIGHT_SHOULDER]
    hips = world[Landmark.LEFT_HIP], world[Landmark.RIGHT_HIP]
    up = (shoulders[0] + shoulders[1]) / 2 - (hips[0] + hips[1]) / 2
    left = (hips[0] - hips[1]) + _SHOULDER_SHARE * (shoulders[0] - shoulders[1])
    up = up / max(np.linalg.norm(up), 1e-9)
    left = left - up * (left @ up)
    left = left / max(np.linalg.norm(left), 1e-9)
    return np.stack([left, up, np.cross(left, up)], axis=1)


def swing(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The smallest rotation that takes one direction to another.  # [3], [3] -> [3, 3]"""
    source = source / max(np.linalg.norm(source), 1e-9)
    target = target / max(np.linalg.norm(target), 1e-9)
    axis, cosine = np.cross(source, target), float(source @ target)
    if cosine < _OPPOSITE:
        axis = np.cross(source, [0.0, 0.0, 1.0])
        axis = axis / np.linalg.norm(axis)
        return 2 * np.outer(axis, axis) - np.eye(3)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + cross + cross @ cross / (1 + cosine)


def bend_limb(
    bones: tuple[np.ndarray, np.ndarray], seen: tuple[np.ndarray, np.ndarray], side: float
) -> tuple[np.ndarray, np.ndarray]:
    """Rotations of a limb's two joints that point both bones as seen.

    Args:
        bones: upper and lower bone in the T-pose, each [3].
        seen: the same in the frame of the limb's parent.
        side: +1 when the lower bone bends towards +z (arms), -1 towards -z (legs).

    Returns:
        Upper and middle rotation [3, 3]; the middle one is a pure hinge unless the limb seems to
        bend the way limbs do not, which is noise: then neither joint is twisted.
    """
    upper = swing(bones[0], seen[0])
    lower = upper.T @ seen[1]
    bone = bones[0] / np.linalg.norm(bones[0])
    hinge_side = np.array([0.0, 0.0, side])
    sideways = lower - bone * (lower @ bone)
    bent = np.linalg.norm(sideways) / max(float(np.linalg.norm(lower)), 1e-9)
    towards = float(sideways @ hinge_side) / max(float(np.linalg.norm(sideways)), 1e-9)
    if bent > _BENT and towards > _WRONG_WAY:
        twist = swing(hinge_side, sideways)
        upper = upper @ twist
        lower = twist.T @ lower
    return upper, swing(bones[1], lower)


def limb_pose(world: np.ndarray, orientation: np.ndarray, rest_joints: np.ndarray) -> np.ndarray:
    """Arm and leg rotations that point each bone along its landmarks.  # [21, 3]"""
    pose = usual_pose().numpy()
    pose[_COLLARS] = 0.0  # collars at rest, as the shoulder angles are taken against the trunk
    for limb, side in zip(LIMBS, _BEND_SIDES, strict=True):
        start, middle, end = limb
        first, second, third = (JOINT_INDEX[landmark.joint] for landmark in limb)
        bones = rest_joints[second] - rest_joints[first], rest_joints[third] - rest_joints[second]
        seen = (
            orientation.T @ (world[middle] - world[start]),
            orientation.T @ (world[end] - world[middle]),
        )
        for index, rotation in zip((first, second), bend_limb(bones, seen, side)):
            pose[index - 1] = matrix_to_axis_angle(rotation)
    return pose


def _place(
    person: Detection, world: np.ndarray, rest_joints: np.ndarray, K: np.ndarray
) -> np.ndarray:
    """Where the mid-hip must be so that the metric landmarks project onto the seen ones.  # [3]"""
    camera = world @ OPENCV_FROM_SCENE.T * _metric_scale(world, rest_joints)
    rays = pixel_rays(person.keypoints.xy, K)[:, :2]
    weight = person.keypoints.confidence + _LEAST_WEIGHT
    rows, values = [], []
    for axis in range(2):
        equation = np.zeros((NUM_LANDMARKS, 3))
        equation[:, axis], equation[:, 2] = 1.0, -rays[:, axis]
        rows.append(equation * weight[:, None])
        values.append((rays[:, axis] * camera[:, 2] - camera[:, axis]) * weight)
    place, *_ = np.linalg.lstsq(np.concatenate(rows), np.concatenate(values), rcond=None)
    if place[2] < _NEAREST:
        extent = np.ptp(person.keypoints.xy[:, 1]) / K[1, 1]
        hip = pixel_rays(person.keypoints.xy[HIPS].mean(axis=0), K)
        place = hip * _HEIGHT / max(extent, 1e-3)
    return OPENCV_FROM_SCENE.T @ place


def _metric_scale(world: np.ndarray, rest_joints: np.ndarray) -> float:
    """How much larger the average body is than the landmarks: ratio of bone lengths."""
    seen, own = 0.0, 0.0
    for limb in LIMBS:
        joints = rest_joints[[JOINT_INDEX[landmark.joint] for landmark in limb]]
        seen += np.linalg.norm(np.diff(world[list(limb)], axis=0), axis=1).sum()
        own += np.linalg.norm(np.diff(joints, axis=0), axis=1).sum()
    return float(np.clip(own / max(seen, 1e-6), *_SCALE_RANGE))


# Landmarks in the photo alone, read as bodies in space: foreshortening tells depth, up to signs.
# The signs come from how limbs bend and from which way the trunk faces (as in Taylor 2000, with
# anatomy for the user's clicks); what stays open is returned as several readings to judge.

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
