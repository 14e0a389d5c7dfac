# SPDX-License-Identifier: Apache-2.0
"""The weight-free people estimator: MediaPipe landmarks, a batched fit, one shared floor."""

from dataclasses import replace

import numpy as np
from crowdgaussian_shared.geometry.axes import camera_at_origin
from crowdgaussian_shared.geometry.camera import photo_camera
from crowdgaussian_shared.scene.schema import FocalSource

from ..body.model import BodyModel
from ..core.progress import Progress, Report, within
from .config import PeopleConfig
from .crowd import Fitted, crowd_on_floor, single_thread
from .detect.detections import Detection, detect_people
from .fit.body_points import BodyPoints
from .fit.fitter import Fitter
from .fit.schedules import fit_in_camera
from .fit.targets import make_targets
from .types import Crowd

# Shares of the stage's time after which everybody is found, fitted, and on the floor: measured on
# the sample, with 140 s for the search, 20 s for the fit and 15 s for the floor on one busy core.
_FOUND, _FITTED, _PLACED = 0.8, 0.9, 0.98


class KeypointFit:
    """Photo -> everybody in it, posed on one floor; implements PeopleEstimator."""

    def __init__(self, config: PeopleConfig, body: BodyModel) -> None:
        """config: options; body: the model that is fitted."""
        self.config, self.body = config, body
        self.points = BodyPoints(body)

    def estimate(self, photo: np.ndarray, focal_px: float | None, report: Report) -> Crowd:
        """Finds and fits everybody.

        Args:
            photo: [H, W, 3] uint8 sRGB.
            focal_px: pixels, from EXIF or an option; None takes the configured field of view.
            report: called between the steps.

        Raises:
            InputError: nobody was found.
        """
        shape = photo.shape[:2]
        report(Progress("people", 0.0, message="looking for people"))
        found = detect_people(photo, self.config, within(report, 0.0, _FOUND))
        K, source = photo_camera(focal_px, shape, self.config.default_fov)
        with single_thread():
            crowd = self._fit(found.people, K, shape, report, source)
        return replace(crowd, missed=found.missed)

    def _fit(
        self,
        found: list[Detection],
        K: np.ndarray,
        shape: tuple[int, int],
        report: Report,
        focal_source: FocalSource,
    ) -> Crowd:
        people = len(found)
        report(Progress("people", _FOUND, None, people, f"{people} found, fitting bodies"))
        targets = make_targets(found, K)
        alone = Fitter(self.body, self.points, K, camera_at_origin())
        bodies = fit_in_camera(alone, found, targets, K, self.config)
        report(Progress("people", _FITTED, None, people, "looking for the ground"))
        crowd = crowd_on_floor(
            alone, Fitted(bodies, found, targets), K, shape, self.config, focal_source
        )
        report(Progress("people", _PLACED, None, people, "people placed"))
        return crowd
