# SPDX-License-Identifier: Apache-2.0
"""Fitting everybody at once: place and orientation first, then pose, then shape."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ...body.model import BodyModel
from ...core.device import float_tensor
from ...core.optim import Descent, minimise
from ...core.rotations import axis_angle_to_matrix, joint_transforms, skin
from ...splat.cameras import project
from .body_points import BodyPoints, PosedPoints, pose_matrices
from .init import Guess
from .objective import Weights, body_energy, relaxed_hands
from .targets import Targets

_ADAM_BETAS = (0.9, 0.98)  # a shorter memory of squares than Adam's own: runs are short; hand-tuned
_FIRST_CHECK, _CHECK_EVERY = 30, 10  # steps before and between two looks at what was gained


@dataclass(frozen=True)
class Bodies:
    """P bodies in the frame of their camera; what the optimiser moves."""

    orientation: Tensor  # [P, 3, 3] of the pelvis
    body_pose: Tensor  # [P, 21, 3] axis-angle
    pelvis: Tensor  # [P, 3] metres
    betas: Tensor  # [P, num_betas]
    scale: Tensor  # [P]

    def select(self, index: Tensor) -> "Bodies":
        """Some of the bodies, in that order."""
        return Bodies(**{name: value[index] for name, value in vars(self).items()})


@dataclass(frozen=True)
class Schedule:
    """One stage of the optimisation."""

    steps: int
    weights: Weights
    rates: dict[str, float]  # learning rate per parameter; absent ones stay
    patience: float = 1e-4  # relative gain in ten steps below which the stage ends


class Fitter:
    """Moves bodies until they agree with the photo; one camera, any number of people."""

    def __init__(
        self, body: BodyModel, points: BodyPoints, K: np.ndarray, viewmat: np.ndarray
    ) -> None:
        self.body, self.points = body, points
        self.camera = (
            float_tensor(K),
            float_tensor(viewmat),
        )
        self.hands = axis_angle_to_matrix(relaxed_hands())

    def start(self, first: Guess) -> Bodies:
        """Bodies of average shape at a first guess."""
        people = len(first.pelvis)
        return Bodies(
            first.orientation,
            first.body_pose,
            first.pelvis,
            torch.zeros(people, self.body.num_betas),
            torch.ones(people),
        )

    def pose(self, bodies: Bodies) -> PosedPoints:
        """The points of bodies in the frame of the camera's viewmat."""
        rotations = pose_matrices(bodies.orientation, bodies.body_pose, self.hands)
        return self.points(bodies.betas, rotations, bodies.pelvis, bodies.scale)

    def vertices(self, bodies: Bodies) -> Tensor:
        """The whole skin.  # [P, V, 3]"""
        rest, joints = self.body.rest(bodies.betas, bodies.scale)
        rotations = pose_matrices(bodies.orientation, bodies.body_pose, self.hands)
        transforms, _ = joint_transforms(joints, rotations, bodies.pelvis - joints[:, 0])
        return skin(rest, self.body.skin_weights, transforms)

    def pixel_errors(self, bodies: Bodies, targets: Targets, far: float) -> Tensor:
        """Robust mean distance of the landmarks from the photo's, photo pixels.  # [P]

        Args:
            bodies: the bodies.
            targets: what the photo says about them.
            far: parts of the body's height; a landmark further off counts as this far.
        """
        pixels = project(self.pose(bodies).landmarks, *self.camera)
        apart = (pixels - targets.xy).norm(dim=2).clamp_max(far * targets.size[:, None])
        return (apart * targets.weight).sum(dim=1) / targets.weight.sum(dim=1).clamp_min(1e-6)

    def energy(self, bodies: Bodies, targets: Targets, weights: Weights) -> Tensor:
        """How badly each body fits.  # [P]"""
        return self._energy(bodies, self.pose(bodies), targets, weights)

    def _energy(
        self, bodies: Bodies, posed: PosedPoints, targets: Targets, weights: Weights
    ) -> Tensor:
        parts = {
            "body_pose": bodies.body_pose,
            "betas": bodies.betas,
            "stature": self.body.stature(bodies.betas, bodies.scale),
        }
        return body_energy(posed, parts, targets, self.camera, weights)

    def run(
        self,
        bodies: Bodies,
        targets: Targets,
        schedule: Schedule,
        extra: Callable[[PosedPoints], Tensor] | None = None,
    ) -> Bodies:
        """Lowers the energy with Adam, everybody at once; ends early when little is gained.

        Args:
            bodies: where to start.
            targets: what the photo says about them.
            schedule: which parameters move, how fast, for how long.
            extra: another term of the posed points, such as contact with the floor.
        """
        moving = _Moving(bodies, schedule.rates)
        history: list[float] = []

        def loss_at(_: int) -> Tensor:
            now = moving.bodies()
            posed = self.pose(now)
            loss = self._energy(now, posed, targets, schedule.weights).sum()
            return loss if extra is None else loss + extra(posed)

        def ended(_: int, loss: Tensor) -> bool:
            history.append(float(loss))
            return _stalled(history, schedule.patience)

        descent = Descent(schedule.steps, betas=_ADAM_BETAS)
        minimise(moving.groups(schedule.rates), descent, loss_at, ended)
        return moving.bodies(detached=True)


class _Moving:
    """The free parameters of bodies, in coordinates in which steps of like size mean alike."""

    def __init__(self, bodies: Bodies, rates: dict[str, float]) -> None:
        people = len(bodies.pelvis)
        self.first = bodies
        self.free = {
            "orientation": torch.zeros(people, 3),
            "body_pose": bodies.body_pose.clone(),
            # Sideways in parts of the depth, and the logarithm of the depth.
            "pelvis": torch.zeros(people, 3),
            "betas": bodies.betas.clone(),
            "scale": bodies.scale.log().clone(),
        }
        for name, tensor in self.free.items():
            tensor.requires_grad_(name in rates)

    def groups(self, rates: dict[str, float]) -> list[dict]:
        return [{"params": [self.free[name]], "lr": rate} for name, rate in rates.items()]

    def bodies(self, detached: bool = False) -> Bodies:
        free = {name: t.detach() if detached else t for name, t in self.free.items()}
        turn = axis_angle_to_matrix(free["orientation"]) @ self.first.orientation
        distance = self.first.pelvis.norm(dim=1, keepdim=True)
        along = self.first.pelvis * free["pelvis"][:, 2:].exp()
        shift = torch.cat([free["pelvis"][:, :2], torch.zeros_like(distance)], dim=1) * distance
        return replace(
            self.first,
            orientation=turn,
            body_pose=free["body_pose"],
            pelvis=along + shift,
            betas=free["betas"],
            scale=free["scale"].exp(),
        )


def _stalled(history: list[float], patience: float) -> bool:
    if len(history) < _FIRST_CHECK or len(history) % _CHECK_EVERY:
        return False
    before, now = min(history[-2 * _CHECK_EVERY : -_CHECK_EVERY]), min(history[-_CHECK_EVERY:])
    return before - now < patience * abs(before)
