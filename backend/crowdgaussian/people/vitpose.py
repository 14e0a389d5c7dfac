# SPDX-License-Identifier: Apache-2.0
"""Photo -> everybody in it by RT-DETR and ViTPose; implements PeopleEstimator."""

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from crowdgaussian_shared.errors import DamagedFileError, InputError
from crowdgaussian_shared.geometry.axes import camera_at_origin
from crowdgaussian_shared.geometry.camera import photo_camera
from crowdgaussian_shared.scene.schema import FocalSource

from ..body.model import BodyModel
from ..core.device import UNREADABLE, choose_device, load_pretrained, load_processor, model_type
from ..core.landmarks import NEAREST, NUM_LANDMARKS, TORSO, to_landmarks
from ..core.progress import Progress, Report
from .crowd import Fitted, crowd_on_floor, single_thread, with_body_masks
from .detect.detections import OUTSIDE, Detection, detection_flags
from .detect.search import choose_boxes, read_boxes
from .fit.body_points import BodyPoints
from .fit.fitter import Fitter
from .fit.init import Lengths, body_size
from .fit.schedules import fit_alone, with_second_hand
from .fit.targets import make_targets
from .mediapipe import look_again
from .types import Crowd, Keypoints, PeopleConfig, detector_folder, vitpose_path

if TYPE_CHECKING:
    from transformers import VitPoseConfig, VitPoseForPoseEstimation

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

    def __init__(self, path: Path, device: torch.device | str = "cpu") -> None:
        """path: folder of config.json, preprocessor_config.json, model.safetensors; or a .pth file.

        Raises:
            CrowdGaussianError: it holds no ViTPose that can be read.
        """
        from transformers import VitPoseImageProcessorPil

        if path.is_file():
            self.model = load_published(path).to(device)
            height, width = self.model.config.backbone_config.image_size
            self.processor = VitPoseImageProcessorPil(size={"height": height, "width": width})
        else:
            self.model = load_pretrained("VitPoseForPoseEstimation", path, device)
            self.processor = load_processor(VitPoseImageProcessorPil, path)
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


# .pth files of ViTPose's own code, and of easy_ViTPose, as transformers' VitPoseForPoseEstimation

_RENAMED = (  # original name -> transformers' name, tried in this order on every tensor
    (r"^backbone\.pos_embed$", "backbone.embeddings.position_embeddings"),
    (r"^backbone\.patch_embed\.proj\.", "backbone.embeddings.patch_embeddings.projection."),
    (r"^backbone\.last_norm\.", "backbone.layernorm."),
    (r"^backbone\.blocks\.", "backbone.encoder.layer."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"^keypoint_head\.deconv_layers\.0\.", "head.deconv1."),
    (r"^keypoint_head\.deconv_layers\.1\.", "head.batchnorm1."),
    (r"^keypoint_head\.deconv_layers\.3\.", "head.deconv2."),
    (r"^keypoint_head\.deconv_layers\.4\.", "head.batchnorm2."),
    (r"^keypoint_head\.final_layer\.", "head.conv."),
)
_QKV = ".attn.qkv."
# What the joint training of ViTPose+ leaves in its files; not of the network for people.
_OTHER_TASKS = re.compile(r"^associate_keypoint_heads\.|\.mlp\.experts\.")
_ATTENTION_HEADS = {384: 12, 768: 12, 1024: 16, 1280: 16}  # by width, as published: S, B, L, H
_HEAD_WIDTH = 64  # of a head, where the width is none of these
_TALLER = 4 / 3  # height of the pictures over their width, as all are published
_EPSILON = 1e-6  # of the layer norms; transformers has another default


def load_published(path: Path) -> "VitPoseForPoseEstimation":
    """The network of a .pth file, all tensors loaded; the tensors tell its sizes.

    Raises:
        DamagedFileError: the file is damaged, or of another network.
    """
    from transformers import VitPoseForPoseEstimation

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        state = state.get("state_dict", state)
        state = {name: value for name, value in state.items() if not _OTHER_TASKS.search(name)}
        with torch.device("meta"):
            model = VitPoseForPoseEstimation(_config_from(state))
        model.load_state_dict(_renamed(state), assign=True)
    except UNREADABLE as error:
        raise DamagedFileError(
            f"{path} cannot be read as a ViTPose file; give one such as vitpose-l-wholebody.pth "
            "as published, or a folder as transformers saves it."
        ) from error
    return model.eval()


def _config_from(state: dict[str, torch.Tensor]) -> "VitPoseConfig":
    """The sizes of a network, from its tensors."""
    from transformers import VitPoseBackboneConfig, VitPoseConfig

    _, tokens, width = state["backbone.pos_embed"].shape
    patch = state["backbone.patch_embed.proj.weight"].shape[-1]
    rows = round(((tokens - 1) * _TALLER) ** 0.5)
    layers = len({name.split(".")[2] for name in state if name.startswith("backbone.blocks.")})
    backbone = VitPoseBackboneConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=_ATTENTION_HEADS.get(width, max(1, width // _HEAD_WIDTH)),
        mlp_ratio=state["backbone.blocks.0.mlp.fc1.weight"].shape[0] // width,
        image_size=[rows * patch, (tokens - 1) // rows * patch],
        patch_size=[patch, patch],
        layer_norm_eps=_EPSILON,
        out_features=[f"stage{layers}"],
    )
    return VitPoseConfig(
        backbone_config=backbone,
        num_labels=state["keypoint_head.final_layer.weight"].shape[0],
        use_simple_decoder="keypoint_head.deconv_layers.0.weight" not in state,
    )


def _renamed(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors under transformers' names; its attention keeps query, key and value apart."""
    renamed = {}
    for name, tensor in state.items():
        for pattern, new in _RENAMED:
            name = re.sub(pattern, new, name)
        if _QKV not in name:
            renamed[name] = tensor
            continue
        for part, value in zip(("query", "key", "value"), tensor.chunk(3)):
            renamed[name.replace(_QKV, f".attention.attention.{part}.")] = value
    return renamed


# The stage

# Shares of the stage's time after which everybody is found, seen again, and placed; hand-set.
_FOUND, _SEEN, _PLACED = 0.3, 0.6, 0.95
_NOBODY = 0.2  # mean confidence of the trunk below which a box holds nobody


class VitPoseFit:
    """The same fit as KeypointFit's, to keypoints of networks.

    MediaPipe's networks look once more at everybody: depth, feet, heads, hands and soft masks come
    from them. Where they see nobody, a body is fitted to the keypoints alone.
    """

    def __init__(self, config: PeopleConfig, body: BodyModel) -> None:
        """Finds and loads the networks; boxes of the user need no detector.

        Raises:
            CrowdGaussianError: a file is missing or damaged.
        """
        device = choose_device()
        self.config, self.body = config, body
        self.detector = None if config.boxes else PersonDetector(detector_folder(config), device)
        self.keypoints = KeypointNetwork(vitpose_path(config), device)
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
        if self.config.second_look:
            report(Progress("people", _FOUND, None, people, f"{people} found, looking closer"))
            seen = look_again(photo, found, self.config)
            found = [completed(*one) for one in zip(found, seen)]
        report(Progress("people", _SEEN, None, people, f"{people} found, fitting bodies"))
        with single_thread():
            crowd = self.fit(found, K, shape, source)
        report(Progress("people", _PLACED, None, people, "people placed"))
        drawn = with_body_masks(crowd, self.body).people
        pairs = zip(crowd.people, drawn)
        masked = tuple(own if own.person_mask.any() else other for own, other in pairs)
        return replace(crowd, people=masked)

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
        """Bodies that project onto landmarks, on one floor; soft masks are those of found.

        Args:
            found: people; metric landmarks that are all zero are not known.
            K: [3, 3] of the photo.
            shape: height and width of the photo.
            focal_source: where K comes from.
        """
        blind = torch.tensor([not one.keypoints.world.any() for one in found])
        config = replace(self.config, use_silhouette=False) if blind.all() else self.config
        alone = Fitter(self.body, self.points, K, camera_at_origin())
        targets = with_second_hand(make_targets(found, K), blind)
        bodies = fit_alone(alone, found, targets, K, config)
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


def completed(person: Detection, seen: Detection | None) -> Detection:
    """A person with what MediaPipe's networks say of depth, feet, head, hands and soft mask.

    Landmarks that the keypoint network has stay where it has them; the others keep their way from
    the nearest of those.

    Args:
        person: as the keypoint network has them.
        seen: the same person as MediaPipe's networks do; None where they do not see them.
    """
    if seen is None:
        return person
    own = person.keypoints.confidence > 0
    theirs = seen.keypoints.xy
    moved = theirs + (person.keypoints.xy - theirs)[NEAREST]
    keypoints = Keypoints(
        np.where(own[:, None], person.keypoints.xy, moved).astype(np.float32),
        np.where(own, person.keypoints.confidence, seen.keypoints.confidence),
        seen.keypoints.world,
    )
    flags = detection_flags(seen.size, keypoints.confidence, person.box, seen.person_mask.shape)
    return replace(seen, keypoints=keypoints, box=person.box, score=person.score, flags=flags)
