# SPDX-License-Identifier: Apache-2.0
"""segment-anything files of random numbers in the published layout, and a network that draws."""

import math

import numpy as np
import torch
from crowdgaussian.segment.sam.network import Candidates

# name -> (width, blocks, heads, blocks that see the whole image, parameters)
PUBLISHED = {
    "vit_h": (1280, 32, 16, (7, 15, 23, 31), 641_090_608),
    "vit_l": (1024, 24, 16, (5, 11, 17, 23), 312_342_832),
    "vit_b": (768, 12, 12, (2, 5, 8, 11), 93_735_472),
}
GRID, WINDOW, DIM = 64, 14, 256


def layout(width, blocks, heads, whole, grid=GRID, window=WINDOW, dim=DIM):
    """Names and shapes of a published file."""
    shapes = {
        "pos_embed": (1, grid, grid, width),
        **_both("patch_embed.proj", (width, 3, 16, 16)),
        "neck.0.weight": (dim, width, 1, 1),
        **_both("neck.1", (dim,)),
        "neck.2.weight": (dim, dim, 3, 3),
        **_both("neck.3", (dim,)),
    }
    for k in range(blocks):
        reach = 2 * (grid if k in whole else window) - 1
        shapes |= {
            f"blocks.{k}.{name}": shape
            for name, shape in {
                **_both("norm1", (width,)),
                **_both("norm2", (width,)),
                "attn.rel_pos_h": (reach, width // heads),
                "attn.rel_pos_w": (reach, width // heads),
                **_both("attn.qkv", (3 * width, width)),
                **_both("attn.proj", (width, width)),
                **_both("mlp.lin1", (4 * width, width)),
                **_both("mlp.lin2", (width, 4 * width)),
            }.items()
        }
    return (
        {f"image_encoder.{n}": s for n, s in shapes.items()}
        | {f"prompt_encoder.{n}": s for n, s in _prompts(dim).items()}
        | {f"mask_decoder.{n}": s for n, s in _decoder(dim).items()}
    )


def _prompts(dim):
    return {
        "pe_layer.positional_encoding_gaussian_matrix": (2, dim // 2),
        **{f"point_embeddings.{k}.weight": (1, dim) for k in range(4)},
        "not_a_point_embed.weight": (1, dim),
        "no_mask_embed.weight": (1, dim),
        **_both("mask_downscaling.0", (4, 1, 2, 2)),
        **_both("mask_downscaling.1", (4,)),
        **_both("mask_downscaling.3", (16, 4, 2, 2)),
        **_both("mask_downscaling.4", (16,)),
        **_both("mask_downscaling.6", (dim, 16, 1, 1)),
    }


def _decoder(dim):
    shapes = {
        "iou_token.weight": (1, dim),
        "mask_tokens.weight": (4, dim),
        "output_upscaling.0.weight": (dim, dim // 4, 2, 2),
        "output_upscaling.0.bias": (dim // 4,),
        **_both("output_upscaling.1", (dim // 4,)),
        "output_upscaling.3.weight": (dim // 4, dim // 8, 2, 2),
        "output_upscaling.3.bias": (dim // 8,),
    }
    for k in range(2):
        block = {
            **_attention("self_attn", dim, dim),
            **_both("mlp.lin1", (8 * dim, dim)),
            **_both("mlp.lin2", (dim, 8 * dim)),
            **_attention("cross_attn_token_to_image", dim, dim // 2),
            **_attention("cross_attn_image_to_token", dim, dim // 2),
        }
        for norm in range(1, 5):
            block |= _both(f"norm{norm}", (dim,))
        shapes |= {f"transformer.layers.{k}.{n}": s for n, s in block.items()}
    shapes |= {
        f"transformer.{n}": s
        for n, s in {
            **_attention("final_attn_token_to_image", dim, dim // 2),
            **_both("norm_final_attn", (dim,)),
        }.items()
    }
    for k in range(4):
        shapes |= _perceptron(f"output_hypernetworks_mlps.{k}", dim, dim // 8)
    return shapes | _perceptron("iou_prediction_head", dim, 4)


def _attention(name, dim, inner):
    shapes = _both(f"{name}.out_proj", (dim, inner))
    for part in "qkv":
        shapes |= _both(f"{name}.{part}_proj", (inner, dim))
    return shapes


def _perceptron(name, dim, out):
    return {
        **_both(f"{name}.layers.0", (dim, dim)),
        **_both(f"{name}.layers.1", (dim, dim)),
        **_both(f"{name}.layers.2", (out, dim)),
    }


def _both(name, weight):
    return {f"{name}.weight": weight, f"{name}.bias": weight[:1]}


def random_state(shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: (1.0 if name.endswith(".weight") and len(shape) == 1 else 0.0)
        + max(math.prod(shape[1:]), 16) ** -0.5 * torch.randn(shape, generator=generator)
        for name, shape in shapes.items()
    }


class DrawnNetwork:
    """Answers with given masks [P, M, H, W], a quarter of the photo's size, and remembers."""

    def __init__(self, masks, scores):
        self.masks, self.scores, self.asked = masks, np.asarray(scores, np.float32), []

    def candidates(self, photo, prompts):
        self.asked.append(prompts)
        height, width = photo.shape[:2]
        people, many = self.masks.shape[:2]
        small = self.masks.reshape(people, many, height // 4, 4, width // 4, 4).mean((3, 5))
        return Candidates((12 * small - 6).astype(np.float32), self.scores, np.full(2, 0.25))
