# SPDX-License-Identifier: Apache-2.0
"""One face for SAM, SAM 2.1 and SAM 3: encode a photo once, decode masks for any prompts.

segment-anything's .pth files are read without running code.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from crowdgaussian_shared.errors import DamagedFileError, MissingFileError
from PIL import Image
from torch import Tensor
from transformers import (
    SamConfig,
    SamMaskDecoderConfig,
    SamModel,
    SamPromptEncoderConfig,
    SamVisionConfig,
)

from ...core.device import UNREADABLE, load_pretrained, model_type

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# segment-anything's .pth files as transformers' SamModel

_RENAMED = (  # original name -> transformers' name, tried in this order on every tensor
    (r"^image_encoder\.", "vision_encoder."),
    (r"\.patch_embed\.proj\.", ".patch_embed.projection."),
    (r"^(vision_encoder)\.blocks\.", r"\1.layers."),
    (r"\.neck\.0\.", ".neck.conv1."),
    (r"\.neck\.1\.", ".neck.layer_norm1."),
    (r"\.neck\.2\.", ".neck.conv2."),
    (r"\.neck\.3\.", ".neck.layer_norm2."),
    (r"\.mask_downscaling\.0\.", ".mask_embed.conv1."),
    (r"\.mask_downscaling\.1\.", ".mask_embed.layer_norm1."),
    (r"\.mask_downscaling\.3\.", ".mask_embed.conv2."),
    (r"\.mask_downscaling\.4\.", ".mask_embed.layer_norm2."),
    (r"\.mask_downscaling\.6\.", ".mask_embed.conv3."),
    (r"\.point_embeddings\.", ".point_embed."),
    (r"\.output_upscaling\.0\.", ".upscale_conv1."),
    (r"\.output_upscaling\.1\.", ".upscale_layer_norm."),
    (r"\.output_upscaling\.3\.", ".upscale_conv2."),
    (r"\.norm_final_attn\.", ".layer_norm_final_attn."),
    (r"\.norm(\d)\.", r".layer_norm\1."),
)
_PERCEPTRON = re.compile(r"(iou_prediction_head|output_hypernetworks_mlps\.\d+)\.layers\.(\d+)\.")
_POSITIONS = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"


def load_sam(path: Path) -> SamModel:
    """The network of a segment-anything file, all tensors loaded.

    Args:
        path: sam_vit_h_4b8939.pth, sam_vit_l_0b3195.pth or sam_vit_b_01ec64.pth; the tensors tell
            the sizes.

    Raises:
        CrowdGaussianError: the file is missing, damaged, or another network.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        config = config_from({name: tuple(tensor.shape) for name, tensor in state.items()})
        with torch.device("meta"):
            model = SamModel(config)
        model.load_state_dict(to_transformers_names(state), assign=True)
    except FileNotFoundError as error:
        raise MissingFileError(f"The segment-anything file {path} is missing.") from error
    except UNREADABLE as error:
        raise DamagedFileError(
            f"{path} cannot be read as a segment-anything file; use sam_vit_h_4b8939.pth, "
            "sam_vit_l_0b3195.pth or sam_vit_b_01ec64.pth as published."
        ) from error
    return model.eval()


def config_from(shapes: dict[str, tuple[int, ...]]) -> SamConfig:
    """The sizes of a segment-anything network, from the shapes of its tensors."""
    _, grid, _, width = shapes["image_encoder.pos_embed"]
    patch = shapes["image_encoder.patch_embed.proj.weight"][-1]
    layers = _count(shapes, "image_encoder.blocks")
    reach = [shapes[f"image_encoder.blocks.{k}.attn.rel_pos_h"] for k in range(layers)]
    window = (min(rows for rows, _ in reach) + 1) // 2
    hidden = shapes["mask_decoder.iou_token.weight"][1]
    decoder = "mask_decoder.transformer.layers.0"
    features = shapes[_POSITIONS][1]
    vision = SamVisionConfig(
        hidden_size=width,
        output_channels=shapes["image_encoder.neck.0.weight"][0],
        num_hidden_layers=layers,
        num_attention_heads=width // reach[0][1],
        image_size=grid * patch,
        patch_size=patch,
        window_size=window,
        num_pos_feats=features,
        mlp_dim=shapes["image_encoder.blocks.0.mlp.lin1.weight"][0],
        global_attn_indexes=[k for k, (rows, _) in enumerate(reach) if rows > 2 * window - 1],
    )
    prompts = SamPromptEncoderConfig(
        hidden_size=hidden,
        image_size=grid * patch,
        patch_size=patch,
        mask_input_channels=shapes["prompt_encoder.mask_downscaling.3.weight"][0],
    )
    masks = SamMaskDecoderConfig(
        hidden_size=hidden,
        mlp_dim=shapes[f"{decoder}.mlp.lin1.weight"][0],
        num_hidden_layers=_count(shapes, "mask_decoder.transformer.layers"),
        iou_head_hidden_dim=shapes["mask_decoder.iou_prediction_head.layers.0.weight"][0],
    )
    return SamConfig(
        vision_config=vision.to_dict(),
        prompt_encoder_config=prompts.to_dict(),
        mask_decoder_config=masks.to_dict(),
    )


def to_transformers_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names of segment-anything -> names of transformers' SamModel."""
    renamed = {}
    last = {
        head: max(
            int(match[2]) for match in map(_PERCEPTRON.search, state) if match and match[1] == head
        )
        for head in {match[1] for match in map(_PERCEPTRON.search, state) if match}
    }
    for name, tensor in state.items():
        if name == _POSITIONS:
            renamed["shared_image_embedding.positional_embedding"] = tensor
            renamed["prompt_encoder.shared_embedding.positional_embedding"] = tensor
            continue
        for pattern, new in _RENAMED:
            name = re.sub(pattern, new, name)
        found = _PERCEPTRON.search(name)
        if found:
            index = int(found[2])
            place = (
                "proj_in"
                if index == 0
                else "proj_out"
                if index == last[found[1]]
                else f"layers.{index - 1}"
            )
            name = f"{name[: found.start()]}{found[1]}.{place}.{name[found.end() :]}"
        renamed[name] = tensor
    return renamed


def _count(shapes: dict[str, tuple[int, ...]], prefix: str) -> int:
    """How many numbered modules follow a prefix."""
    start = prefix + "."
    return len({name[len(start) :].split(".")[0] for name in shapes if name.startswith(start)})


# One face for SAM, SAM 2.1 and SAM 3

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
