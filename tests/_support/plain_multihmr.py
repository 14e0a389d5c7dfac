# SPDX-License-Identifier: Apache-2.0
"""Multi-HMR written down plainly from its paper and layout: loops, original tensor names."""

import math

import torch
from torch.nn import functional as F


def linear(state, name, x):
    return F.linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))


def norm(state, name, x, eps):
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps)


def attend(query, key, value, heads):
    parts = []
    for q, k, v in zip(*(part.chunk(heads, dim=-1) for part in (query, key, value))):
        parts.append((q @ k.T / math.sqrt(q.shape[-1])).softmax(dim=-1) @ v)
    return torch.cat(parts, dim=-1)


def backbone(state, image, blocks):
    """Patch tokens of one image.  # [3, S, S] -> [N, C]"""
    state = {k.removeprefix("backbone.encoder."): v for k, v in state.items()}
    side, width = image.shape[-1] // 14, state["cls_token"].shape[-1]
    patches = (
        F.conv2d(
            image[None], state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=14
        )[0]
        .flatten(1)
        .T
    )
    stored = state["pos_embed"][0]
    grid = stored[1:].T.reshape(1, width, 37, 37)
    scale = (side + 0.1) / 37
    grid = F.interpolate(grid, scale_factor=(scale, scale), mode="bicubic", align_corners=False)
    assert grid.shape[-1] == side
    x = torch.cat([state["cls_token"][0] + stored[:1], patches + grid[0].flatten(1).T])
    for k in range(blocks):
        b = f"blocks.{k}."
        parts = linear(state, b + "attn.qkv", norm(state, b + "norm1", x, 1e-6)).chunk(3, dim=-1)
        mixed = linear(state, b + "attn.proj", attend(*parts, width // 64))
        x = x + state[b + "ls1.gamma"] * mixed
        hidden = F.gelu(linear(state, b + "mlp.fc1", norm(state, b + "norm2", x, 1e-6)))
        x = x + state[b + "ls2.gamma"] * linear(state, b + "mlp.fc2", hidden)
    return norm(state, "norm", x, 1e-6)[1:]


def rays(K, side):
    """Token (row i, column j) looks along K^-1 (14 i + 7, 14 j + 7, 1).  # [side, side, 99]"""
    rows = []
    for i in range(side):
        for j in range(side):
            ray = torch.linalg.inv(K) @ torch.tensor([14.0 * i + 7, 14.0 * j + 7, 1.0])
            phase = [math.pi * r * (1 + (32 - 1) * b / 15) for r in ray.tolist() for b in range(16)]
            rows.append([*ray.tolist(), *map(math.sin, phase), *map(math.cos, phase)])
    return torch.tensor(rows).reshape(side, side, 99)


def head(state, image, places):
    """Everybody's 318 + 10 + 3 + 10 numbers.  # image [side, side, C]"""
    state = {k.removeprefix("x_attention_head."): v for k, v in state.items()}
    context, tokens = image.clone(), []
    for i, j in places:
        query = image[i, j] + state["cross_queries_x"][i] + state["cross_queries_y"][j]
        context[i, j] = image[i, j] + state["cross_values_x"][i] + state["cross_values_y"][j]
        tokens.append(
            torch.cat(
                [query, state["init_body_pose"][0], state["init_betas"][0], state["init_cam"][0]]
            )
        )
    x = linear(state, "transformer.to_token_embedding", torch.stack(tokens))
    x = x + state["transformer.pos_embedding"][0]
    context = context.flatten(0, 1)
    for k in range(2):
        b = f"transformer.transformer.layers.{k}."
        parts = linear(state, b + "0.fn.to_qkv", norm(state, b + "0.norm", x, 1e-5)).chunk(3, -1)
        x = x + linear(state, b + "0.fn.to_out.0", attend(*parts, 8))
        query = linear(state, b + "1.fn.to_q", norm(state, b + "1.norm", x, 1e-5))
        pair = linear(state, b + "1.fn.to_kv", context).chunk(2, -1)
        x = x + linear(state, b + "1.fn.to_out.0", attend(query, *pair, 8))
        hidden = F.gelu(linear(state, b + "2.fn.net.0", norm(state, b + "2.norm", x, 1e-5)))
        x = x + linear(state, b + "2.fn.net.3", hidden)
    return [
        linear(state, name, x) + state[start][0]
        for name, start in (
            ("decpose", "init_body_pose"),
            ("decshape", "init_betas"),
            ("deccam", "init_cam"),
            ("decexpression", "init_expression"),
        )
    ]


def rotations(pose):
    """[318] -> [53, 3, 3]"""
    found = []
    for six in pose.reshape(53, 6):
        x = six[:3] / six[:3].norm()
        y = six[3:] - (x @ six[3:]) * x
        y = y / y.norm()
        found.append(torch.stack([x, y, torch.linalg.cross(x, y)], dim=1))
    return torch.stack(found)
