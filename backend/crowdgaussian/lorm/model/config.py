# SPDX-License-Identifier: Apache-2.0
"""The sizes of one LHM or LORM network; a checkpoint's own shapes decide them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from crowdgaussian_shared.errors import DamagedFileError, SettingError

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class HeadEncoderConfig:
    """The DINOv2 vision transformer with registers, and the fusion of its inner layers."""

    depth: int = 24
    width: int = 1024
    heads: int = 16
    patch: int = 14
    grid: int = 37  # side of the stored position embeddings, in patches
    registers: int = 4
    mlp: int = 4096
    image: int = 448  # side of the image the network sees, pixels
    taps: tuple[int, ...] = (4, 11, 17, 23)  # blocks whose outputs are fused

    @property
    def tokens(self) -> int:
        """Patch tokens of one image."""
        return (self.image // self.patch) ** 2


@dataclass(frozen=True)
class LormConfig:
    """Everything about the network that is not a weight; the defaults are LHM-500M-HF."""

    width: int = 1024
    heads: int = 16
    layers: int = 5
    num_points: int = 40000
    cond_dim: int = 1536  # channels of a body token
    body_tokens: int = 4096
    motion_hidden: int = 768
    frequencies: int = 8  # of the point embedding, for each axis
    decoder_hidden: int = 512
    ff_mult: int = 4
    num_betas: int = 10
    scale_clip: float = 0.05  # largest standard deviation of a Gaussian, metres
    upper_scale_clip: float = 0.02  # the same on the upper body and hands
    offset_range: float = 1.0  # offsets from the template are within half of it, metres
    head_encoder: HeadEncoderConfig = field(default_factory=HeadEncoderConfig)

    def __post_init__(self):
        if self.width % self.heads or self.head_encoder.width % self.head_encoder.heads:
            raise SettingError("The width of a network must be a multiple of its heads.")

    @property
    def num_body_points(self) -> int:
        """The first three quarters of the points are the body, the rest the head."""
        return int(0.75 * self.num_points)

    @property
    def head_dim(self) -> int:
        """Channels of one attention head."""
        return self.width // self.heads

    @classmethod
    def tiny(cls, **changes) -> "LormConfig":
        """A network of the same classes that trains on a CPU; any field can be changed."""
        head = HeadEncoderConfig(
            depth=4, width=64, heads=4, patch=8, grid=8, mlp=256, image=64, taps=(0, 1, 2, 3)
        )
        sizes: dict[str, Any] = {
            "width": 128,
            "heads": 4,
            "layers": 2,
            "num_points": 2000,
            "cond_dim": 128,
            "body_tokens": 60,
            "motion_hidden": 128,
            "decoder_hidden": 128,
            "head_encoder": head,
        }
        return cls(**(sizes | changes))

    @classmethod
    def from_shapes(cls, shapes: Shapes, **changes) -> "LormConfig":
        """The sizes of the network that a state dict belongs to.

        Args:
            shapes: {"transformer.norm.weight": (1024,), ...} of a whole checkpoint.
            changes: fields that no tensor shows (body_tokens, clips).

        Raises:
            DamagedFileError: a tensor that decides a size is missing, named in the sentence.
        """
        block = "transformer.layers.0.body_dit."
        width, cond_dim = _shape(shapes, "transformer.linear_cond_proj.weight", 2)
        sizes: dict[str, Any] = {
            "width": width,
            "cond_dim": cond_dim,
            "layers": _count(shapes, r"transformer\.layers\.(\d+)\."),
            "heads": width // _shape(shapes, block + "attn.norm_q.weight", 1)[0],
            "num_points": _shape(shapes, "renderer.smplx_model.skinning_weight", 2)[0],
            "num_betas": _shape(shapes, "renderer.smplx_model.shape_dirs", 3)[2],
            "motion_hidden": _shape(shapes, "motion_embed_mlp.0.weight", 2)[0],
            "frequencies": _shape(shapes, "pcl_embed.basis", 2)[1] // 3,
            "decoder_hidden": _shape(shapes, "renderer.mlp_net.layers.0.weight", 2)[0],
            "ff_mult": _shape(shapes, block + "ff.net.0.proj.weight", 2)[0] // width,
            "head_encoder": _head_encoder(shapes),
        }
        return cls(**(sizes | changes))


def _head_encoder(shapes: Shapes) -> HeadEncoderConfig:
    width, _, patch, _ = _shape(shapes, "encoder.model.patch_embed.proj.weight", 4)
    depth = _count(shapes, r"encoder\.model\.blocks\.(\d+)\.")
    taps = _count(shapes, r"encoder\.fusion_head\.projects\.(\d+)\.")
    grid = round((_shape(shapes, "encoder.model.pos_embed", 3)[1] - 1) ** 0.5)
    published = HeadEncoderConfig()
    return HeadEncoderConfig(
        depth=depth,
        width=width,
        heads=max(1, width // 64),  # as in every DINOv2
        patch=patch,
        grid=grid,
        registers=_shape(shapes, "encoder.model.register_tokens", 3)[1],
        mlp=_shape(shapes, "encoder.model.blocks.0.mlp.fc1.weight", 2)[0],
        image=published.image,
        taps=published.taps if depth == published.depth else tuple(range(depth - taps, depth)),
    )


def _count(shapes: Shapes, pattern: str) -> int:
    numbers = [int(match[1]) for name in shapes if (match := re.match(pattern, name))]
    if not numbers:
        raise DamagedFileError(
            f"This is not an LHM checkpoint: it has no tensor like {pattern.replace(chr(92), '')}."
        )
    return max(numbers) + 1


def _shape(shapes: Shapes, name: str, dims: int) -> tuple[int, ...]:
    if name not in shapes:
        raise DamagedFileError(f"This is not an LHM checkpoint: the tensor {name} is missing.")
    if len(shapes[name]) != dims:
        raise DamagedFileError(
            f"This is not an LHM checkpoint: {name} has the shape {tuple(shapes[name])}."
        )
    return tuple(shapes[name])
