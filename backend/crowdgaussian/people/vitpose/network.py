# SPDX-License-Identifier: Apache-2.0
"""RT-DETR finds people, ViTPose their keypoints; both from transformers, without torchvision."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from crowdgaussian_shared.errors import DamagedFileError

from ...core.landmarks import NUM_LANDMARKS
from ...core.landmarks import Landmark as L

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.image_processing_base import ImageProcessingMixin

_Processor = TypeVar("_Processor", bound="ImageProcessingMixin")

# Networks of transformers from a folder on this machine: safetensors only, nothing missing


def model_type(folder: Path) -> str:
    """What config.json of a folder says it is; empty when it says nothing."""
    try:
        document = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return str(document["model_type"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def load_pretrained(
    class_name: str, folder: Path, device: torch.device | str = "cpu"
) -> "PreTrainedModel":
    """A network of transformers in evaluation mode, every tensor from the folder.

    Args:
        class_name: as in "VitPoseForPoseEstimation".
        folder: holds config.json and model.safetensors.
        device: where the network goes.

    Raises:
        DamagedFileError: the folder is missing, damaged, or holds another network.
    """
    import transformers
    from safetensors import SafetensorError
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        model, info = getattr(transformers, class_name).from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        raise DamagedFileError(
            f"The folder {folder} cannot be read as {class_name}: it needs config.json and "
            "model.safetensors as published; download it again."
        ) from error
    if info["missing_keys"]:
        raise DamagedFileError(
            f"{folder}/model.safetensors lacks {len(info['missing_keys'])} tensors of "
            f"{class_name}, {sorted(info['missing_keys'])[0]} among them; download it again."
        )
    return model.eval().to(device)


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
        self.processor = _processor(RTDetrImageProcessorPil, folder)
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
        self.processor = _processor(VitPoseImageProcessorPil, folder)
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


def _processor(kind: type[_Processor], folder: Path) -> _Processor:
    """The image processor of a folder, by the class that needs no torchvision."""
    try:
        return kind.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise DamagedFileError(
            f"The folder {folder} lacks a preprocessor_config.json that can be read; download the "
            "model again."
        ) from error


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
