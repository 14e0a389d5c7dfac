# SPDX-License-Identifier: Apache-2.0
"""Multi-HMR checkpoints of random numbers in the layout of the published files."""

import argparse
import math

import torch

# name -> (width of the backbone, blocks, side of the image in patches)
PUBLISHED = {
    "896_L": (1024, 24, 64),
    "672_L": (1024, 24, 48),
    "672_B": (768, 12, 48),
    "672_S": (384, 12, 48),
}
SMALL = (64, 2, 10)
LEARNED = {"896_L": 317_109_336, "672_L": 317_037_464, "672_B": 97_757_080, "672_S": 31_486_360}
POSE, BETAS, RAYS, DIM, INNER = 318, 10, 99, 1024, 256


def layout(width: int, blocks: int, side: int, dim: int = DIM) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a checkpoint without the body model's buffers."""
    shapes = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 1370, width),
        "mask_token": (1, width),
        "patch_embed.proj.weight": (width, 3, 14, 14),
        "patch_embed.proj.bias": (width,),
        **_both("norm", (width,)),
    }
    for k in range(blocks):
        block = {
            **_both("norm1", (width,)),
            **_both("attn.qkv", (3 * width, width)),
            **_both("attn.proj", (width, width)),
            "ls1.gamma": (width,),
            **_both("norm2", (width,)),
            **_both("mlp.fc1", (4 * width, width)),
            **_both("mlp.fc2", (width, 4 * width)),
            "ls2.gamma": (width,),
        }
        shapes |= {f"blocks.{k}.{name}": shape for name, shape in block.items()}
    shapes = {f"backbone.encoder.{name}": shape for name, shape in shapes.items()}
    for name, out in (("mlp_classif", 1), ("mlp_offset", 2)):
        shapes |= _both(f"{name}.0", (width, width)) | _both(f"{name}.2", (out, width))
    head = _head(width + RAYS, side, dim)
    return shapes | {f"x_attention_head.{name}": shape for name, shape in head.items()}


def _head(context: int, side: int, dim: int) -> dict[str, tuple[int, ...]]:
    shapes = {
        f"cross_{kind}_{axis}": (side, context) for kind in ("queries", "values") for axis in "xy"
    }
    shapes |= {
        "init_body_pose": (1, POSE),
        "init_betas": (1, BETAS),
        "init_betas_kid": (1, 11),
        "init_cam": (1, 3),
        "init_expression": (1, 10),
    }
    shapes |= {"transformer.pos_embedding": (1, 1, dim)}
    shapes |= _both("transformer.to_token_embedding", (dim, POSE + BETAS + 3 + context))
    for k in range(2):
        parts = {
            "0.norm": (dim,),
            "0.fn.to_out.0": (dim, INNER),
            "1.norm": (dim,),
            "1.fn.to_out.0": (dim, INNER),
            "2.norm": (dim,),
            "2.fn.net.0": (dim, dim),
            "2.fn.net.3": (dim, dim),
        }
        plain = {
            "0.fn.to_qkv.weight": (3 * INNER, dim),
            "1.fn.to_kv.weight": (2 * INNER, context),
            "1.fn.to_q.weight": (INNER, dim),
        }
        for name, shape in parts.items():
            plain |= _both(name, shape)
        shapes |= {f"transformer.transformer.layers.{k}.{n}": s for n, s in plain.items()}
    for name, out in (("decpose", POSE), ("decshape", BETAS), ("deccam", 3), ("decexpression", 10)):
        shapes |= _both(name, (out, dim))
    return shapes


def _both(name: str, weight: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": weight, f"{name}.bias": weight[:1]}


def random_state(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, torch.Tensor]:
    """Tensors of a size that keeps activations near one."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        spread = 0.02 if len(shape) < 2 else math.prod(shape[1:]) ** -0.5
        tensor = spread * torch.randn(shape, generator=generator)
        if "norm" in name and name.endswith("weight") or name.endswith("gamma"):
            tensor = tensor + 1.0
        state[name] = tensor
    state["x_attention_head.init_body_pose"] = torch.tensor([1.0, 0, 0, 0, 1, 0]).repeat(53)[None]
    state["x_attention_head.init_betas"] = torch.zeros(1, BETAS)
    state["x_attention_head.init_cam"] = torch.tensor([[1.2, 0.0, 0.0]])
    for name in ("decpose", "decshape", "decexpression", "deccam"):
        state[f"x_attention_head.{name}.weight"] *= 0.2
    return state


def write_checkpoint(path, state: dict[str, torch.Tensor], **settings) -> None:
    """A file like the published ones: an argparse.Namespace beside the tensors."""
    args = argparse.Namespace(img_size=[672], train_return_type="smplx", **settings)
    torch.save({"args": args, "epoch": 3, "model_state_dict": state}, path)
