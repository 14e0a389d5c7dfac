# SPDX-License-Identifier: Apache-2.0
"""DINOv2 as transformers has it, under the tensor names that the original repository gives it."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Dinov2Config, Dinov2Model

PATCH = 14  # pixels
GRID = 37  # tokens a side of the stored position embeddings (518 pixels)
_OFFSET = 0.1  # the original scales its position grid by (side + 0.1) / 37
_NAMES = (  # original -> transformers, within one block
    ("attn.proj.", "attention.o_proj."), ("ls1.gamma", "layer_scale1.lambda1"),
    ("ls2.gamma", "layer_scale2.lambda1"),
)
_TOP = {
    "cls_token": "embeddings.cls_token", "pos_embed": "embeddings.position_embeddings",
    "mask_token": "embeddings.mask_token",
    "patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight",
    "patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias",
    "norm.weight": "layernorm.weight", "norm.bias": "layernorm.bias",
}


class DinoBackbone(nn.Module):
    """Image -> normalised patch tokens of the last block."""

    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.model = Dinov2Model(Dinov2Config(
            hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
            image_size=GRID * PATCH, patch_size=PATCH, use_mask_token=True))

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, S, S], normalised, S a multiple of 14 -> tokens [B, (S / 14)^2, width]."""
        embeddings = self.model.embeddings
        patches = embeddings.patch_embeddings(images)
        tokens = torch.cat([embeddings.cls_token.expand(len(images), -1, -1), patches], dim=1)
        hidden = tokens + self._positions(images.shape[-1] // PATCH).to(tokens.dtype)
        for layer in self.model.encoder.layer:
            hidden = layer(hidden)
        return self.model.layernorm(hidden)[:, 1:]

    def _positions(self, side: int) -> Tensor:
        """Position embeddings for side x side patches, resampled as the original does."""
        stored = self.model.embeddings.position_embeddings.float()
        if side == GRID:
            return stored
        grid = stored[:, 1:].reshape(1, GRID, GRID, -1).permute(0, 3, 1, 2)
        scale = (side + _OFFSET) / GRID
        grid = F.interpolate(grid, scale_factor=(scale, scale), mode="bicubic")
        return torch.cat([stored[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)


def from_original(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with the original DINOv2's names, under the names of DinoBackbone."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if not name.startswith("blocks."):
            renamed[f"model.{_TOP.get(name, name)}"] = tensor
            continue
        _, index, rest = name.split(".", 2)
        prefix = f"model.encoder.layer.{index}."
        if rest.startswith("attn.qkv."):
            part = rest.removeprefix("attn.qkv.")
            for letter, piece in zip("qkv", tensor.chunk(3), strict=True):
                renamed[f"{prefix}attention.{letter}_proj.{part}"] = piece
            continue
        for old, new in _NAMES:
            rest = rest.replace(old, new)
        renamed[prefix + rest] = tensor
    return renamed
