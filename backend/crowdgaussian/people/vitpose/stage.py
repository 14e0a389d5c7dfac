# SPDX-License-Identifier: Apache-2.0
"""Photo -> everybody in it by RT-DETR and ViTPose; implements PeopleEstimator."""

from dataclasses import replace

import numpy as np
from crowdgaussian_shared.errors import InputError
from crowdgaussian_shared.geometry.axes import camera_at_origin
from crowdgaussian_shared.geometry.camera import photo_camera
from crowdgaussian_shared.scene.schema import FocalSource

from ...body.model import BodyModel
from ...core.device import choose_device
from ...core.landmarks import NUM_LANDMARKS, TORSO
from ...core.progress import Progress, Report
from ..config import PeopleConfig, detector_folder, vitpose_folder
from ..crowd import Fitted, crowd_on_floor, single_thread, with_body_masks
from ..detect.detections import OUTSIDE, Detection, detection_flags
from ..detect.search import choose_boxes, read_boxes
from ..fit.body_points import BodyPoints
from ..fit.fitter import Fitter
from ..fit.init import Lengths, body_size
from ..fit.schedules import fit_2d_keypoints, without_directions
from ..fit.targets import make_targets
from ..types import Crowd, Keypoints
from .network import KeypointNetwork, PersonDetector, to_landmarks

_NOBODY = 0.2  # mean confidence of the trunk below which a box holds nobody


class VitPoseFit:
    """The same fit as KeypointFit's, to keypoints of networks and without any depth of theirs."""

    def __init__(self, config: PeopleConfig, body: BodyModel) -> None:
        """Finds and loads the networks; boxes of the user need no detector.

        Raises:
            CrowdGaussianError: a file is missing or damaged.
        """
        device = choose_device()
        self.config, self.body = config, body
        self.detector = None if config.boxes else PersonDetector(detector_folder(config), device)
        self.keypoints = KeypointNetwork(vitpose_folder(config), device)
        self.points = BodyPoints(body)
        self.lengths = Lengths.of(body.joint_template.numpy())

    def estimate(self, photo: np.ndarray, focal_px: float | None, report: Report) -> Crowd:
        """Finds and fits everybody.

        Args:
            photo: [H, W, 3] uint8 sRGB.
            focal_px: pixels, from EXIF or an option; None takes the configured field of view.
            report: called between the steps.

        Raises:
            CrowdGaussianError: nobody was found, or people.boxes is wrong.
        """
        shape = photo.shape[:2]
        report(Progress("people", 0.0, message="looking for people"))
        found = self.find(photo)
        K, source = photo_camera(focal_px, shape, self.config.default_fov)
        people = len(found)
        report(Progress("people", 0.4, None, people, f"{people} found, fitting bodies"))
        with single_thread():
            crowd = self.fit(found, K, shape, source)
        report(Progress("people", 0.95, None, people, "people placed"))
        return with_body_masks(crowd, self.body)

    def find(self, photo: np.ndarray) -> list[Detection]:
        """Everybody as the networks see them, left to right.

        Raises:
            CrowdGaussianError: nobody was found, or people.boxes is wrong.
        """
        boxes, scores = self._boxes(photo)
        found = []
        if len(boxes):
            keypoints = zip(*self.keypoints.keypoints(photo, boxes))
            found = [
                detection_of(*to_landmarks(*points), box, score, photo.shape[:2], self.lengths)
                for points, box, score in zip(keypoints, boxes, scores)
            ]
        found = [
            one
            for one in found
            if self.config.boxes or one.keypoints.confidence[TORSO].mean() > _NOBODY
        ]
        if not found:
            raise InputError(
                "No person was found in the photo; use one in which people are larger, lower "
                "people.detector_score, or set people.boxes."
            )
        return sorted(found, key=lambda one: float(one.keypoints.xy[TORSO, 0].mean()))

    def fit(
        self,
        found: list[Detection],
        K: np.ndarray,
        shape: tuple[int, int],
        focal_source: FocalSource,
    ) -> Crowd:
        """Bodies that project onto landmarks, on one floor; person_mask stays empty.

        Args:
            found: people; their metric landmarks are not used.
            K: [3, 3] of the photo.
            shape: height and width of the photo.
            focal_source: where K comes from.
        """
        config = replace(self.config, use_silhouette=False)
        alone = Fitter(self.body, self.points, K, camera_at_origin())
        targets = without_directions(make_targets(found, K))
        bodies = fit_2d_keypoints(alone, found, targets, K, config)
        return crowd_on_floor(alone, Fitted(bodies, found, targets), K, shape, config, focal_source)

    def _boxes(self, photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The user's boxes, or those of the detector that are people of the photo."""
        if self.detector is None:
            boxes = read_boxes(self.config.boxes, photo.shape[:2])
            return boxes, np.ones(len(boxes))
        boxes, scores = self.detector.boxes(photo)
        kept = choose_boxes(boxes, scores, self.config)
        return boxes[kept], scores[kept]


def detection_of(
    xy: np.ndarray,
    confidence: np.ndarray,
    box: np.ndarray,
    score: float,
    shape: tuple[int, int],
    lengths: Lengths,
) -> Detection:
    """One person as landmarks [33, 2] with their confidence [33] and a box tell."""
    inside = ((xy >= 0) & (xy < [shape[1], shape[0]])).all(axis=1)
    confidence = (confidence * np.where(inside, 1.0, OUTSIDE)).astype(np.float32)
    size = body_size(xy, confidence, lengths)
    keypoints = Keypoints(xy, confidence, np.zeros((NUM_LANDMARKS, 3), np.float32))
    known = np.where(confidence > 0, confidence, 1.0)  # a layout's gaps do not hide anybody
    return Detection(
        keypoints,
        box.astype(np.float32),
        float(score),
        np.zeros(shape, np.uint8),
        size,
        detection_flags(size, known, box, shape),
    )
