# SPDX-License-Identifier: Apache-2.0
"""The weight-free people estimator: MediaPipe landmarks, a batched fit, one shared floor."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from crowdgaussian_shared.camera import Camera
from crowdgaussian_shared.rotations import matrix_to_axis_angle
from torch import Tensor

from ..body.model import BodyModel
from ..progress import Progress, Report
from .body_points import BodyPoints
from .camera import focal_or_default, intrinsics, project
from .config import PeopleConfig
from .detect import Detection, detect_people
from .fit import Bodies, Fitter
from .grounding import camera_at_origin, put_on_ground
from .pose_prior import relaxed_hands
from .stages import fit_in_camera
from .targets import Targets, make_targets
from .types import Crowd, Person


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
            CrowdGaussianError: nobody was found.
        """
        height, width = photo.shape[:2]
        report(Progress("people", 0.0, message="looking for people"))
        found = detect_people(photo, self.config)
        K = intrinsics(focal_or_default(focal_px, width, height, self.config.default_fov),
                       width, height)
        with _single_thread():
            return self._fit(found, K, (height, width), report,
                             "default" if focal_px is None else "exif")

    def _fit(self, found: list[Detection], K: np.ndarray, shape: tuple[int, int],
             report: Report, focal_source: str) -> Crowd:
        people = len(found)
        report(Progress("people", 0.4, None, people, f"{people} found, fitting bodies"))
        targets = make_targets(found, K)
        alone = Fitter(self.body, self.points, K, camera_at_origin())
        bodies = fit_in_camera(alone, found, targets, K, self.config)
        report(Progress("people", 0.7, None, people, "looking for the ground"))
        placed = put_on_ground(alone, bodies, found, targets, shape, self.config)
        report(Progress("people", 0.95, None, people, "people placed"))
        camera = Camera(K, placed.viewmat, shape[1], shape[0])
        fitter = Fitter(self.body, self.points, K, placed.viewmat)
        errors = _pixel_errors(fitter, placed.bodies, targets)
        crowd = []
        for index, detection in enumerate(found):
            report(Progress("people", 0.95 + 0.05 * index / people, index, people))
            crowd.append(self._person(placed.bodies, index, detection,
                                      placed.flags[index], float(errors[index])))
        return Crowd(tuple(crowd), camera, focal_source, tuple(bool(g) for g in placed.on_ground))

    def _person(self, bodies: Bodies, index: int, detection: Detection,
                flags: tuple[str, ...], error: float) -> Person:
        one = bodies.select(torch.tensor([index]))
        rest = self.points.rest_joints(one.betas, one.scale)[0, 0]
        pose = np.zeros((55, 3), dtype=np.float32)
        pose[0] = matrix_to_axis_angle(one.orientation[0].double().numpy())
        pose[1:22], pose[22:] = one.body_pose[0].numpy(), relaxed_hands().numpy()
        return Person(
            betas=one.betas[0].numpy(), pose=pose, transl=(one.pelvis[0] - rest).numpy(),
            scale=float(one.scale[0]), keypoints=detection.keypoints, box=detection.box,
            score=detection.score, person_mask=detection.person_mask,
            flags=detection.flags + flags, reprojection_px=error)


def _pixel_errors(fitter: Fitter, bodies: Bodies, targets: Targets) -> Tensor:
    """Robust mean distance of the landmarks, photo pixels.  # [P]"""
    pixels = project(fitter.pose(bodies).landmarks, *fitter.camera)
    apart = (pixels - targets.xy).norm(dim=2).clamp_max(0.1 * targets.size[:, None])
    return (apart * targets.weight).sum(dim=1) / targets.weight.sum(dim=1).clamp_min(1e-6)


@contextmanager
def _single_thread() -> Iterator[None]:
    """Tensors this small only lose time to threads that wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
