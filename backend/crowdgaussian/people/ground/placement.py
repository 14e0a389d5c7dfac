# SPDX-License-Identifier: Apache-2.0
"""From bodies in front of a camera to people on one floor: slide, refine together, touch down."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from crowdgaussian_shared.geometry.axes import camera_at_origin
from crowdgaussian_shared.geometry.camera import eye_of
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX
from torch import Tensor

from ...body.model import BodyModel
from ...core.device import float_tensor
from ..detect.detections import Detection
from ..fit.body_points import PosedPoints
from ..fit.fitter import Bodies, Fitter, Schedule
from ..fit.objective import Weights, geman_mcclure
from ..fit.schedules import fit_shape
from ..fit.targets import Targets, turned
from ..types import Certainty, PeopleConfig
from .plane import PRIOR, Focal, GroundEstimate, SupportEvidence, solve_focal, solve_ground
from .support import decide_support, support_evidence

# Bodies and the floor, bodies and each other: nobody floats, sinks, topples or overlaps

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


# The people of a photo on one floor

# Learning rates of the fit on the floor, below those in the camera: it starts from a good place.
_RATES = {"orientation": 0.01, "pelvis": 0.004, "body_pose": 0.015, "betas": 0.04, "scale": 0.01}

_SEGMENTS = 0.5  # weight of the network's depth, once the floor tells depth too; hand-tuned
# Of the body's height: landmarks that the floor pulls further off than before free their body.
_MOST_PULL = 0.05
_FAR = 0.3  # of the body's height: a landmark further off counts as this far
_MOST_SLIDE = (0.9, 1.1)  # by which anybody may grow or shrink to reach the floor
_STATURES = (1.3, 2.0)  # metres within which they may do more; outside it is an error of the fit
_LEAST_DROP = 0.05  # metres from the camera to the lowest skin, lest somebody slides to infinity


@dataclass(frozen=True)
class GroundedBodies:
    """People in the scene frame."""

    bodies: Bodies
    K: np.ndarray  # [3, 3] as given, or with the focal length that the people decided
    viewmat: np.ndarray  # [4, 4] scene -> OpenCV camera
    on_ground: np.ndarray  # [P] bool
    flags: tuple[tuple[str, ...], ...]
    certainty: Certainty


def put_on_ground(
    alone: Fitter,
    bodies: Bodies,
    people: list[Detection],
    targets: Targets,
    shape: tuple[int, int],
    config: PeopleConfig,
    focal_known: bool = True,
) -> GroundedBodies:
    """Finds the floor, puts on it who stands there, and refines everybody together.

    Args:
        alone: the fitter with the camera at the origin, in which bodies are given.
        bodies: the single fits.
        people: the detections of the same people.
        targets: what the photo says.
        shape: height and width of the photo.
        config: how many steps.
        focal_known: False lets people who stand decide the focal length where they can.
    """

    def evidence_of(fitter: Fitter, bodies: Bodies) -> SupportEvidence:
        stature = fitter.body.stature(bodies.betas, bodies.scale)
        return support_evidence(fitter.pose(bodies), stature, people, shape)

    evidence, K = evidence_of(alone, bodies), alone.camera[0].numpy()
    focal = Focal(float(K[0, 0]), 0.0) if focal_known else solve_focal(evidence, K)
    if focal.sure and not focal_known:
        K, bodies = at_focal(K, bodies, focal.pixels)
        evidence = evidence_of(Fitter(alone.body, alone.points, K, camera_at_origin()), bodies)
    ground = solve_ground(evidence)
    decided = decide_support(ground, evidence)
    fitter = Fitter(alone.body, alone.points, K, ground.viewmat)
    placed = to_scene(bodies, ground, decided.slide)
    placed, on_ground = stand_on_ground(
        fitter,
        placed,
        turned(targets, ground.turn),
        (decided.on_ground, evidence.feet_seen),
        config,
    )
    certainty = Certainty(
        int((on_ground & ground.fits).sum()),
        ground.pitch_error,
        ground.height_error,
        min(focal.error, PRIOR),
    )
    return GroundedBodies(placed, K, ground.viewmat, on_ground, decided.flags, certainty)


def at_focal(K: np.ndarray, bodies: Bodies, focal: float) -> tuple[np.ndarray, Bodies]:
    """The same picture through another lens: people keep their size and move along the axis."""
    ratio = focal / K[0, 0]
    K = K * np.array([[ratio, 1.0, 1.0], [1.0, ratio, 1.0], [1.0, 1.0, 1.0]])
    return K, replace(bodies, pelvis=bodies.pelvis * torch.tensor([1.0, 1.0, ratio]))


def stand_on_ground(
    fitter: Fitter,
    bodies: Bodies,
    targets: Targets,
    support: tuple[np.ndarray, np.ndarray],
    config: PeopleConfig,
) -> tuple[Bodies, np.ndarray]:
    """Refines everybody together in the scene frame, parts them and lets them touch down.

    Somebody whom the floor pulls away from the photo does not stand on it.

    Args:
        fitter: of the scene's camera.
        bodies: in the scene frame.
        targets: what the photo says, in the same axes.
        support: who stands on the floor, and whose feet are seen; [P] bool each.
        config: how many steps.

    Returns:
        the bodies, and who stands on the floor, [P] bool.
    """
    on_ground, feet_seen = support
    before = fitter.pixel_errors(bodies, targets, _FAR)
    settled = _settled(fitter, bodies, targets, on_ground, config)
    pulled = (fitter.pixel_errors(settled, targets, _FAR) - before) / targets.size
    worse = pulled.numpy() > _MOST_PULL
    if (worse & on_ground).any():
        on_ground = on_ground & ~worse
        settled = _settled(fitter, bodies, targets, on_ground, config)
    radii = sphere_radii(fitter.body, settled.betas, settled.scale)
    camera = eye_of(fitter.camera[1].numpy())
    moves = push_apart(fitter.pose(settled).joints.numpy(), radii.numpy(), camera)
    settled = replace(settled, pelvis=settled.pelvis + float_tensor(moves))
    return touch_down(fitter, settled, (on_ground, feet_seen), float(camera[1]))


def _settled(
    fitter: Fitter, bodies: Bodies, targets: Targets, on_ground: np.ndarray, config: PeopleConfig
) -> Bodies:
    """Everybody refined together, with those who stand on the floor."""
    radii = sphere_radii(fitter.body, bodies.betas, bodies.scale)
    weights = Weights(segments=_SEGMENTS)
    bodies = fitter.run(
        bodies, targets, Schedule(config.ground_steps, weights, _RATES), Contact(on_ground, radii)
    )
    return fit_shape(fitter, bodies, targets, weights, config.ground_steps, config)


def to_scene(bodies: Bodies, ground: GroundEstimate, slide: np.ndarray) -> Bodies:
    """Slides bodies along their viewing rays and tells them in the scene frame."""
    turn, factor = float_tensor(ground.turn), float_tensor(slide)
    camera = torch.tensor([0.0, ground.height, 0.0])
    return replace(
        bodies,
        orientation=turn @ bodies.orientation,
        pelvis=(bodies.pelvis * factor[:, None]) @ turn.T + camera,
        scale=bodies.scale * factor,
    )


def touch_down(
    fitter: Fitter, bodies: Bodies, support: tuple[np.ndarray, np.ndarray], height: float
) -> tuple[Bodies, np.ndarray]:
    """Slides people along their viewing rays until the lowest skin is exactly on the floor.

    Those off the floor slide only when their feet are seen below it. Whoever would become a giant
    or a dwarf by sliding far stays where they are, off the floor.

    Args:
        fitter: of the scene's camera.
        bodies: in the scene frame.
        support: as stand_on_ground.
        height: of the camera, metres.

    Returns:
        the bodies, and who stands on the floor, [P] bool.
    """
    on_ground, feet_seen = (torch.as_tensor(flags) for flags in support)
    lowest = lowest_skin(fitter, bodies)
    camera = torch.tensor([0.0, height, 0.0])
    factor = height / (height - lowest).clamp_min(_LEAST_DROP)
    after = factor * fitter.body.stature(bodies.betas, bodies.scale)
    far = (factor < _MOST_SLIDE[0]) | (factor > _MOST_SLIDE[1])
    odd = far & ((after < _STATURES[0]) | (after > _STATURES[1]))
    on_ground = on_ground & ~odd
    factor = torch.where(on_ground | (feet_seen & (lowest < 0) & ~odd), factor, 1.0)
    placed = replace(
        bodies,
        pelvis=camera + (bodies.pelvis - camera) * factor[:, None],
        scale=bodies.scale * factor,
    )
    return placed, on_ground.numpy()


def lowest_skin(fitter: Fitter, bodies: Bodies) -> Tensor:
    """Height of the lowest vertex of every body.  # [P] metres"""
    return fitter.vertices(bodies)[..., 1].amin(dim=1)
