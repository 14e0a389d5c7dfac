# SPDX-License-Identifier: Apache-2.0
"""From bodies in front of a camera to people on one floor: slide, refine together, touch down."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from crowdgaussian_shared.geometry.axes import camera_at_origin
from crowdgaussian_shared.geometry.camera import eye_of
from torch import Tensor

from ...core.device import float_tensor
from ..config import PeopleConfig
from ..detect.detections import Detection
from ..fit.fitter import Bodies, Fitter, Schedule
from ..fit.objective import Weights
from ..fit.schedules import fit_shape
from ..fit.targets import Targets, turned
from ..types import Certainty
from .contact import Contact, push_apart, sphere_radii
from .plane import PRIOR, Focal, GroundEstimate, SupportEvidence, solve_focal, solve_ground
from .support import decide_support, support_evidence

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
