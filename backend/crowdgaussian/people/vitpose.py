# SPDX-License-Identifier: Apache-2.0
"""Photo -> everybody in it by RT-DETR and ViTPose; implements PeopleEstimator."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from crowdgaussian_shared.errors import DamagedFileError, InputError
from crowdgaussian_shared.geometry.axes import camera_at_origin
from crowdgaussian_shared.geometry.camera import photo_camera
from crowdgaussian_shared.scene.schema import FocalSource

from ..body.model import BodyModel
from ..core.device import choose_device, load_pretrained, load_processor, model_type
from ..core.landmarks import NUM_LANDMARKS, TORSO
from ..core.landmarks import Landmark as L
from ..core.progress import Progress, Report
from .crowd import Fitted, crowd_on_floor, single_thread, with_body_masks
from .detect.detections import OUTSIDE, Detection, detection_flags
from .detect.search import choose_boxes, read_boxes
from .fit.body_points import BodyPoints
from .fit.fitter import Fitter
from .fit.init import Lengths, body_size
from .fit.schedules import fit_2d_keypoints, without_directions
from .fit.targets import make_targets
from .types import Crowd, Keypoints, PeopleConfig, detector_folder, vitpose_folder

# The networks, both from transformers, without torchvision

_BATCH = 16  # people a run of the keypoint network


class PersonDetector:
    """RT-DETR, of which only people are asked."""

    def __init__(self, folder: Path, device: torch.device | str = "cpu") -> None:
        """folder: config.json, preprocessor_config.json and model.safetensors of RT-DETR.

        Raises:
            CrowdGaussianError: the folder holds no RT-DETR that can be read.
        """
        from transformers import RTDetrImageProcessorPil

        second = "V2" if model_type(folder) == "rt_detr_v2" else ""
        self.model = load_pretrained(f"RTDetr{second}ForObjectDetection", folder, device)
        self.processor = load_processor(RTDetrImageProcessorPil, folder)
        self.device = device
        labels = self.model.config.id2label or {}
        names = {name.lower(): int(k) for k, name in labels.items()}
        self.person = names.get("person", 0)

    @torch.no_grad()
    def boxes(self, photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Everything that may be a person.  # [H, W, 3] uint8 -> [N, 4] x0 y0 x1 y1, [N]"""
        inputs = self.processor(images=photo, return_tensors="pt").to(self.device)
        found = self.processor.post_process_object_detection(
            self.model(**inputs), threshold=0.05, target_sizes=[photo.shape[:2]]
        )[0]
        people = found["labels"] == self.person
        size = np.tile([photo.shape[1], photo.shape[0]], 2)
        boxes = np.clip(found["boxes"][people].double().cpu().numpy(), 0, size)
        return boxes, found["scores"][people].double().cpu().numpy()


class KeypointNetwork:
    """ViTPose: one box, one person's keypoints."""

    def __init__(self, folder: Path, device: torch.device | str = "cpu") -> None:
        """folder: config.json, preprocessor_config.json and model.safetensors of ViTPose.

        Raises:
            CrowdGaussianError: the folder holds no ViTPose that can be read.
        """
        from transformers import VitPoseImageProcessorPil

        self.model = load_pretrained("VitPoseForPoseEstimation", folder, device)
        self.processor = load_processor(VitPoseImageProcessorPil, folder)
        self.device = device

    @torch.no_grad()
    def keypoints(self, photo: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Keypoints of everybody, COCO's or COCO-WholeBody's.

        Args:
            photo: [H, W, 3] uint8 sRGB.
            boxes: [P, 4] x0 y0 x1 y1, pixels.

        Returns:
            [P, K, 2] pixels with centres at half integers, and scores [P, K].
        """
        found = []
        for start in range(0, len(boxes), _BATCH):
            part = boxes[start : start + _BATCH]
            corner_size = np.concatenate([part[:, :2], part[:, 2:] - part[:, :2]], axis=1)
            inputs = self.processor.preprocess(
                photo, boxes=[corner_size.tolist()], return_tensors="pt"
            ).to(self.device)
            if self._experts() > 1:  # ViTPose++; its first expert knows COCO
                inputs["dataset_index"] = torch.zeros(
                    len(part), dtype=torch.int64, device=self.device
                )
            out = self.model(**inputs)
            found += self.processor.post_process_pose_estimation(out, boxes=[corner_size])[0]
        xy = np.stack([np.asarray(one["keypoints"], np.float64) for one in found]) + 0.5
        return xy, np.stack([np.asarray(one["scores"], np.float64) for one in found])

    def _experts(self) -> int:
        return int(getattr(self.model.config.backbone_config, "num_experts", 1))


# COCO's 17 and COCO-WholeBody's 133 keypoints as the 33 landmarks that bodies are fitted to

# Landmarks in the order of COCO's keypoints.
_COCO = (
    L.NOSE,
    L.LEFT_EYE,
    L.RIGHT_EYE,
    L.LEFT_EAR,
    L.RIGHT_EAR,
    L.LEFT_SHOULDER,
    L.RIGHT_SHOULDER,
    L.LEFT_ELBOW,
    L.RIGHT_ELBOW,
    L.LEFT_WRIST,
    L.RIGHT_WRIST,
    L.LEFT_HIP,
    L.RIGHT_HIP,
    L.LEFT_KNEE,
    L.RIGHT_KNEE,
    L.LEFT_ANKLE,
    L.RIGHT_ANKLE,
)
_BODY = {landmark: keypoint for keypoint, landmark in enumerate(_COCO)}
# COCO-WholeBody: 6 points of the feet from 17, 68 of the face from 23, 21 a hand from 91 and 112.
_FACE_START, _LEFT_HAND, _RIGHT_HAND = 23, 91, 112
_FEET = {L.LEFT_HEEL: 19, L.RIGHT_HEEL: 22}
_TOES = {L.LEFT_FOOT_INDEX: (17, 18), L.RIGHT_FOOT_INDEX: (20, 21)}  # big and small toe
_BIG_TOE = 0.8  # its share of the landmark at the tip of the foot
_FACE = {  # corners of eyes and mouth among the 68
    L.LEFT_EYE_INNER: 42,
    L.LEFT_EYE_OUTER: 45,
    L.RIGHT_EYE_INNER: 39,
    L.RIGHT_EYE_OUTER: 36,
    L.MOUTH_LEFT: 54,
    L.MOUTH_RIGHT: 48,
}
_HANDS = {
    L.LEFT_PINKY: _LEFT_HAND + 17,
    L.LEFT_INDEX: _LEFT_HAND + 5,
    L.LEFT_THUMB: _LEFT_HAND + 2,
    L.RIGHT_PINKY: _RIGHT_HAND + 17,
    L.RIGHT_INDEX: _RIGHT_HAND + 5,
    L.RIGHT_THUMB: _RIGHT_HAND + 2,
}
_NEAR = {  # where a landmark stands that a layout does not have
    L.LEFT_EYE_INNER: L.LEFT_EYE,
    L.LEFT_EYE_OUTER: L.LEFT_EYE,
    L.RIGHT_EYE_INNER: L.RIGHT_EYE,
    L.RIGHT_EYE_OUTER: L.RIGHT_EYE,
    L.MOUTH_LEFT: L.NOSE,
    L.MOUTH_RIGHT: L.NOSE,
    L.LEFT_PINKY: L.LEFT_WRIST,
    L.LEFT_INDEX: L.LEFT_WRIST,
    L.LEFT_THUMB: L.LEFT_WRIST,
    L.RIGHT_PINKY: L.RIGHT_WRIST,
    L.RIGHT_INDEX: L.RIGHT_WRIST,
    L.RIGHT_THUMB: L.RIGHT_WRIST,
    L.LEFT_HEEL: L.LEFT_ANKLE,
    L.LEFT_FOOT_INDEX: L.LEFT_ANKLE,
    L.RIGHT_HEEL: L.RIGHT_ANKLE,
    L.RIGHT_FOOT_INDEX: L.RIGHT_ANKLE,
}


def to_landmarks(xy: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints of one person as landmarks.

    Args:
        xy: [17, 2] or [133, 2] photo pixels.
        scores: [17] or [133], 0..1.

    Returns:
        [33, 2] and the confidence [33] of each, float32.

    Raises:
        DamagedFileError: another number of keypoints.
    """
    if len(xy) not in (17, 133):
        raise DamagedFileError(
            f"A keypoint network with {len(xy)} keypoints is not known; use one with COCO's 17 or "
            "COCO-WholeBody's 133."
        )
    places, sure = np.zeros((NUM_LANDMARKS, 2)), np.zeros(NUM_LANDMARKS)
    table = dict(_BODY)
    if len(xy) == 133:
        table |= _FEET | {k: _FACE_START + point for k, point in _FACE.items()} | _HANDS
    for landmark, keypoint in table.items():
        places[landmark], sure[landmark] = xy[keypoint], scores[keypoint]
    if len(xy) == 133:
        for landmark, (big, small) in _TOES.items():
            places[landmark] = _BIG_TOE * xy[big] + (1 - _BIG_TOE) * xy[small]
            sure[landmark] = min(scores[big], scores[small])
    for landmark, neighbour in _NEAR.items():
        if landmark not in table and (len(xy) == 17 or landmark not in _TOES):
            places[landmark] = places[neighbour]
    return places.astype(np.float32), np.clip(sure, 0, 1).astype(np.float32)


# The stage

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
