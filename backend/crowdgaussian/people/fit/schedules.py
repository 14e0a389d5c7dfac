# SPDX-License-Identifier: Apache-2.0
"""The stages of fitting everybody in the camera's frame, before the ground is known."""

from dataclasses import replace

import numpy as np
import torch

from ..config import PeopleConfig
from ..detect.detections import Detection
from .fitter import Bodies, Fitter, Schedule
from .init import DEPTH_HYPOTHESES, Guess, Lengths, guess, lift
from .objective import SILHOUETTE, Weights
from .targets import Targets

_PLACE_RATES = {"orientation": 0.03, "pelvis": 0.02}
_POSE_RATES = {"orientation": 0.02, "pelvis": 0.01, "body_pose": 0.03, "betas": 0.03}
_FINE_RATES = {"orientation": 0.015, "pelvis": 0.006, "body_pose": 0.02, "betas": 0.05}
_SHAPE_RATES = {"betas": 0.2}
_SHAPE_SHARE = 3  # of the steps of a fit, one part of so many
# A body read the other way round in depth must explain the picture this much better.
_MIRROR_BONUS = 0.75


def fit_in_camera(
    fitter: Fitter, people: list[Detection], targets: Targets, K: np.ndarray, config: PeopleConfig
) -> Bodies:
    """Place, orientation, pose and shape of everybody, each on their own.

    Every body starts twice, as the network reads it and mirrored in depth, because a silhouette
    alone allows both; the reading that explains the picture better stays.
    """
    rest = fitter.body.joint_template.numpy()
    readings = [guess(people, rest, K, mirror_depth) for mirror_depth in (False, True)]
    both = _joined(targets, targets)
    both = replace(
        both,
        segments=both.segments * _depth_signs(both.segments),
        face=both.face * _depth_signs(both.face),
    )
    bodies = fitter.start(
        Guess(
            *(
                torch.cat(part)
                for part in zip(*((r.orientation, r.body_pose, r.pelvis) for r in readings))
            )
        )
    )
    coarse = Weights()
    bodies = fitter.run(bodies, both, Schedule(30, coarse, _PLACE_RATES))
    bodies = fitter.run(bodies, both, Schedule(config.pose_steps // 3, coarse, _POSE_RATES))
    bodies = bodies.select(_better_reading(fitter, bodies, both))
    bodies = fitter.run(bodies, targets, Schedule(config.pose_steps, coarse, _FINE_RATES))
    return fit_shape(fitter, bodies, targets, coarse, config.pose_steps, config)


def fit_shape(
    fitter: Fitter,
    bodies: Bodies,
    targets: Targets,
    weights: Weights,
    steps: int,
    config: PeopleConfig,
) -> Bodies:
    """Lets the masks tell how wide bodies are, not where their limbs lie.

    The detector's masks are not shared out yet: what belongs to a neighbour would pull limbs
    there (24 people of real photos: OKS of the joints .857 with limbs free, .874 without).

    Args:
        fitter: of the bodies' camera.
        bodies: in their pose.
        targets: what the photo says.
        weights: of the pose's fit, without masks.
        steps: of the pose's fit.
        config: whether masks count.
    """
    if not config.use_silhouette:
        return bodies
    shape = replace(weights, silhouette=SILHOUETTE)
    return fitter.run(bodies, targets, Schedule(steps // _SHAPE_SHARE, shape, _SHAPE_RATES))


def _depth_signs(directions: torch.Tensor) -> torch.Tensor:
    """+1, but -1 for the depth of the second half of the batch.  # like directions"""
    signs = torch.ones_like(directions)
    signs[len(signs) // 2 :, ..., 2] = -1.0
    return signs


def _joined(first: Targets, second: Targets) -> Targets:
    return Targets(
        **{name: torch.cat([value, getattr(second, name)]) for name, value in vars(first).items()}
    )


def _better_reading(fitter: Fitter, bodies: Bodies, targets: Targets) -> torch.Tensor:
    """Index of the better of the two readings of each person.  # [P]"""
    blind = Weights(segments=0.0, face=0.0)  # the network's own depth is what is in question
    energy = fitter.energy(bodies, targets, blind).reshape(2, -1)
    people = energy.shape[1]
    mirrored = energy[1] < _MIRROR_BONUS * energy[0]
    return torch.arange(people) + mirrored * people


# Fitting bodies to landmarks in the photo alone, when no network tells depth

_BLIND = {"segments": 0.0, "face": 0.0}  # nothing is known of directions in space
_FINE_2D_RATES = {"orientation": 0.015, "pelvis": 0.006, "body_pose": 0.02, "betas": 0.05}
_POSE = 0.02  # the prior counts more where the photo tells less


def fit_2d_keypoints(
    fitter: Fitter, people: list[Detection], targets: Targets, K: np.ndarray, config: PeopleConfig
) -> Bodies:
    """Place, orientation, pose and shape of everybody, each on their own.

    Every body starts from all readings of its landmarks; the one that ends with the least energy,
    that is the most usual pose which explains the photo, stays.
    """
    rest = fitter.body.joint_template.numpy()
    lengths, count = Lengths.of(rest), len(people)
    guesses = [
        guess([lift(person, lengths, reading) for person in people], rest, K, mirror_depth=False)
        for reading in DEPTH_HYPOTHESES
    ]
    many = Targets(
        **{
            name: torch.cat([value] * len(DEPTH_HYPOTHESES))
            for name, value in vars(targets).items()
        }
    )
    bodies = fitter.start(
        Guess(
            *(
                torch.cat(part)
                for part in zip(*((g.orientation, g.body_pose, g.pelvis) for g in guesses))
            )
        )
    )
    weights = Weights(pose=_POSE, **_BLIND)
    bodies = fitter.run(bodies, many, Schedule(30, weights, _PLACE_RATES))
    bodies = fitter.run(bodies, many, Schedule(config.pose_steps // 2, weights, _POSE_RATES))
    energy = fitter.energy(bodies, many, weights).reshape(len(DEPTH_HYPOTHESES), count)
    bodies = bodies.select(torch.arange(count) + energy.argmin(dim=0) * count)
    return fitter.run(bodies, targets, Schedule(config.pose_steps, weights, _FINE_2D_RATES))


def without_directions(targets: Targets) -> Targets:
    """Targets that say nothing about directions in space or masks."""
    return replace(
        targets,
        segment_weight=torch.zeros_like(targets.segment_weight),
        mask_trust=torch.zeros_like(targets.mask_trust),
    )
