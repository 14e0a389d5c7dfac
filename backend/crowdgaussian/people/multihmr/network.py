# SPDX-License-Identifier: Apache-2.0
"""Multi-HMR: every person of an image in one pass, as SMPL-X parameters and a place.

An own implementation of Baradel et al. 2024 (ECCV) that reads the published weights; details that
the paper leaves open were checked against naver/multi-hmr.
"""

import argparse
import math
import pickle
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import torch
from crowdgaussian_shared.errors import DamagedFileError, MissingFileError
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Dinov2Config, Dinov2Model

from .head import HeadOutput, HeadSizes, HumanHead

# DINOv2 as transformers has it, under the tensor names that the original repository gives it

PATCH = 14  # pixels
GRID = 37  # tokens a side of the stored position embeddings (518 pixels)
_OFFSET = 0.1  # the original scales its position grid by (side + 0.1) / 37
_NAMES = (  # original -> transformers, within one block
    ("attn.proj.", "attention.o_proj."),
    ("ls1.gamma", "layer_scale1.lambda1"),
    ("ls2.gamma", "layer_scale2.lambda1"),
)
_TOP = {
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "mask_token": "embeddings.mask_token",
    "patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight",
    "patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias",
    "norm.weight": "layernorm.weight",
    "norm.bias": "layernorm.bias",
}


class DinoBackbone(nn.Module):
    """Image -> normalised patch tokens of the last block."""

    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.model = Dinov2Model(
            Dinov2Config(
                hidden_size=width,
                num_hidden_layers=layers,
                num_attention_heads=heads,
                image_size=GRID * PATCH,
                patch_size=PATCH,
                use_mask_token=True,
            )
        )

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


BANDS, TOP_FREQUENCY = 16, 32.0  # Fourier bands of a ray, linear from 1 to 32
TRAINED_FOV = 60.0  # degrees; the distance is told for this field of view
MAX_DISTANCE = 50.0  # metres
NMS_KERNEL = 3  # patches


@dataclass(frozen=True)
class NetworkSizes:
    """Sizes of a checkpoint: 896_L, 672_L, 672_B, 672_S or a small one for tests."""

    width: int  # of the backbone
    layers: int
    head: HeadSizes

    @property
    def image(self) -> int:
        """Side of the square image, pixels."""
        return self.head.side * PATCH

    @classmethod
    def from_shapes(cls, shapes: dict[str, tuple[int, ...]]) -> "NetworkSizes":
        """Reads everything from the shapes of a checkpoint's tensors, by their names there."""
        width = shapes["backbone.encoder.cls_token"][-1]
        side, context = shapes["x_attention_head.cross_queries_x"]
        block = "x_attention_head.transformer.transformer.layers"
        return cls(
            width,
            _count(shapes, "backbone.encoder.blocks"),
            HeadSizes(
                context=context,
                side=side,
                depth=_count(shapes, block),
                width=shapes["x_attention_head.transformer.to_token_embedding.weight"][0],
                inner=shapes[f"{block}.0.1.fn.to_q.weight"][0],
                hidden=shapes[f"{block}.0.2.fn.net.0.weight"][0],
                betas=shapes["x_attention_head.decshape.weight"][0],
            ),
        )


@dataclass(frozen=True)
class Humans:
    """P people of one image, OpenCV camera axes; pixels are those of the network's image."""

    scores: Tensor  # [P] 0..1
    loc: Tensor  # [P, 2] pixels of the head joint
    distance: Tensor  # [P] metres of the head joint along the optical axis
    transl: Tensor  # [P, 3] metres, the head joint
    rotations: Tensor  # [P, 53, 3, 3] root, body, left hand, right hand, jaw
    betas: Tensor  # [P, num_betas]
    expression: Tensor  # [P, 10]


class MultiHmrNetwork(nn.Module):
    """The whole network; module names are those of the checkpoints."""

    def __init__(self, sizes: NetworkSizes) -> None:
        super().__init__()
        self.sizes = sizes
        width = sizes.width
        self.backbone = DinoBackbone(width, sizes.layers, width // 64)
        self.mlp_classif = _mlp(width, 1)
        self.mlp_offset = _mlp(width, 2)
        self.x_attention_head = HumanHead(sizes.head)

    @torch.no_grad()
    def forward(self, images: Tensor, Ks: Tensor, threshold: float = 0.3) -> list[Humans]:
        """Finds everybody.

        Args:
            images: [B, 3, S, S] normalised by ImageNet's mean and spread.
            Ks: [B, 3, 3] of those images; any pinhole camera.
            threshold: 0..1, the score from which on a patch holds a head.

        Returns:
            One Humans an image, best first; without people its tensors have length 0.
        """
        with torch.autocast(images.device.type, torch.bfloat16, enabled=images.is_cuda):
            features = self.backbone(images)
        features = features.float()
        scores = self.mlp_classif(features)[..., 0].sigmoid().clamp(1e-4, 1 - 1e-4)
        side = self.sizes.head.side
        grid = features.unflatten(1, (side, side))
        scores = scores.unflatten(1, (side, side))
        peaks = F.max_pool2d(scores[:, None], NMS_KERNEL, 1, NMS_KERNEL // 2)[:, 0] == scores
        keep = peaks & (scores >= threshold)
        return [self._decode(*parts) for parts in zip(grid, Ks.float(), scores, keep)]

    def _decode(self, grid: Tensor, K: Tensor, scores: Tensor, keep: Tensor) -> Humans:
        """One image.  # [side, side, width], [3, 3], [side, side], [side, side] bool"""
        rows, columns = torch.nonzero(keep, as_tuple=True)
        order = scores[rows, columns].argsort(descending=True, stable=True)
        rows, columns = rows[order], columns[order]
        offset = self.mlp_offset(grid[rows, columns])
        loc = (torch.stack([columns, rows], dim=1) + 0.5 + offset) * PATCH
        image = torch.cat([grid, embed_rays(len(grid), K)], dim=-1)
        body: HeadOutput = self.x_attention_head(image, rows, columns)
        distance = to_metres(body.camera[:, 0], K[0, 0], self.sizes.image)
        rays = torch.cat([loc, torch.ones_like(loc[:, :1])], dim=1) @ torch.linalg.inv(K).T
        return Humans(
            scores[rows, columns],
            loc,
            distance,
            rays * distance[:, None],
            decode_rotations(body.pose),
            body.betas,
            body.expression,
        )


def embed_rays(side: int, K: Tensor) -> Tensor:
    """Fourier features of each patch's viewing ray.  # [side, side, 99]

    The published networks were trained with the row as x and the column as y of the pixel; it has
    to stay so.
    """
    place = torch.arange(side, device=K.device, dtype=K.dtype) * PATCH + PATCH // 2
    pixels = torch.stack(
        [
            *torch.meshgrid(place, place, indexing="ij"),
            torch.ones(side, side, device=K.device, dtype=K.dtype),
        ],
        dim=-1,
    )
    rays = pixels @ torch.linalg.inv(K).T  # [side, side, 3]
    bands = torch.linspace(1.0, TOP_FREQUENCY, BANDS, device=K.device, dtype=K.dtype)
    phase = math.pi * (rays[..., None] * bands).flatten(-2)  # [side, side, 48]
    return torch.cat([rays, phase.sin(), phase.cos()], dim=-1)


def to_metres(nearness: Tensor, focal: Tensor, size: int) -> Tensor:
    """The head's number -> distance: undone focal normalisation, then exponential.  # [P]"""
    trained = size / (2 * math.tan(math.radians(TRAINED_FOV) / 2))
    return ((nearness * (focal / trained)).exp() - 1e-10).clamp(0.0, MAX_DISTANCE)


def decode_rotations(pose: Tensor) -> Tensor:
    """Six numbers -> a rotation whose first two columns they span.  # [P, 318] -> [P, 53, 3, 3]

    The first three numbers are the first column, the next three the second (Zhou et al. 2019,
    eq. 15, columns one after the other).
    """
    first, second = pose.unflatten(1, (-1, 2, 3)).unbind(dim=2)
    x = F.normalize(first, dim=-1)
    y = F.normalize(second - (x * second).sum(dim=-1, keepdim=True) * x, dim=-1)
    return torch.stack([x, y, torch.linalg.cross(x, y)], dim=-1)


def _mlp(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, out))


def _count(shapes: dict[str, tuple[int, ...]], prefix: str) -> int:
    """How many numbered modules follow a prefix."""
    start = prefix + "."
    return len({name[len(start) :].split(".")[0] for name in shapes if name.startswith(start)})


# Multi-HMR's published .pt files, read without running code that they may carry

_BACKBONE = "backbone.encoder."
_UNUSED = "smpl_layer."  # buffers of the body model, which has its own file


def load_multihmr(path: Path, device: torch.device | str = "cpu") -> MultiHmrNetwork:
    """The network of a checkpoint, all tensors loaded.

    Args:
        path: multiHMR_896_L.pt, 672_L, 672_B or 672_S; the file tells its sizes.
        device: where the network goes.

    Raises:
        CrowdGaussianError: the file is missing, damaged, or another network.
    """
    state = read_checkpoint(path)
    try:
        sizes = NetworkSizes.from_shapes({name: tuple(t.shape) for name, t in state.items()})
        with torch.device("meta"):
            network = MultiHmrNetwork(sizes)
        network.load_state_dict(to_network_names(state), assign=True)
    except (KeyError, IndexError, ValueError, RuntimeError) as error:
        raise DamagedFileError(
            f"{path} is not a Multi-HMR checkpoint that can be read ({_short(error)}); use "
            "multiHMR_896_L.pt, multiHMR_672_L.pt, multiHMR_672_B.pt or multiHMR_672_S.pt."
        ) from error
    return network.eval().to(device)


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The float32 tensors of the file under their names there, without the body model's buffers.

    The file is a dict with an argparse.Namespace of settings beside the tensors: exactly that
    class is allowed besides what tensors need, nothing else is unpickled.

    Raises:
        CrowdGaussianError: the file is missing, damaged or holds other things.
    """
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
        state = content["model_state_dict"]
        return {
            name: tensor.float() for name, tensor in state.items() if not name.startswith(_UNUSED)
        }
    except FileNotFoundError as error:
        raise MissingFileError(f"The Multi-HMR checkpoint {path} is missing.") from error
    except (
        OSError,
        EOFError,
        BadZipFile,
        RuntimeError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        pickle.UnpicklingError,
    ) as error:
        raise DamagedFileError(
            f"{path} cannot be read as a Multi-HMR checkpoint ({_short(error)}); download it again."
        ) from error


def to_network_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names of a checkpoint -> names of MultiHmrNetwork."""
    backbone = {
        name.removeprefix(_BACKBONE): tensor
        for name, tensor in state.items()
        if name.startswith(_BACKBONE)
    }
    rest = {name: tensor for name, tensor in state.items() if not name.startswith(_BACKBONE)}
    return rest | {f"backbone.{name}": t for name, t in from_original(backbone).items()}


def _is_zip(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"PK"


def _short(error: Exception) -> str:
    """The first line of an error, cut to a length that fits a sentence."""
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__).rstrip(".:")[:160]
