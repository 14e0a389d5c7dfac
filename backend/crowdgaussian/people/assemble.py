# SPDX-License-Identifier: Apache-2.0
"""The end of every people stage: fitted bodies on one floor become the crowd."""

from dataclasses import dataclass

import numpy as np
from crowdgaussian_shared.camera import Camera

from .config import PeopleConfig
from .detect import Detection
from .fit import Bodies, Fitter
from .grounding import put_on_ground
from .result import make_people
from .targets import Targets
from .types import Crowd


@dataclass(frozen=True)
class Fitted:
    """Everybody fitted alone, in the scene axes of a camera at the origin."""

    bodies: Bodies
    found: list[Detection]
    targets: Targets


def crowd_on_floor(alone: Fitter, fitted: Fitted, K: np.ndarray, shape: tuple[int, int],
                   config: PeopleConfig, focal_source: str) -> Crowd:
    """Finds the floor, settles everybody on it and hands them on.

    Args:
        alone: the fitter with the camera at the origin.
        fitted: the bodies in that frame, and what the photo says about them.
        K: [3, 3] of the photo.
        shape: height and width of the photo.
        config: how many steps.
        focal_source: where K comes from; "default" lets people who stand decide its focal length.
    """
    placed = put_on_ground(alone, fitted.bodies, fitted.found, fitted.targets, shape, config,
                           focal_known=focal_source != "default")
    if not np.allclose(placed.K, K, rtol=1e-5):  # the fitter keeps float32
        K, focal_source = placed.K.astype(np.float64), "people"
    fitter = Fitter(alone.body, alone.points, K, placed.viewmat)
    flags = [one.flags + more for one, more in zip(fitted.found, placed.flags)]
    people = make_people(fitter, placed.bodies, fitted.found, fitted.targets, flags)
    return Crowd(people, Camera(K, placed.viewmat, shape[1], shape[0]), focal_source,
                 tuple(bool(ground) for ground in placed.on_ground), placed.certainty)
