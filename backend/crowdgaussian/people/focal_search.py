# SPDX-License-Identifier: Apache-2.0
"""The focal length from people who stand: where verticals and statures agree with one floor.

Feet and crowns of upright people give the horizon (statures) and, where the camera looks down or
up, the point in which verticals meet; the two together fix the focal length (the orthogonality of
vanishing points, Hartley and Zisserman 2004, section 8.6). A level camera leaves it free, so the
answer carries its standard deviation and counts only when the people really decide it.
"""

from dataclasses import dataclass

import numpy as np
from crowdgaussian_shared.axes import scene_viewmat
from scipy.optimize import OptimizeResult, least_squares

from .energy import ADULT
from .ground import LOG_HEIGHT, PITCH, ROLL, Standing, capped, standard_errors

MIN_STANDING = 4
SURE = 0.2  # standard deviation of the focal length's logarithm below which people decide it
PRIOR = 0.3  # the same before anybody is looked at: phones to portrait lenses about the default
_LEAN = np.radians(6.0)  # spread of a standing body's axis sideways
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


def solve_focal(people: Standing, K: np.ndarray) -> Focal:
    """The likeliest focal length of a photo that does not tell.

    Args:
        people: bodies fitted with K; those upright with feet seen are used.
        K: [3, 3] the camera they were fitted with, its focal length being the default.
    """
    used = (people.supported & people.feet_seen & ~people.dangling
            & (np.abs(people.axis).sum(axis=1) > 0))
    focal = float(K[0, 0])
    if used.sum() < MIN_STANDING:
        return Focal(focal, PRIOR)
    feet = people.soles[used].mean(axis=1)
    crowns = feet + people.axis[used] * people.stature[used, None]
    ends = np.stack([feet, crowns])
    ends = ends[..., :2] / -ends[..., 2:] * [focal, -focal]  # pixels from the principal point
    starts = [np.array([pitch, 0.0, height, 0.0])
              for pitch in np.radians([2.0, 14.0]) for height in np.log([1.4, 2.2])]
    best = min((_solve(ends, focal, start) for start in starts), key=lambda found: found.cost)
    return Focal(focal * float(np.exp(best.x[3])), float(standard_errors(best)[3]))


def _solve(ends: np.ndarray, focal: float, start: np.ndarray) -> OptimizeResult:
    """Unknowns: pitch, roll, log of the camera's height, log of the focal length over `focal`."""

    def residuals(x: np.ndarray) -> np.ndarray:
        stature, lean = _stand_up(ends / (focal * np.exp(x[3])), x)
        priors = [(x[0] - PITCH[0]) / PITCH[1], (x[1] - ROLL[0]) / ROLL[1],
                  (x[2] - LOG_HEIGHT[0]) / LOG_HEIGHT[1], x[3] / PRIOR]
        return np.concatenate([capped((stature - ADULT[0]) / ADULT[1]), capped(lean / _LEAN),
                               priors])

    return least_squares(residuals, start, x_scale=[0.1, 0.05, 0.2, 0.2], max_nfev=80)


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
