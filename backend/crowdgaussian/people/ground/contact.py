# SPDX-License-Identifier: Apache-2.0
"""Bodies and the floor, bodies and each other: nobody floats, sinks, topples or overlaps."""

import numpy as np
import torch
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX
from torch import Tensor

from ...body.model import BodyModel
from ...core.device import float_tensor
from ..fit.body_points import PosedPoints
from ..fit.objective import geman_mcclure

_GIRTH = 1.15  # bodies are wider than the largest sphere inside them
# Hand-tuned; not measured one by one.
_STEADY = 0.10  # metres the centre of mass may lie beside the feet; more lets people lean
_FLOOR = 0.02  # metres from the floor, of the nearer foot and of sunk soles, that cost one
_NEAR_WEIGHT, _NEAR_RHO = 0.3, 0.06  # of the other foot; metres at which it counts as lifted
_TOPPLING_WEIGHT, _TOPPLING_RHO = 0.5, 0.15  # metres at which somebody is taken to lean on purpose
# Against the photo's terms: more standing keeps feet down and bends legs for it; more overlap
# parts people who hug.
_STANDING_WEIGHT, _OVERLAP_WEIGHT = 0.1, 20.0
_SKIN_STEP = 7  # every so manieth vertex tells a sphere's radius; more is faster and less exact
# Pushing people apart: what may stay, and how much of an overlap one small move takes away; smaller
# moves need more rounds, larger ones push people further than they must go.
_TOUCHING = 0.004  # metres
_MOVE_SHARE, _MOVE_LEAST = 0.6, 0.002  # of the overlap, and metres, for each of the two
_SIDEWAYS = 0.35  # of a move across the viewing ray: less shows less in the photo
_ALONG = 1e-3  # metres along the ray, where two bodies are equally far away
# Spheres that fill a body: two joints and the place between them.
_BONES = (
    ("pelvis", "spine1", 0.0),
    ("spine1", "spine2", 0.5),
    ("spine3", "neck", 0.0),
    ("spine3", "neck", 0.6),
    ("neck", "head", 1.9),
    ("pelvis", "left_hip", 0.8),
    ("pelvis", "right_hip", 0.8),
    ("spine3", "left_shoulder", 0.6),
    ("spine3", "right_shoulder", 0.6),
    *(
        (f"{side}_{first}", f"{side}_{second}", part)
        for side in ("left", "right")
        for first, second in (
            ("shoulder", "elbow"),
            ("elbow", "wrist"),
            ("hip", "knee"),
            ("knee", "ankle"),
        )
        for part in ((0.2, 0.5, 0.8) if first in ("hip", "knee") else (0.3, 0.75))
    ),
    *(
        (f"{side}_{first}", f"{side}_{second}", 0.5)
        for side in ("left", "right")
        for first, second in (("ankle", "foot"), ("wrist", "middle1"))
    ),
)
_FROM = [JOINT_INDEX[bone[0]] for bone in _BONES]
_TO = [JOINT_INDEX[bone[1]] for bone in _BONES]
_PART = torch.tensor([bone[2] for bone in _BONES])[:, None]


def sphere_centers(joints: Tensor) -> Tensor:
    """Centres of the spheres that fill bodies.  # [P, 55, 3] -> [P, S, 3]"""
    return joints[:, _FROM] * (1 - _PART) + joints[:, _TO] * _PART


def sphere_radii(body: BodyModel, betas: Tensor, scale: Tensor) -> Tensor:
    """Radii with which the spheres reach a little through the skin in T-pose.  # [P, S]"""
    vertices, joints = body.rest(betas, scale)
    skin = vertices[:, ~body.interior][:, ::_SKIN_STEP]
    distance = torch.cdist(sphere_centers(joints), skin)
    return _GIRTH * distance.min(dim=2).values


def overlaps(centers: Tensor, radii: Tensor) -> Tensor:
    """How deep the spheres of two people reach into each other, metres.  # [P, P, S, S]

    Zero within one person.
    """
    people, spheres = radii.shape
    flat = centers.reshape(-1, 3)
    apart = torch.cdist(flat, flat).reshape(people, spheres, people, spheres).permute(0, 2, 1, 3)
    reach = radii[:, None, :, None] + radii[None, :, None, :]
    other = ~torch.eye(people, dtype=torch.bool)
    return (reach - apart).clamp_min(0) * other[:, :, None, None]


class Contact:
    """An energy of posed points: soles on the floor, balance, no overlap between people."""

    def __init__(self, on_ground: np.ndarray, radii: Tensor) -> None:
        self.on_ground = torch.as_tensor(on_ground)
        self.radii = radii

    def __call__(self, posed: PosedPoints) -> Tensor:
        soles = posed.soles.unflatten(1, (2, -1))  # [P, 2, F/2, 3]
        lowest = soles[..., 1].amin(dim=2)  # [P, 2] of each foot
        touching = (lowest.amin(dim=1) / _FLOOR).square()
        near = _NEAR_WEIGHT * geman_mcclure(lowest.square(), _NEAR_RHO).sum(dim=1)
        sunk = (-posed.soles[..., 1]).clamp_min(0).div(_FLOOR).square().mean(dim=1)
        standing = touching + near + _TOPPLING_WEIGHT * self._toppling(posed, soles)
        overlap = overlaps(sphere_centers(posed.joints), self.radii)
        floor = _STANDING_WEIGHT * (standing * self.on_ground + sunk).sum()  # nobody sinks in
        return floor + _OVERLAP_WEIGHT * overlap.square().sum()

    @staticmethod
    def _toppling(posed: PosedPoints, soles: Tensor) -> Tensor:
        """How far the middle of the body is from between the feet, robust.  # [P]"""
        middle = posed.surface.mean(dim=1)[:, [0, 2]]
        left, right = soles.mean(dim=2)[..., [0, 2]].unbind(dim=1)
        along = right - left
        part = ((middle - left) * along).sum(dim=1) / along.square().sum(dim=1).clamp_min(1e-4)
        nearest = left + part.clamp(0, 1)[:, None] * along
        beside = ((middle - nearest).square().sum(dim=1) + 1e-8).sqrt()
        return geman_mcclure((beside - _STEADY).clamp_min(0).square(), _TOPPLING_RHO)


def push_apart(
    joints: np.ndarray, radii: np.ndarray, camera: np.ndarray, rounds: int = 60
) -> np.ndarray:
    """Moves along the floor after which nobody is inside anybody.

    People move mostly away from or towards the camera, where it shows least in the photo.

    Args:
        joints: [P, 55, 3] scene frame.
        radii: [P, S].
        camera: [3] scene frame.
        rounds: at most so many small moves.

    Returns:
        [P, 3] metres, y = 0.
    """
    centers = sphere_centers(float_tensor(joints))
    radii_ = float_tensor(radii)
    moves = np.zeros((len(joints), 3))
    for _ in range(rounds):
        depth = overlaps(centers + float_tensor(moves)[:, None], radii_)
        deepest = depth.flatten(2).amax(dim=2).numpy()
        first, second = np.unravel_index(deepest.argmax(), deepest.shape)
        if deepest[first, second] < _TOUCHING:
            break
        a, b = np.unravel_index(int(depth[first, second].argmax()), depth.shape[2:])
        between = (centers[first, a] - centers[second, b]).numpy() + moves[first] - moves[second]
        middle = joints[[first, second], 0].mean(axis=0) - camera
        length = deepest[first, second] * _MOVE_SHARE + _MOVE_LEAST
        step = _floor_direction(between, middle) * length
        moves[first] += step
        moves[second] -= step
    return moves


def _floor_direction(between: np.ndarray, ray: np.ndarray) -> np.ndarray:
    """The direction along the floor that parts two bodies, turned towards the viewing ray."""
    ray = np.array([ray[0], 0.0, ray[2]]) / max(np.hypot(ray[0], ray[2]), 1e-9)
    flat = np.array([between[0], 0.0, between[2]])
    along = flat @ ray
    direction = ray * (along if abs(along) > _ALONG else _ALONG) + _SIDEWAYS * (flat - ray * along)
    return direction / max(np.linalg.norm(direction), 1e-9)
