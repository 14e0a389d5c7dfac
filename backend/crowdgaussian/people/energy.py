# SPDX-License-Identifier: Apache-2.0
"""What a fit minimises: how far posed bodies are from the photo and from living people."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .body_points import PosedPoints
from .camera import project
from .pose_prior import limit_energy, pose_energy
from .targets import LANDMARK_WEIGHT, SEGMENT_WEIGHT, SEGMENTS, Targets

ADULT = (1.70, 0.09)  # metres, mean and spread of standing adults' stature
SILHOUETTE = 10.0  # weight of masks once bodies are roughly in place
_FACE_IDS = (0, 7, 8)


@dataclass(frozen=True)
class Weights:
    """How much each term counts; pixels are in parts of the body's height in the photo."""

    reprojection: float = 1.0
    segments: float = 1.0
    face: float = 0.4
    pose: float = 0.006
    limits: float = 8.0
    shape: float = 0.003
    stature: float = 0.02
    silhouette: float = 0.0


def geman_mcclure(squared: Tensor, rho: float) -> Tensor:
    """Robust error rho^2 r^2 / (rho^2 + r^2), in units of rho^2 (as in SMPLify-X)."""
    return squared / (squared + rho * rho)


def reprojection(pixels: Tensor, targets: Targets, rho: float = 0.06) -> Tensor:
    """Landmarks against the photo, robust, in parts of the body height.  # [P]"""
    apart = (pixels - targets.xy) / targets.size[:, None, None]
    error = geman_mcclure(apart.square().sum(dim=-1), rho)
    return (error * targets.weight).sum(dim=1) / LANDMARK_WEIGHT.sum()


def segment_error(landmarks: Tensor, targets: Targets) -> Tensor:
    """1 - cosine between limbs and the network's metric limbs.  # [P]"""
    ends = landmarks[:, SEGMENTS]
    directions = torch.nn.functional.normalize(ends[:, :, 1] - ends[:, :, 0], dim=-1)
    apart = 1 - (directions * targets.segments).sum(dim=-1)
    error = geman_mcclure(apart, 0.6)
    return (error * targets.segment_weight).sum(dim=1) / SEGMENT_WEIGHT.sum()


def face_error(landmarks: Tensor, targets: Targets) -> Tensor:
    """1 - cosine between where the face looks and where it seems to look.  # [P]"""
    nose, left, right = (landmarks[:, k] for k in _FACE_IDS)
    direction = torch.nn.functional.normalize(nose - (left + right) / 2, dim=-1)
    sure = targets.weight[:, 0].clamp(0.1, 1.0)
    return sure * (1 - (direction * targets.face).sum(dim=-1))


def extreme_shape(betas: Tensor) -> Tensor:
    """Unusual bodies cost, extreme ones more: beyond three sigma skin folds.  # [P]"""
    squared = betas.square()
    return (0.5 * squared + 0.02 * squared.square()).sum(dim=1)


def stature_error(stature: Tensor) -> Tensor:
    """Against adults; levels off, since children and the very tall exist.  # [P]"""
    return geman_mcclure(((stature - ADULT[0]) / ADULT[1]).square(), 3.0) * 9.0


def silhouette_error(surface: Tensor, targets: Targets) -> Tensor:
    """Body points outside the mask and mask edges away from the body.  # [P, S, 2] -> [P]"""
    size = targets.size[:, None]
    place = (surface - targets.field_center[:, None]) / targets.field_half[:, None, None]
    outside = torch.nn.functional.grid_sample(
        targets.outside, place[:, None], padding_mode="border", align_corners=False)[:, 0, 0]
    spill = geman_mcclure(outside.square(), 0.08).mean(dim=1)
    near = torch.cdist(targets.contour, surface).min(dim=2).values / size
    near = (near - 0.012).clamp_min(0)  # points of the skin are sparse, and clothes stand off
    total = targets.contour_weight.sum(dim=1).clamp_min(1.0)
    gap = (geman_mcclure(near.square(), 0.08) * targets.contour_weight).sum(dim=1) / total
    return spill + gap


def body_energy(posed: PosedPoints, parts: dict, targets: Targets, camera: tuple,
                weights: Weights) -> Tensor:
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
    energy = energy + weights.face * face_error(posed.landmarks, targets)
    energy = energy + weights.pose * pose_energy(parts["body_pose"]) / 21
    energy = energy + weights.limits * limit_energy(parts["body_pose"]) / 21
    energy = energy + weights.shape * extreme_shape(parts["betas"])
    energy = energy + weights.stature * stature_error(parts["stature"])
    if weights.silhouette:
        seen = project(posed.surface, *camera)
        energy = energy + weights.silhouette * targets.mask_trust * silhouette_error(seen, targets)
    return energy
