# SPDX-License-Identifier: Apache-2.0
"""One floor for everybody who stands: the camera's pitch, roll and height from people's feet.

A body can slide along its viewing rays, growing as it recedes, without changing in the photo.
The floor says how far each one has to slide, and the right floor is the one on which most people
get the stature of adults. Ideas: Crowd3D (ground from 2D poses), CrowdRec and DTO (stature
priors); the formulae are our own.
"""

from dataclasses import dataclass

import numpy as np
from crowdgaussian_shared.geometry.axes import SCENE_FROM_OPENCV, scene_viewmat
from crowdgaussian_shared.geometry.camera import split_viewmat
from scipy.optimize import OptimizeResult, least_squares

from ..fit.objective import ADULT

# Priors, mean and spread: wider ones follow the people, narrower ones the usual photo. Hand-tuned.
PITCH = (np.radians(6.0), np.radians(9.0))  # prior: photographers look down a little
ROLL = (0.0, np.radians(2.0))
LOG_HEIGHT = (float(np.log(1.7)), 0.5)
_LEAN = np.radians(14.0)  # spread of the common tilt of body axes; the network leans bodies
_HIDDEN_FEET = 0.35  # how much a person counts whose feet the photo does not show
_OUTLIER = 3.0  # standard deviations of stature from which on somebody does not stand there
# The solver: starts, so that no local minimum wins, and about how far each unknown has to go.
_START_PITCHES = np.radians([2.0, 14.0])
_START_QUANTILES = (0.15, 0.5, 0.85)  # of the drops from camera to soles
_PITCH_STEP, _ROLL_STEP, _HEIGHT_STEP = 0.1, 0.05, 0.2  # radians, radians, of the logarithm
_EVALUATIONS, _FOCAL_EVALUATIONS = 60, 80  # at most
_LEAST_DROP, _LEAST_SLIDE_DROP = 0.1, 0.02  # metres from the camera down to the soles


@dataclass(frozen=True)
class SupportEvidence:
    """What each of P fitted bodies tells about the floor; camera at the origin, scene axes."""

    soles: np.ndarray  # [P, F, 3] points under the feet
    stature: np.ndarray  # [P] metres, at the present size
    feet_seen: np.ndarray  # [P] bool
    supported: np.ndarray  # [P] bool, False for those who sit or lie and must not count
    dangling: np.ndarray  # [P] bool, toes hang down as in a jump
    axis: np.ndarray  # [P, 3] unit, from the feet to the head; zeros when bent


@dataclass(frozen=True)
class GroundEstimate:
    """The floor seen from the camera."""

    height: float  # metres of the camera above the floor
    pitch: float  # radians, positive looks down
    roll: float  # radians
    slide: np.ndarray  # [P] factor along the viewing rays that puts each body on the floor
    fits: np.ndarray  # [P] bool, whether the body gets a human stature there
    pitch_error: float  # radians, one standard deviation
    height_error: float  # relative, one standard deviation

    @property
    def viewmat(self) -> np.ndarray:
        """Scene -> OpenCV camera.  # [4, 4]"""
        return scene_viewmat(self.height, self.pitch, self.roll)

    @property
    def turn(self) -> np.ndarray:
        """Camera-aligned scene axes -> scene axes.  # [3, 3]"""
        return split_viewmat(self.viewmat)[0].T @ SCENE_FROM_OPENCV.T


def solve_ground(people: SupportEvidence) -> GroundEstimate:
    """Finds the floor by robust least squares from several starts."""
    stable = people.supported & ~people.dangling
    stable = stable if stable.any() else people.supported
    starts = [
        np.array([pitch, 0.0, height])
        for pitch in _START_PITCHES
        for height in _start_heights(people, stable, pitch)
    ]
    best = min((_solve(people, stable, start) for start in starts), key=lambda found: found.cost)
    pitch, roll, log_height = best.x
    slide = _slides(best.x, people)
    off = np.abs(slide * people.stature - ADULT[0]) > _OUTLIER * ADULT[1]
    errors = standard_errors(best)
    return GroundEstimate(
        float(np.exp(log_height)),
        float(pitch),
        float(roll),
        slide,
        ~off,
        float(errors[0]),
        float(errors[2]),
    )


def standard_errors(found: OptimizeResult) -> np.ndarray:
    """One standard deviation of each unknown, where residuals are in standard deviations.

    The Gauss-Newton approximation of the posterior at the optimum; residuals that level off as
    outliers carry little weight in it, as they should.
    """
    return np.sqrt(np.diag(np.linalg.inv(found.jac.T @ found.jac)))


def _solve(people: SupportEvidence, stable: np.ndarray, start: np.ndarray) -> OptimizeResult:
    weight = stable * np.where(people.feet_seen, 1.0, _HIDDEN_FEET)
    straight = (np.abs(people.axis).sum(axis=1) > 0) & stable
    share = 1 / np.sqrt(max(straight.sum(), 1))

    def residuals(x: np.ndarray) -> np.ndarray:
        stature = (_slides(x, people) * people.stature - ADULT[0]) / ADULT[1]
        turned = people.axis[straight] @ _turn(x).T
        lean = np.arctan2(turned[:, [0, 2]], turned[:, 1:2]).ravel() / _LEAN
        priors = [
            (x[0] - PITCH[0]) / PITCH[1],
            (x[1] - ROLL[0]) / ROLL[1],
            (x[2] - LOG_HEIGHT[0]) / LOG_HEIGHT[1],
        ]
        return np.concatenate([capped(stature) * weight, capped(lean) * share, priors])

    steps = [_PITCH_STEP, _ROLL_STEP, _HEIGHT_STEP]
    return least_squares(residuals, start, x_scale=steps, max_nfev=_EVALUATIONS)


def capped(residual: np.ndarray) -> np.ndarray:
    """Residuals whose squares level off at _OUTLIER^2 (Geman-McClure)."""
    return residual / np.sqrt(1 + (residual / _OUTLIER) ** 2)


def _start_heights(people: SupportEvidence, stable: np.ndarray, pitch: float) -> np.ndarray:
    """Logarithms of camera heights at which some of the people would stand.  # [3]"""
    drop = -_lowest(np.array([pitch, 0.0, 0.0]), people)[stable]
    drop = drop[drop > _LEAST_DROP]
    return np.log(np.quantile(drop, _START_QUANTILES)) if len(drop) else np.array(LOG_HEIGHT[:1])


def _turn(x: np.ndarray) -> np.ndarray:
    return scene_viewmat(1.0, x[0], x[1])[:3, :3].T @ SCENE_FROM_OPENCV.T


def _lowest(x: np.ndarray, people: SupportEvidence) -> np.ndarray:
    """Height of the lowest sole point over the camera.  # [P] metres, negative below it"""
    return (people.soles @ _turn(x)[1]).min(axis=1)


def _slides(x: np.ndarray, people: SupportEvidence) -> np.ndarray:
    """How far bodies slide to the floor: height of the camera over the drop to the soles."""
    drop = -_lowest(x, people)
    return np.exp(x[2]) / np.maximum(drop, _LEAST_SLIDE_DROP)


# The focal length from people who stand: where verticals and statures agree with one floor

MIN_STANDING = 4  # people, below which the photo's default focal length stays
SURE = 0.2  # standard deviation of the focal length's logarithm below which people decide it
PRIOR = 0.3  # the same before anybody is looked at: phones to portrait lenses about the default
_FOCAL_LEAN = np.radians(6.0)  # spread of a standing body's axis sideways
_FOCAL_START_HEIGHTS = (1.4, 2.2)  # metres of the camera over the floor
_FOCAL_STEP = 0.2  # of the focal length's logarithm
_NO_WIDER = 1e-3  # feet this little below the horizon are at its distance


@dataclass(frozen=True)
class Focal:
    """What the people say of the focal length."""

    pixels: float
    error: float  # relative, one standard deviation; PRIOR when they say nothing

    @property
    def sure(self) -> bool:
        """Whether to believe it rather than the default."""
        return self.error < SURE


def solve_focal(people: SupportEvidence, K: np.ndarray) -> Focal:
    """The likeliest focal length of a photo that does not tell.

    Args:
        people: bodies fitted with K; those upright with feet seen are used.
        K: [3, 3] the camera they were fitted with, its focal length being the default.
    """
    used = (
        people.supported
        & people.feet_seen
        & ~people.dangling
        & (np.abs(people.axis).sum(axis=1) > 0)
    )
    focal = float(K[0, 0])
    if used.sum() < MIN_STANDING:
        return Focal(focal, PRIOR)
    feet = people.soles[used].mean(axis=1)
    crowns = feet + people.axis[used] * people.stature[used, None]
    ends = np.stack([feet, crowns])
    ends = ends[..., :2] / -ends[..., 2:] * [focal, -focal]  # pixels from the principal point
    starts = [
        np.array([pitch, 0.0, height, 0.0])
        for pitch in _START_PITCHES
        for height in np.log(_FOCAL_START_HEIGHTS)
    ]
    best = min((_solve_focal(ends, focal, start) for start in starts), key=lambda found: found.cost)
    return Focal(focal * float(np.exp(best.x[3])), float(standard_errors(best)[3]))


def _solve_focal(ends: np.ndarray, focal: float, start: np.ndarray) -> OptimizeResult:
    """Unknowns: pitch, roll, log of the camera's height, log of the focal length over `focal`."""

    def residuals(x: np.ndarray) -> np.ndarray:
        stature, lean = _stand_up(ends / (focal * np.exp(x[3])), x)
        priors = [
            (x[0] - PITCH[0]) / PITCH[1],
            (x[1] - ROLL[0]) / ROLL[1],
            (x[2] - LOG_HEIGHT[0]) / LOG_HEIGHT[1],
            x[3] / PRIOR,
        ]
        return np.concatenate(
            [capped((stature - ADULT[0]) / ADULT[1]), capped(lean / _FOCAL_LEAN), priors]
        )

    steps = [_PITCH_STEP, _ROLL_STEP, _HEIGHT_STEP, _FOCAL_STEP]
    return least_squares(residuals, start, x_scale=steps, max_nfev=_FOCAL_EVALUATIONS)


def _stand_up(ends: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Statures and sideways leans of people whose feet are on the floor.

    Args:
        ends: [2, P, 2] feet and crowns on the image plane at distance 1.
        x: pitch, roll, log of the camera's height, ...

    Returns:
        stature [P] metres, lean [P] radians.
    """
    turn = scene_viewmat(1.0, x[0], x[1])[:3, :3].T
    height = np.exp(x[2])
    rays = np.concatenate([ends, np.ones((*ends.shape[:2], 1))], axis=2) @ turn.T  # [2, P, 3]
    feet = rays[0] * (height / np.maximum(-rays[0, :, 1:2], _NO_WIDER))  # from the camera
    flat = rays[1][:, [0, 2]]
    reach = (flat * feet[:, [0, 2]]).sum(axis=1) / (flat**2).sum(axis=1)
    apart = feet[:, [0, 2]] - reach[:, None] * flat  # across the crown's viewing plane
    across = (apart[:, 0] * flat[:, 1] - apart[:, 1] * flat[:, 0]) / np.linalg.norm(flat, axis=1)
    return height + reach * rays[1][:, 1], np.arctan2(across, ADULT[0])
