# SPDX-License-Identifier: Apache-2.0
"""The head encoder: DINOv2 with registers, four of its layers fused (part of the checkpoint).

The transformer is transformers' Dinov2WithRegisters; state_dict() and load_state_dict() speak the
published names, in which query, key and value are one matrix and there is no mask token.
"""

import re
from pathlib import Path
from typing import Protocol

import torch
from crowdgaussian_shared.errors import DamagedFileError, MissingFileError, SettingError
from torch import Tensor, nn
from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

from ...core.crop import square
from .config import HeadEncoderConfig

# checkpoint name -> transformers name; `blocks.N.` is treated apart
_OUTER = {
    "cls_token": "embeddings.cls_token",
    "register_tokens": "embeddings.register_tokens",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight",
    "patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias",
    "norm.weight": "layernorm.weight",
    "norm.bias": "layernorm.bias",
}
_INNER = {
    "norm1": "norm1",
    "norm2": "norm2",
    "attn.proj": "attention.o_proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
_SCALES = {"ls1.gamma": "layer_scale1.lambda1", "ls2.gamma": "layer_scale2.lambda1"}
_QKV = ("attention.q_proj", "attention.k_proj", "attention.v_proj")


def _block_names() -> dict[str, tuple[str, ...]]:
    pairs = {
        f"{a}.{kind}": (f"{b}.{kind}",) for a, b in _INNER.items() for kind in ("weight", "bias")
    }
    qkv = {
        f"attn.qkv.{kind}": tuple(f"{part}.{kind}" for part in _QKV) for kind in ("weight", "bias")
    }
    return pairs | qkv | {a: (b,) for a, b in _SCALES.items()}


_BLOCK = _block_names()


class DinoTransformer(nn.Module):
    """The vision transformer, named as in the checkpoint.  # [B, 3, s, s] -> taps of [B, P, width]

    Pixels are used as they are, 0..1: the published network was fine-tuned without ImageNet's mean
    and deviation.
    """

    def __init__(self, config: HeadEncoderConfig):
        super().__init__()
        settings = Dinov2WithRegistersConfig(
            hidden_size=config.width,
            num_hidden_layers=config.depth,
            num_attention_heads=config.heads,
            mlp_ratio=config.mlp // config.width,
            image_size=config.grid * config.patch,
            patch_size=config.patch,
            num_register_tokens=config.registers,
            layer_norm_eps=1e-6,
            attn_implementation="sdpa",
        )
        self.network = Dinov2WithRegistersModel(settings)
        self.network.embeddings.mask_token = None
        self.taps, self.skip = config.taps, 1 + config.registers
        self.register_state_dict_post_hook(_publish)
        self.register_load_state_dict_pre_hook(_adopt)

    def forward(self, images: Tensor) -> list[Tensor]:
        hidden, taps = self.network.embeddings(images), []
        for number, layer in enumerate(self.network.encoder.layer):
            hidden = layer(hidden)
            if number in self.taps:
                taps.append(self.network.layernorm(hidden)[:, self.skip :])
        return taps


class _FusionHead(nn.Module):
    """1x1 convolutions: each tap to the output width, then all of them together."""

    def __init__(self, width: int, taps: int):
        super().__init__()
        self.projects = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(taps))
        self.output_conv = nn.Conv2d(width * taps, width, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        projected = [
            conv(m.transpose(1, 2)[..., None]) for conv, m in zip(self.projects, maps, strict=True)
        ]
        return self.output_conv(torch.cat(projected, dim=1))[..., 0].transpose(1, 2)


class HeadEncoder(nn.Module):
    """Head images -> [B, S, width] tokens, S = (image / patch)^2."""

    def __init__(self, config: HeadEncoderConfig):
        super().__init__()
        self.image = config.image
        self.model = DinoTransformer(config)
        self.fusion_head = _FusionHead(config.width, len(config.taps))

    def forward(self, images: Tensor) -> Tensor:
        """# [B, 3, h, w] RGB 0..1 of any size; padded to a white square and resized"""
        images = square(images, self.image).to(self.model.network.dtype)
        return self.fusion_head(self.model(images))


def _publish(module: "DinoTransformer", state: dict, prefix: str, _: dict) -> None:
    """Renames transformers' tensors to the published names, in place."""
    inner = prefix + "network."
    for name, its in _OUTER.items():
        if inner + its in state:
            state[prefix + name] = state.pop(inner + its)
    for block in range(len(module.network.encoder.layer)):
        for name, theirs in _BLOCK.items():
            keys = [f"{inner}encoder.layer.{block}.{part}" for part in theirs]
            parts = [state.pop(key) for key in keys]
            merged = parts[0] if len(parts) == 1 else torch.cat(parts)
            state[f"{prefix}blocks.{block}.{name}"] = merged


def _adopt(module: nn.Module, state: dict, prefix: str, *_) -> None:
    """Renames the published tensors to transformers' names, in place."""
    inner = prefix + "network."
    for key in [key for key in state if key.startswith(prefix)]:
        name = key[len(prefix) :]
        if name in _OUTER:
            state[inner + _OUTER[name]] = state.pop(key)
        elif (match := re.fullmatch(r"blocks\.(\d+)\.(.*)", name)) and match[2] in _BLOCK:
            theirs = _BLOCK[match[2]]
            for part, value in zip(theirs, state.pop(key).chunk(len(theirs)), strict=True):
                state[f"{inner}encoder.layer.{match[1]}.{part}"] = value


# Body encoders: an image of the whole person -> tokens

_MEAN, _DEVIATION = (0.4844, 0.4570, 0.4062), (0.2295, 0.2236, 0.2256)


class BodyEncoder(Protocol):
    """Images of people -> tokens."""

    def tokens(self, images: Tensor) -> Tensor:
        """# [B, 3, h, w] RGB 0..1 on white -> [B, T, C]"""
        ...


class SapiensEncoder(nn.Module):
    """Sapiens-1B (Khirodkar et al. 2024), pretrained, from Meta's TorchScript file.

    The file is read at the first image. Frozen, without gradient, in bfloat16 on CUDA.

    Args:
        path: sapiens_1b_epoch_173_torchscript.pt2, or any script with the same interface.
        image: side of the square the network sees, pixels.

    Raises:
        CrowdGaussianError: the file is missing.
    """

    mean: Tensor  # [3, 1, 1], and so is deviation
    deviation: Tensor

    def __init__(self, path: str | Path, image: int = 1024):
        super().__init__()
        self.path, self.image = Path(path), image
        if not self.path.is_file():
            raise MissingFileError(
                f"The Sapiens file {self.path} is missing; get it with "
                "`crowdgaussian weights fetch sapiens-1b`."
            )
        self._script: tuple = ()  # a tuple keeps its tensors out of this module's state dict
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor(_DEVIATION)[:, None, None], persistent=False)

    @torch.no_grad()
    def tokens(self, images: Tensor) -> Tensor:
        """# [B, 3, h, w] RGB 0..1 on white -> [B, (image / 16)^2, 1536] float32"""
        device = self.mean.device
        normal = (square(images.float(), self.image).to(device) - self.mean) / self.deviation
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            output = self._loaded()(normal)
        features = output[0] if isinstance(output, tuple | list) else output
        return features.float().flatten(2).transpose(1, 2)

    def _loaded(self):
        if not self._script:
            try:
                script = torch.jit.load(self.path, map_location=self.mean.device)
            except (RuntimeError, ValueError, OSError) as error:
                raise DamagedFileError(
                    f"{self.path} cannot be read as a TorchScript file; fetch it again."
                ) from error
            for parameter in script.parameters():  # a script has no requires_grad_ of its own
                parameter.requires_grad_(False)
            self._script = (script.eval(),)
        return self._script[0]

    def _apply(self, fn, recurse=True):
        super()._apply(fn, recurse)
        if self._script and self._script[0] is not None:
            self._script[0]._apply(fn)
        return self


class PatchEncoder(nn.Module):
    """A small vision transformer, for tiny configurations.

    Args:
        size: (height, width) of the images it is made for; others are resized to it.
        patch: side of a patch, pixels; must divide both.
        width: channels of a token; a multiple of heads.
    """

    def __init__(
        self, size: tuple[int, int], patch: int, width: int, depth: int = 3, heads: int = 4
    ):
        super().__init__()
        if size[0] % patch or size[1] % patch:
            raise SettingError(f"Patches of {patch} pixels do not tile {size} images.")
        self.size = size
        self.num_tokens = (size[0] // patch) * (size[1] // patch)
        self.embed = nn.Conv2d(3, width, patch, stride=patch)
        self.places = nn.Parameter(torch.randn(1, self.num_tokens, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width,
            heads,
            4 * width,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.layers = nn.TransformerEncoder(
            layer, depth, norm=nn.LayerNorm(width), enable_nested_tensor=False
        )

    def tokens(self, images: Tensor) -> Tensor:
        """# [B, 3, h, w] RGB 0..1 -> [B, num_tokens, width]"""
        if tuple(images.shape[-2:]) != tuple(self.size):
            images = nn.functional.interpolate(
                images, size=self.size, mode="bilinear", antialias=True
            )
        embedded = self.embed(2 * images - 1).flatten(2).transpose(1, 2)
        return self.layers(embedded + self.places)
