# SPDX-License-Identifier: Apache-2.0
"""The body-head transformer: two multimodal blocks a layer, the head's points first, then all.

Parameter names and arithmetic are those of the published LHM checkpoints (Qiu et al. 2025, section
3.3; blocks as in Stable Diffusion 3, without a timestep). Attention memory is bounded: torch picks
a tiled kernel on the CPU and flash or memory-efficient attention on CUDA.
"""

from typing import TYPE_CHECKING

import torch
from diffusers.models.attention import FeedForward
from diffusers.models.attention_processor import Attention, JointAttnProcessor2_0
from diffusers.models.normalization import AdaLayerNormContinuous, AdaLayerNormZero
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .config import LormConfig

if TYPE_CHECKING:
    from peft import LoraConfig

_EPS = 1e-6


class MultimodalBlock(nn.Module):
    """Joint attention of samples (points) and context (image tokens), each with its own weights."""

    def __init__(self, config: LormConfig, last: bool):
        super().__init__()
        width = config.width
        self.last = last  # the context ends here
        self.norm1 = AdaLayerNormZero(width)
        self.norm1_context = (
            AdaLayerNormContinuous(width, width, elementwise_affine=False, eps=_EPS)
            if last
            else AdaLayerNormZero(width)
        )
        self.attn = Attention(
            query_dim=width,
            added_kv_proj_dim=width,
            dim_head=config.head_dim,
            heads=config.heads,
            out_dim=width,
            context_pre_only=last,
            bias=True,
            processor=JointAttnProcessor2_0(),
            qk_norm="rms_norm",
            eps=_EPS,
        )
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False, eps=_EPS)
        self.ff = FeedForward(width, mult=config.ff_mult, activation_fn="gelu-approximate")
        if not last:
            self.norm2_context = nn.LayerNorm(width, elementwise_affine=False, eps=_EPS)
            self.ff_context = FeedForward(
                width, mult=config.ff_mult, activation_fn="gelu-approximate"
            )

    def forward(self, x: Tensor, c: Tensor, condition: Tensor) -> tuple[Tensor, Tensor | None]:
        """One block.

        Args:
            x: [B, N, width] samples.
            c: [B, M, width] context.
            condition: [B, width] what the layer norms are modulated by.

        Returns:
            The new samples and context; no context from the last layer.
        """
        normed, gate, shift_ff, scale_ff, gate_ff = self.norm1(x, emb=condition)
        if self.last:
            normed_c = self.norm1_context(c, condition)
        else:
            normed_c, *gates_c = self.norm1_context(c, emb=condition)
        attended, attended_c = self.attn(hidden_states=normed, encoder_hidden_states=normed_c)
        x = x + gate[:, None] * attended
        x = x + gate_ff[:, None] * self.ff(_modulate(self.norm2(x), scale_ff, shift_ff))
        return x, None if self.last else self._context(c, attended_c, gates_c)

    def _context(self, c: Tensor, attended: Tensor, gates: list[Tensor]) -> Tensor:
        gate, shift_ff, scale_ff, gate_ff = gates
        c = c + gate[:, None] * attended
        output = self.ff_context(_modulate(self.norm2_context(c), scale_ff, shift_ff))
        # The published network adds the ungated output once more; its weights rely on that.
        return c + gate_ff[:, None] * output + output


class BodyHeadLayer(nn.Module):
    """Head block on the head's points and tokens, then body block on all points."""

    def __init__(self, config: LormConfig, last: bool):
        super().__init__()
        self.head_dit = MultimodalBlock(config, last)
        self.body_dit = MultimodalBlock(config, last)

    def forward(
        self, x: Tensor, body: Tensor, head: Tensor, body_condition: Tensor, head_condition: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """As MultimodalBlock, with the context in its two parts."""
        split = int(0.75 * x.shape[1])
        head_points, head = self.head_dit(x[:, split:], head, head_condition)
        x = torch.cat([x[:, :split], head_points], dim=1)
        x, body = self.body_dit(x, body, body_condition)
        return x, body, head


class BodyHeadTransformer(nn.Module):
    """Points look at image tokens.

    Attributes:
        gradient_checkpointing: recompute each layer in the backward pass instead of storing it.
        peft_config: the settings of adapters by their name, where peft has put some in.
    """

    peft_config: dict[str, "LoraConfig"]

    def __init__(self, config: LormConfig):
        super().__init__()
        self.body_tokens = config.body_tokens
        self.linear_cond_proj = nn.Linear(config.cond_dim, config.width)
        self.layers = nn.ModuleList(
            BodyHeadLayer(config, last=k == config.layers - 1) for k in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.width, eps=_EPS)
        self.gradient_checkpointing = False

    def forward(self, points: Tensor, tokens: Tensor, motion: Tensor) -> Tensor:
        """Features of the points.

        Args:
            points: [B, N, width] point embeddings; the last quarter is the head.
            tokens: [B, body_tokens + S, cond_dim] image tokens of the body, then of the head.
            motion: [B, 2 * width] conditioning of the body blocks, then of the head blocks.

        Returns:
            [B, N, width].
        """
        projected = self.linear_cond_proj(tokens)
        x, body, head = points, projected[:, : self.body_tokens], projected[:, self.body_tokens :]
        conditions = motion.chunk(2, dim=-1)
        for layer in self.layers:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x, body, head = checkpoint(layer, x, body, head, *conditions, use_reentrant=False)
            else:
                x, body, head = layer(x, body, head, *conditions)
        return self.norm(x)


def _modulate(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return x * (1 + scale[:, None]) + shift[:, None]
