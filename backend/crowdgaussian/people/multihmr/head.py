# SPDX-License-Identifier: Apache-2.0
"""Multi-HMR's Human Perception Head: one query a person, attention to people and to the image.

Source: Baradel et al. 2024 (Multi-HMR, ECCV), section 3.3; the transformer is that of HMR 2.0.
Module names are those of the published checkpoints.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NUM_ROTATIONS = 53  # root, 21 body joints, 15 + 15 finger joints, jaw
NUM_EXPRESSIONS = 10
_ATTENTION_HEADS = 8


@dataclass(frozen=True)
class HeadSizes:
    """Sizes of the head, all told by the shapes of a checkpoint."""

    context: int  # channels of an image token: backbone width + ray embedding
    side: int  # image tokens a side
    width: int = 1024
    depth: int = 2
    inner: int = 256  # channels of all attention heads together
    hidden: int = 1024
    betas: int = 10


@dataclass(frozen=True)
class HeadOutput:
    """What the head says about P people."""

    pose: Tensor  # [P, 318] 53 rotations of 6 numbers
    betas: Tensor  # [P, num_betas]
    camera: Tensor  # [P, 3], of which the first is the nearness
    expression: Tensor  # [P, 10]


class _SelfAttention(nn.Module):
    def __init__(self, sizes: HeadSizes) -> None:
        super().__init__()
        self.to_qkv = nn.Linear(sizes.width, 3 * sizes.inner, bias=False)
        self.to_out = nn.Sequential(nn.Linear(sizes.inner, sizes.width))

    def forward(self, people: Tensor, context: Tensor) -> Tensor:
        return self.to_out(_attend(*self.to_qkv(people).chunk(3, dim=-1)))


class _CrossAttention(nn.Module):
    def __init__(self, sizes: HeadSizes) -> None:
        super().__init__()
        self.to_kv = nn.Linear(sizes.context, 2 * sizes.inner, bias=False)
        self.to_q = nn.Linear(sizes.width, sizes.inner, bias=False)
        self.to_out = nn.Sequential(nn.Linear(sizes.inner, sizes.width))

    def forward(self, people: Tensor, context: Tensor) -> Tensor:
        return self.to_out(_attend(self.to_q(people), *self.to_kv(context).chunk(2, dim=-1)))


class _FeedForward(nn.Module):
    def __init__(self, sizes: HeadSizes) -> None:
        super().__init__()
        # Identity stands where the original drops out: the names of the layers count.
        self.net = nn.Sequential(
            nn.Linear(sizes.width, sizes.hidden),
            nn.GELU(),
            nn.Identity(),
            nn.Linear(sizes.hidden, sizes.width),
        )

    def forward(self, people: Tensor, context: Tensor) -> Tensor:
        return self.net(people)


class _Normed(nn.Module):
    def __init__(self, sizes: HeadSizes, part: type[nn.Module]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(sizes.width)
        self.fn = part(sizes)

    def forward(self, people: Tensor, context: Tensor) -> Tensor:
        return people + self.fn(self.norm(people), context)


class _Block(nn.ModuleList):
    def __init__(self, sizes: HeadSizes) -> None:
        parts = (_SelfAttention, _CrossAttention, _FeedForward)
        super().__init__(_Normed(sizes, part) for part in parts)

    def forward(self, people: Tensor, context: Tensor) -> Tensor:
        for part in self:
            people = part(people, context)
        return people


class _Blocks(nn.Module):
    def __init__(self, sizes: HeadSizes) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Block(sizes) for _ in range(sizes.depth))

    def forward(self, people: Tensor, context: Tensor) -> Tensor:
        for block in self.layers:
            people = block(people, context)
        return people


class _Decoder(nn.Module):
    def __init__(self, sizes: HeadSizes, token: int) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.zeros(1, 1, sizes.width))
        self.to_token_embedding = nn.Linear(token, sizes.width)
        self.transformer = _Blocks(sizes)

    def forward(self, tokens: Tensor, context: Tensor) -> Tensor:
        return self.transformer(self.to_token_embedding(tokens) + self.pos_embedding, context)


class HumanHead(nn.Module):
    """Features at the people's heads and of the whole image -> body parameters."""

    cross_queries_x: Tensor  # [side, context], as the three below
    cross_queries_y: Tensor
    cross_values_x: Tensor
    cross_values_y: Tensor
    init_body_pose: Tensor  # [1, 318]
    init_betas: Tensor  # [1, num_betas]
    init_cam: Tensor  # [1, 3]
    init_expression: Tensor  # [1, 10]

    def __init__(self, sizes: HeadSizes) -> None:
        super().__init__()
        self.sizes = sizes
        pose = 6 * NUM_ROTATIONS
        self.transformer = _Decoder(sizes, pose + sizes.betas + 3 + sizes.context)
        self.decpose = nn.Linear(sizes.width, pose)
        self.decshape = nn.Linear(sizes.width, sizes.betas)
        self.deccam = nn.Linear(sizes.width, 3)
        self.decexpression = nn.Linear(sizes.width, NUM_EXPRESSIONS)
        for name in ("cross_queries_x", "cross_queries_y", "cross_values_x", "cross_values_y"):
            setattr(self, name, nn.Parameter(torch.zeros(sizes.side, sizes.context)))
        starts = {
            "init_body_pose": pose,
            "init_betas": sizes.betas,
            "init_betas_kid": 11,
            "init_cam": 3,
            "init_expression": NUM_EXPRESSIONS,
        }
        for name, length in starts.items():
            self.register_buffer(name, torch.zeros(1, length))

    def forward(self, image: Tensor, rows: Tensor, columns: Tensor) -> HeadOutput:
        """Everybody in one image.

        Args:
            image: [side, side, context] features with ray embedding.
            rows, columns: [P] the tokens at which people were found.
        """
        people = image[rows, columns]
        people = people + self.cross_queries_x[rows] + self.cross_queries_y[columns]
        context = image.clone()
        context[rows, columns] += self.cross_values_x[rows] + self.cross_values_y[columns]
        start = torch.cat([self.init_body_pose, self.init_betas, self.init_cam], dim=1)
        tokens = torch.cat([people, start.expand(len(people), -1)], dim=1)
        out = self.transformer(tokens[None], context.flatten(0, 1)[None])[0]
        return HeadOutput(
            self.decpose(out) + self.init_body_pose,
            self.decshape(out) + self.init_betas,
            self.deccam(out) + self.init_cam,
            self.decexpression(out) + self.init_expression,
        )


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention with eight heads.  # [1, Q, C], [1, N, C], [1, N, C] -> [1, Q, C]"""
    split = (
        part.unflatten(-1, (_ATTENTION_HEADS, -1)).transpose(1, 2) for part in (query, key, value)
    )
    return F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)
