# SPDX-License-Identifier: Apache-2.0
"""What a fit minimises: how far posed bodies are from the photo and from living people."""

from dataclasses import dataclass

import torch
from crowdgaussian_shared.geometry.skeleton import BODY_JOINTS, JOINT_INDEX, JOINT_NAMES
from torch import Tensor

from ...core.landmarks import Landmark
from ...splat.cameras import project
from .body_points import HandAngles, PosedPoints
from .targets import LANDMARK_WEIGHT, SEGMENT_WEIGHT, SEGMENTS, Targets

# What joints of living people do: usual angles, limits, relaxed hands

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
    return pose[len(BODY_JOINTS) :]


# What fingers do, degrees about the axes of HandPoints: bent towards the palm, leaned to the little
# finger, turned; lowest and highest of each. Fingers, and the bending of the thumb's outer joints:
# ranges of motion as clinics have them (Kapandji, The Physiology of the Joints 1; AAOS, Joint
# Motion). The thumb's first joint is told from its rest, some 40 degrees off the palm: it bends
# across the palm, and leans towards it below zero.
_FINGER_LIMITS = (
    ((-20, 90), (-20, 20), (0, 0)),
    ((0, 110), (0, 0), (0, 0)),
    ((0, 80), (0, 0), (0, 0)),
)
_THUMB_LIMITS = (
    ((-25, 30), (-35, 25), (-20, 20)),
    ((-10, 60), (0, 0), (0, 0)),
    ((-15, 80), (0, 0), (0, 0)),
)
FINGER_LIMITS = torch.deg2rad(  # [15, 3, 2] radians
    torch.tensor([*_FINGER_LIMITS * 4, *_THUMB_LIMITS], dtype=torch.float32)
)


def arm_limits(right: Tensor) -> Tensor:
    """Lowest and highest of the forearm's twist, which is the elbow's, and the wrist's three axes.

    Args:
        right: [H] bool, which of the hands.

    Returns:
        [H, 4, 2] radians.
    """
    rows = [
        torch.cat([_row(f"{side}_elbow")[2:, :1], _row(f"{side}_wrist")[2:]], dim=1).T
        for side in ("left", "right")
    ]
    return torch.stack(rows)[right.long()]


ADULT = (1.70, 0.09)  # metres, mean and spread of standing adults' stature
SILHOUETTE = 10.0  # weight of masks once bodies are roughly in place; more: fatter in loose clothes
# Where robust errors level off; smaller values forgive more, and let go of hard poses. Hand-tuned;
# not measured one by one.
_REPROJECTION_RHO = 0.06  # of the body's height
_SEGMENT_RHO = 0.6  # as the square root of 1 - cosine
_SILHOUETTE_RHO = 0.08  # of the body's height
_STATURE_RHO = 3.0  # spreads of ADULT; the error is told in spreads, not in rho
_LEAST_FACE = 0.1  # how much a face counts whose nose is hidden
_CLOTHES = 0.012  # of the body's height: mask edges this near the skin cost nothing
# Betas: the square, and the fourth power that keeps them from running away.
_BETAS_SQUARE, _BETAS_FOURTH = 0.5, 0.02
_MESH_WEIGHT = 2.0  # of the head's turn by the face mesh against nose and ears: it is exacter
_HEAD = JOINT_INDEX["head"]
_FACE_IDS = (Landmark.NOSE, Landmark.LEFT_EAR, Landmark.RIGHT_EAR)


@dataclass(frozen=True)
class Weights:
    """How much each term counts; pixels are in parts of the body's height in the photo.

    Hand-tuned against each other; not measured one by one.
    """

    reprojection: float = 1.0  # the landmarks in the photo, against which the rest is weighed
    segments: float = 1.0  # the network's own depth; more follows its errors, less flips limbs
    face: float = 0.4  # more turns heads as ears and nose say, less leaves them to the prior
    pose: float = 0.006  # more pulls to the usual pose, away from gestures
    limits: float = 8.0  # more keeps joints from bending the wrong way
    shape: float = 0.003  # more gives everybody the average build
    stature: float = 0.02  # more makes adults of children, less lets distance go wrong
    silhouette: float = 0.0  # SILHOUETTE where masks are trusted


def geman_mcclure(squared: Tensor, rho: float) -> Tensor:
    """Robust error rho^2 r^2 / (rho^2 + r^2), in units of rho^2 (as in SMPLify-X)."""
    return squared / (squared + rho * rho)


def reprojection(pixels: Tensor, targets: Targets, rho: float = _REPROJECTION_RHO) -> Tensor:
    """Landmarks against the photo, robust, in parts of the body height.  # [P]"""
    apart = (pixels - targets.xy) / targets.size[:, None, None]
    error = geman_mcclure(apart.square().sum(dim=-1), rho)
    return (error * targets.weight).sum(dim=1) / LANDMARK_WEIGHT.sum()


def segment_error(landmarks: Tensor, targets: Targets) -> Tensor:
    """1 - cosine between limbs and the network's metric limbs.  # [P]"""
    ends = landmarks[:, SEGMENTS]
    directions = torch.nn.functional.normalize(ends[:, :, 1] - ends[:, :, 0], dim=-1)
    apart = 1 - (directions * targets.segments).sum(dim=-1)
    error = geman_mcclure(apart, _SEGMENT_RHO)
    return (error * targets.segment_weight).sum(dim=1) / SEGMENT_WEIGHT.sum()


def face_error(posed: PosedPoints, targets: Targets) -> Tensor:
    """1 - cosine between where the face looks and where it seems to look.  # [P]

    The face mesh tells it with the head's tilt, where there is one, or else nose and ears do.
    """
    nose, left, right = (posed.landmarks[:, k] for k in _FACE_IDS)
    direction = torch.nn.functional.normalize(nose - (left + right) / 2, dim=-1)
    sure = targets.weight[:, 0].clamp(_LEAST_FACE, 1.0)
    by_landmarks = sure * (1 - (direction * targets.face).sum(dim=-1))
    aligned = (posed.rotations[:, _HEAD] * targets.head).sum(dim=(1, 2))  # 1 + 2 cosine
    by_mesh = _MESH_WEIGHT * (3 - aligned) / 2
    return torch.where(targets.head_weight > 0, by_mesh, by_landmarks)


def extreme_shape(betas: Tensor) -> Tensor:
    """Unusual bodies cost, extreme ones more: beyond three sigma skin folds.  # [P]"""
    squared = betas.square()
    return (_BETAS_SQUARE * squared + _BETAS_FOURTH * squared.square()).sum(dim=1)


def stature_error(stature: Tensor) -> Tensor:
    """Against adults; levels off, since children and the very tall exist.  # [P]"""
    spreads = ((stature - ADULT[0]) / ADULT[1]).square()
    return geman_mcclure(spreads, _STATURE_RHO) * _STATURE_RHO**2


def silhouette_error(surface: Tensor, targets: Targets) -> Tensor:
    """Body points outside the mask and mask edges away from the body.  # [P, S, 2] -> [P]"""
    size = targets.size[:, None]
    place = (surface - targets.field_center[:, None]) / targets.field_half[:, None, None]
    outside = torch.nn.functional.grid_sample(
        targets.outside, place[:, None], padding_mode="border", align_corners=False
    )[:, 0, 0]
    spill = geman_mcclure(outside.square(), _SILHOUETTE_RHO).mean(dim=1)
    near = torch.cdist(targets.contour, surface).min(dim=2).values / size
    near = (near - _CLOTHES).clamp_min(0)  # points of the skin are sparse, and clothes stand off
    total = targets.contour_weight.sum(dim=1).clamp_min(1.0)
    gap = (geman_mcclure(near.square(), _SILHOUETTE_RHO) * targets.contour_weight).sum(
        dim=1
    ) / total
    return spill + gap


def body_energy(
    posed: PosedPoints, parts: dict, targets: Targets, camera: tuple, weights: Weights
) -> Tensor:
    """All terms of each person.

    Args:
        posed: the points of P bodies.
        parts: "body_pose" [P, 21, 3], "betas" [P, B], "stature" [P] metres.
        targets: what the photo says.
        camera: K [3, 3] and viewmat [4, 4] of the frame the bodies are posed in.
        weights: of the terms.

    Returns:
        [P].
    """
    energy = weights.reprojection * reprojection(project(posed.landmarks, *camera), targets)
    energy = energy + weights.segments * segment_error(posed.landmarks, targets)
    energy = energy + weights.face * face_error(posed, targets)
    energy = energy + weights.pose * pose_energy(parts["body_pose"]) / 21
    energy = energy + weights.limits * limit_energy(parts["body_pose"]) / 21
    energy = energy + weights.shape * extreme_shape(parts["betas"])
    energy = energy + weights.stature * stature_error(parts["stature"])
    if weights.silhouette:
        seen = project(posed.surface, *camera)
        energy = energy + weights.silhouette * targets.mask_trust * silhouette_error(seen, targets)
    return energy


# Hands against their landmarks


@dataclass(frozen=True)
class HandTargets:
    """What the photo says about H hands; fingers and points in the order of HandPoints."""

    places: Tensor  # [H, 5, 4, 2] from the hand's own wrist, in parts of the hand's length
    directions: Tensor  # [H, 5, 5, 3] unit: see hand_directions
    to_picture: Tensor  # [H, 2, 3] how metres off the wrist look in the picture, in those parts
    start: HandAngles  # of the fit, and the usual fingers


# How much each term counts against the places; hand-tuned on both samples. A wrist at 0.01 follows
# the places better (second sample 2.9 px instead of 3.3), but flips palms (4.8 cm instead of 3.4).
_DIRECTIONS, _USUAL_FINGERS, _USUAL_WRIST = 0.01, 0.04, 0.3
_SLACK = 15.0  # points that a wrist weighs: the network's is not where the skeleton has its own


def hand_directions(points: Tensor) -> Tensor:
    """Each finger's four bones from the wrist on, then across the knuckles.  # [H, 5, 5, 3]

    Args:
        points: [H, 5, 4, 3] offsets from the wrist.
    """
    bones = torch.cat([points[:, :, :1], points[:, :, 1:] - points[:, :, :-1]], dim=2)
    knuckles = points[:, :, :1] - points[:, [1, 3, 3, 2, 0], :1]
    return torch.nn.functional.normalize(torch.cat([bones, knuckles], dim=2), dim=-1)


def hand_energy(points: Tensor, angles: HandAngles, targets: HandTargets) -> Tensor:
    """How far hands are from their landmarks, and from hands at rest.  # [H]

    Args:
        points: [H, 5, 4, 3] offsets from the wrist, metres, axes of the camera.
        angles: how they are bent.
        targets: the landmarks.
    """
    seen = points.flatten(1, 2) @ targets.to_picture.transpose(1, 2)
    apart = seen - targets.places.flatten(1, 2)
    apart = apart - apart.sum(dim=1, keepdim=True) / (apart.shape[1] + _SLACK)
    cosine = (hand_directions(points) * targets.directions).sum(dim=-1)
    fingers = (angles.fingers - targets.start.fingers).square().sum(dim=(1, 2))
    arm = (angles.wrist - targets.start.wrist).square().sum(dim=1) + angles.twist.square()
    return (
        apart.square().sum(dim=(1, 2))
        + _DIRECTIONS * (1 - cosine).sum(dim=(1, 2))
        + _USUAL_FINGERS * fingers
        + _USUAL_WRIST * arm
    )
