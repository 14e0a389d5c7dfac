# SPDX-License-Identifier: Apache-2.0
"""Fitting bodies to landmarks in the photo alone, when no network tells depth."""

from dataclasses import replace

import numpy as np
import torch

from .config import PeopleConfig
from .detect import Detection
from .energy import Weights
from .fit import Bodies, Fitter, Schedule
from .initialise import Guess, guess
from .lift import READINGS, Lengths, lifted
from .targets import Targets

_BLIND = {"segments": 0.0, "face": 0.0}  # nothing is known of directions in space
_PLACE_RATES = {"orientation": 0.03, "pelvis": 0.02}
_POSE_RATES = {"orientation": 0.02, "pelvis": 0.01, "body_pose": 0.03, "betas": 0.03}
_FINE_RATES = {"orientation": 0.015, "pelvis": 0.006, "body_pose": 0.02, "betas": 0.05}
_POSE = 0.02  # the prior counts more where the photo tells less


def fit_flat(fitter: Fitter, people: list[Detection], targets: Targets, K: np.ndarray,
             config: PeopleConfig) -> Bodies:
    """Place, orientation, pose and shape of everybody, each on their own.

    Every body starts from all readings of its landmarks; the one that ends with the least energy,
    that is the most usual pose which explains the photo, stays.
    """
    rest = fitter.body.joint_template.numpy()
    lengths, count = Lengths.of(rest), len(people)
    guesses = [guess([lifted(person, lengths, reading) for person in people], rest, K,
                     mirror_depth=False) for reading in READINGS]
    many = Targets(**{name: torch.cat([value] * len(READINGS))
                      for name, value in vars(targets).items()})
    bodies = fitter.start(Guess(*(torch.cat(part) for part in zip(
        *((g.orientation, g.body_pose, g.pelvis) for g in guesses)))))
    weights = Weights(pose=_POSE, **_BLIND)
    bodies = fitter.run(bodies, many, Schedule(30, weights, _PLACE_RATES))
    bodies = fitter.run(bodies, many, Schedule(config.pose_steps // 2, weights, _POSE_RATES))
    energy = fitter.energy(bodies, many, weights).reshape(len(READINGS), count)
    bodies = bodies.select(torch.arange(count) + energy.argmin(dim=0) * count)
    return fitter.run(bodies, targets, Schedule(config.pose_steps, weights, _FINE_RATES))


def without_directions(targets: Targets) -> Targets:
    """Targets that say nothing about directions in space or masks."""
    return replace(targets, segment_weight=torch.zeros_like(targets.segment_weight),
                   mask_trust=torch.zeros_like(targets.mask_trust))
