# SPDX-License-Identifier: Apache-2.0
"""segment-anything's .pth files as transformers' SamModel, read without running code."""

import pickle
import re
from pathlib import Path

import torch
from crowdgaussian_shared.errors import DamagedFileError, MissingFileError
from torch import Tensor
from transformers import (
    SamConfig,
    SamMaskDecoderConfig,
    SamModel,
    SamPromptEncoderConfig,
    SamVisionConfig,
)

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
    except (
        OSError,
        EOFError,
        RuntimeError,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        IndexError,
        pickle.UnpicklingError,
    ) as error:
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
