# SPDX-License-Identifier: Apache-2.0
"""One floor for everybody who stands: the camera's pitch, roll and height from people's feet.

A body can slide along its viewing rays, growing as it recedes, without changing in the photo.
The floor says how far each one has to slide, and the right floor is the one on which most people
get the stature of adults. Ideas: Crowd3D (ground from 2D poses), CrowdRec and DTO (stature
priors); the formulae are our own.
"""

from dataclasses import dataclass

import numpy as np
from crowdgaussian_shared.axes import SCENE_FROM_OPENCV, scene_viewmat
from scipy.optimize import OptimizeResult, least_squares

from .energy import ADULT

_PITCH = (np.radians(6.0), np.radians(9.0))  # prior: photographers look down a little
_ROLL = (0.0, np.radians(2.0))
_LOG_HEIGHT = (np.log(1.7), 0.5)
_LEAN = np.radians(14.0)  # spread of the common tilt of body axes; the network leans bodies
_HIDDEN_FEET = 0.35  # how much a person counts whose feet the photo does not show
_OUTLIER = 3.0  # standard deviations of stature from which on somebody does not stand there


@dataclass(frozen=True)
class Standing:
    """What each of P fitted bodies tells about the floor; camera at the origin, scene axes."""

    soles: np.ndarray  # [P, F, 3] points under the feet
    stature: np.ndarray  # [P] metres, at the present size
    feet_seen: np.ndarray  # [P] bool
    supported: np.ndarray  # [P] bool, False for those who sit or lie and must not count
    dangling: np.ndarray  # [P] bool, toes hang down as in a jump
    axis: np.ndarray  # [P, 3] unit, from the feet to the head; zeros when bent


@dataclass(frozen=True)
class Ground:
    """The floor seen from the camera."""

    height: float  # metres of the camera above the floor
    pitch: float  # radians, positive looks down
    roll: float  # radians
    slide: np.ndarray  # [P] factor along the viewing rays that puts each body on the floor
    fits: np.ndarray  # [P] bool, whether the body gets a human stature there

    @property
    def viewmat(self) -> np.ndarray:
        """Scene -> OpenCV camera.  # [4, 4]"""
        return scene_viewmat(self.height, self.pitch, self.roll)

    @property
    def turn(self) -> np.ndarray:
        """Camera-aligned scene axes -> scene axes.  # [3, 3]"""
        return self.viewmat[:3, :3].T @ SCENE_FROM_OPENCV.T


def solve_ground(people: Standing) -> Ground:
    """Finds the floor by robust least squares from several starts, once more without outliers."""
    stable = people.supported & ~people.dangling
    stable = stable if stable.any() else people.supported
    counts = stable.astype(float)
    for _ in range(2):
        best = min((_solve(people, counts, start) for start in np.radians([0.0, 8.0, 18.0])),
                   key=lambda found: found.cost)
        statures = _slides(best.x, people) * people.stature
        off = np.abs(statures - ADULT[0]) > _OUTLIER * ADULT[1]
        if not (stable & ~off).any():
            break
        counts = (stable & ~off).astype(float)
    pitch, roll, log_height = best.x
    slide = _slides(best.x, people)
    return Ground(float(np.exp(log_height)), float(pitch), float(roll), slide,
                  ~off & np.isfinite(slide))


def _solve(people: Standing, counts: np.ndarray, pitch: float) -> OptimizeResult:
    weight = counts * np.where(people.feet_seen, 1.0, _HIDDEN_FEET)
    straight = (np.abs(people.axis).sum(axis=1) > 0) & (counts > 0)
    share = 1 / np.sqrt(max(straight.sum(), 1))

    def residuals(x: np.ndarray) -> np.ndarray:
        stature = _slides(x, people) * people.stature
        stature = np.clip((stature - ADULT[0]) / ADULT[1], -20, 20) * weight
        turned = people.axis[straight] @ _turn(x).T
        lean = np.arctan2(turned[:, [0, 2]], turned[:, 1:2]).ravel() / _LEAN * share
        priors = [(x[0] - _PITCH[0]) / _PITCH[1], (x[1] - _ROLL[0]) / _ROLL[1],
                  (x[2] - _LOG_HEIGHT[0]) / _LOG_HEIGHT[1]]
        return np.concatenate([stature, lean, priors])

    first = np.array([pitch, 0.0, _start_height(people, weight, pitch)])
    return least_squares(residuals, first, loss="huber", f_scale=1.5)


def _start_height(people: Standing, weight: np.ndarray, pitch: float) -> float:
    """Log height at which people of the present size would stand, for a given pitch."""
    drop = -_lowest(np.array([pitch, 0.0, 0.0]), people)
    usable = (weight > 0) & (drop > 0.1)
    return float(np.log(np.median(drop[usable]))) if usable.any() else _LOG_HEIGHT[0]


def _turn(x: np.ndarray) -> np.ndarray:
    return scene_viewmat(1.0, x[0], x[1])[:3, :3].T @ SCENE_FROM_OPENCV.T


def _lowest(x: np.ndarray, people: Standing) -> np.ndarray:
    """Height of the lowest sole point over the camera.  # [P] metres, negative below it"""
    return (people.soles @ _turn(x)[1]).min(axis=1)


def _slides(x: np.ndarray, people: Standing) -> np.ndarray:
    """How far bodies slide to the floor: height of the camera over the drop to the soles."""
    drop = -_lowest(x, people)
    return np.exp(x[2]) / np.maximum(drop, 0.02)
