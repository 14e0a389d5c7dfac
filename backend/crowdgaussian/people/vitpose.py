# SPDX-License-Identifier: Apache-2.0
"""RT-DETR finds people, ViTPose their keypoints; both from transformers, without torchvision."""

from pathlib import Path

import numpy as np
import torch
from crowdgaussian_shared.errors import CrowdGaussianError

from .pretrained import load_pretrained, model_type

_BATCH = 16  # people a run of the keypoint network


class PersonDetector:
    """RT-DETR, of which only people are asked."""

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        """folder: config.json, preprocessor_config.json and model.safetensors of RT-DETR.

        Raises:
            CrowdGaussianError: the folder holds no RT-DETR that can be read.
        """
        from transformers import RTDetrImageProcessorPil

        second = "V2" if model_type(folder) == "rt_detr_v2" else ""
        self.model = load_pretrained(f"RTDetr{second}ForObjectDetection", folder, device)
        self.processor = _processor(RTDetrImageProcessorPil, folder)
        self.device = device
        names = {name.lower(): int(k) for k, name in self.model.config.id2label.items()}
        self.person = names.get("person", 0)

    @torch.no_grad()
    def boxes(self, photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Everything that may be a person.  # [H, W, 3] uint8 -> [N, 4] x0 y0 x1 y1, [N]"""
        inputs = self.processor(images=photo, return_tensors="pt").to(self.device)
        found = self.processor.post_process_object_detection(
            self.model(**inputs), threshold=0.05, target_sizes=[photo.shape[:2]])[0]
        people = found["labels"] == self.person
        size = np.tile([photo.shape[1], photo.shape[0]], 2)
        boxes = np.clip(found["boxes"][people].double().cpu().numpy(), 0, size)
        return boxes, found["scores"][people].double().cpu().numpy()


class KeypointNetwork:
    """ViTPose: one box, one person's keypoints."""

    def __init__(self, folder: Path, device: str = "cpu") -> None:
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
            part = boxes[start:start + _BATCH]
            corner_size = np.concatenate([part[:, :2], part[:, 2:] - part[:, :2]], axis=1)
            inputs = self.processor(images=photo, boxes=[corner_size.tolist()],
                                    return_tensors="pt").to(self.device)
            if self._experts() > 1:  # ViTPose++; its first expert knows COCO
                inputs["dataset_index"] = torch.zeros(len(part), dtype=torch.int64,
                                                      device=self.device)
            out = self.model(**inputs)
            found += self.processor.post_process_pose_estimation(out, boxes=[corner_size])[0]
        xy = np.stack([np.asarray(one["keypoints"], np.float64) for one in found]) + 0.5
        return xy, np.stack([np.asarray(one["scores"], np.float64) for one in found])

    def _experts(self) -> int:
        return int(getattr(self.model.config.backbone_config, "num_experts", 1))


def _processor(kind: type, folder: Path):
    """The image processor of a folder, by the class that needs no torchvision."""
    try:
        return kind.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise CrowdGaussianError(
            f"The folder {folder} lacks a preprocessor_config.json that can be read; download the "
            "model again.") from error
