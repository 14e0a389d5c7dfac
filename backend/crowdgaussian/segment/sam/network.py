# SPDX-License-Identifier: Apache-2.0
"""One face for SAM, SAM 2.1 and SAM 3: encode a photo once, decode masks for any prompts."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from crowdgaussian_shared.errors import DamagedFileError
from PIL import Image
from torch import Tensor

from ...people.vitpose.network import load_pretrained, model_type
from .checkpoint import load_sam

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CHUNK = 16  # people a decoder call; the image map is repeated for each of them
NO_POINT = -1  # label of a place in the batch that holds no point
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALVES = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@dataclass(frozen=True)
class Family:
    """How a family of networks sees a photo."""

    name: str  # of the class in transformers
    squashed: bool  # stretched to the square; otherwise padded at the right and below
    colours: tuple  # mean and spread


FAMILIES = {  # by model_type in config.json
    "sam": Family("SamModel", False, _IMAGENET),
    "sam2": Family("Sam2Model", True, _IMAGENET),
    "sam2_video": Family("Sam2Model", True, _IMAGENET),
    "sam3_tracker": Family("Sam3TrackerModel", True, _HALVES),
    "sam3_video": Family("Sam3TrackerModel", True, _HALVES),
}


@dataclass(frozen=True)
class Prompts:
    """What is asked for each of P people, photo pixels with centres at half integers."""

    boxes: np.ndarray  # [P, 4] x0 y0 x1 y1
    points: np.ndarray  # [P, N, 2]
    labels: np.ndarray  # [P, N] 1 on the person, 0 on somebody else, NO_POINT for neither


@dataclass(frozen=True)
class Candidates:
    """Several masks a person, in the network's own small frame."""

    logits: np.ndarray  # [P, M, h, w] float32; above 0 is the person
    scores: np.ndarray  # [P, M] the network's guess of each mask's intersection over union
    scale: np.ndarray  # [2] mask pixels per photo pixel, in x and y


class SamNetwork:
    """A loaded network of any family."""

    def __init__(self, model: "PreTrainedModel", family: Family) -> None:
        self.model, self.family = model.eval(), family
        self.side = int(model.config.prompt_encoder_config.image_size)
        self.device = next(model.parameters()).device

    @torch.no_grad()
    def candidates(self, photo: np.ndarray, prompts: Prompts) -> Candidates:
        """Masks for everybody; the photo goes through the encoder once.

        Args:
            photo: [H, W, 3] uint8 sRGB of any size; the network sees it at its own size.
            prompts: at least one person.
        """
        pixels, scale = self.prepare(photo)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            encoded = self.model.get_image_embeddings(pixels.to(self.device))
            parts = [
                self._decode(encoded, prompts, scale, start)
                for start in range(0, len(prompts.boxes), CHUNK)
            ]
        logits, scores = (np.concatenate(part) for part in zip(*parts))
        return Candidates(logits, scores, scale * logits.shape[-1] / self.side)

    def prepare(self, photo: np.ndarray) -> tuple[Tensor, np.ndarray]:
        """The network's input, and square pixels per photo pixel in x and y.

        # [1, 3, side, side] float32, [2]
        """
        height, width = photo.shape[:2]
        factor = self.side / max(width, height)
        size = (
            (self.side, self.side)
            if self.family.squashed
            else (max(1, int(width * factor + 0.5)), max(1, int(height * factor + 0.5)))
        )
        small = Image.fromarray(photo).resize(size, Image.Resampling.BILINEAR)
        mean, spread = np.array(self.family.colours, np.float32)
        values = (np.asarray(small, np.float32) / 255 - mean) / spread
        square = np.zeros((self.side, self.side, 3), np.float32)
        square[: size[1], : size[0]] = values
        pixels = torch.from_numpy(np.ascontiguousarray(square.transpose(2, 0, 1)))[None]
        return pixels, np.array(size) / (width, height)

    def _decode(
        self, encoded: Tensor | list[Tensor], prompts: Prompts, scale: np.ndarray, start: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Masks and scores of the people from start on.  # [C, M, h, w], [C, M]"""

        def own(array: np.ndarray, dtype: torch.dtype) -> Tensor:
            part = torch.as_tensor(array[start : start + CHUNK], dtype=dtype)
            return part[None].to(self.device)

        # The networks add half a pixel themselves.
        boxes = own(prompts.boxes * np.tile(scale, 2) - 0.5, torch.float32)
        points = own(prompts.points * scale - 0.5, torch.float32)
        asked = {"input_boxes": boxes}
        if points.shape[2]:
            asked |= {"input_points": points, "input_labels": own(prompts.labels, torch.int32)}
        out = self.model(image_embeddings=encoded, multimask_output=True, **asked)
        return (out.pred_masks[0].float().cpu().numpy(), out.iou_scores[0].float().cpu().numpy())


def load_network(path: Path, device: torch.device | str = "cpu") -> SamNetwork:
    """The network of a segment-anything .pth file, or of a folder as transformers saves it.

    Raises:
        CrowdGaussianError: the file or folder is missing, damaged, or another network.
    """
    if path.is_file() or path.suffix in (".pth", ".pt"):
        return SamNetwork(load_sam(path).to(device), FAMILIES["sam"])
    family = FAMILIES.get(model_type(path))
    if family is None:
        raise DamagedFileError(
            f"{path} holds no SAM that is known; give a .pth file of segment-anything, or a "
            f"folder whose config.json has a model_type of: {', '.join(FAMILIES)}."
        )
    return SamNetwork(load_pretrained(family.name, path, device), family)
