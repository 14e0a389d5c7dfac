# SPDX-License-Identifier: Apache-2.0
"""A first guess of each body from the network's metric landmarks, in closed form."""

from dataclasses import dataclass

import numpy as np
from crowdgaussian_shared.geometry.axes import OPENCV_FROM_SCENE
from crowdgaussian_shared.geometry.camera import pixel_rays
from crowdgaussian_shared.geometry.rotations import matrix_to_axis_angle
from crowdgaussian_shared.geometry.skeleton import BODY_JOINTS, JOINT_INDEX
from torch import Tensor

from ...core.device import float_tensor
from ...core.landmarks import HIPS, LIMBS, NUM_LANDMARKS, Landmark
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
    bent = np.linalg.norm(sideways) / max(np.linalg.norm(lower), 1e-9)
    towards = float(sideways @ hinge_side) / max(np.linalg.norm(sideways), 1e-9)
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
