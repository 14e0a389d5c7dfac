# SPDX-License-Identifier: Apache-2.0
"""Pictures of any size through a network of limited appetite: overlapping tiles, softly joined."""

from collections.abc import Callable

import torch
from crowdgaussian_shared.errors import InputError, OutOfMemoryError
from torch import Tensor
from torch.nn import functional

from ...core.device import within_memory
from ...splat import RasterConfig
from ...splat.normals import NormalMaps

MIN_TILE = 128  # pixels
Network = Callable[[Tensor, Tensor], Tensor]


def tiled(network: Network, images: Tensor, normals: Tensor, tile: int, overlap: int) -> Tensor:
    """network(images, normals) tile by tile; out of memory halves the tile and starts over.

    Args:
        network: takes [B, 3, h, w] and [B, 4, h, w], h and w multiples of 8 up to `tile`.
        images: [B, 3, H, W].
        normals: [B, 4, H, W].
        tile: pixels, a multiple of 8.
        overlap: pixels by which neighbours share their borders.

    Raises:
        OutOfMemoryError: not even the smallest tile fits into memory.
    """
    while True:
        sentence = (
            f"There is not enough memory to refine a tile of {tile} pixels; free some, or "
            "use a device with more."
        )
        try:
            with within_memory(sentence):
                return _once(network, images, normals, tile, min(overlap, tile // 4))
        except OutOfMemoryError:
            if tile // 2 < MIN_TILE:
                raise
            tile //= 2
            torch.cuda.empty_cache()


def _once(network: Network, images: Tensor, normals: Tensor, tile: int, overlap: int) -> Tensor:
    height, width = images.shape[-2:]
    images, normals = _padded(images), _padded(normals)
    total = torch.zeros_like(images)
    weight = torch.zeros_like(images[:, :1])
    for top in _starts(images.shape[-2], tile, overlap):
        for left in _starts(images.shape[-1], tile, overlap):
            window = (..., slice(top, top + tile), slice(left, left + tile))
            part = network(images[window], normals[window])
            soft = _ramp(part.shape[-2], overlap).to(part)[:, None] * _ramp(
                part.shape[-1], overlap
            ).to(part)
            total[window] += part * soft
            weight[window] += soft
    return (total / weight)[..., :height, :width]


def _padded(pictures: Tensor) -> Tensor:
    """Edges repeated until both sides are multiples of 8."""
    down, right = (-size % 8 for size in pictures.shape[-2:])
    return functional.pad(pictures, (0, right, 0, down), mode="replicate")


def _starts(size: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin so that they cover `size`, each a multiple of 8."""
    if size <= tile:
        return [0]
    step = max(8, (tile - overlap) // 8 * 8)
    return [*range(0, size - tile, step), size - tile]


def _ramp(size: int, overlap: int) -> Tensor:
    """1 inside, falling to nearly 0 over the overlap at both ends.  # [size]"""
    place = torch.arange(size) + 0.5
    edge = torch.minimum(place, size - place)
    return (edge / max(overlap, 1)).clamp(max=1.0)


# What a refiner takes: pictures, and the normals and mask of the bodies in them

INPUTS = 4  # normal x, y, z in camera axes, and the mask
VIEWS = RasterConfig(eps2d=1 / 12)  # the variance of a square pixel; 0.3 would widen outlines


def normal_input(maps: NormalMaps) -> Tensor:
    """Normal maps as a refiner takes them.

    Returns:
        [C, 4, H, W] float32: unit normals with x right, y up and z towards the camera, 0 beside
        bodies; then the mask, 0 or 1.
    """
    mask = torch.from_numpy(maps.mask)[:, None].float()
    normals = torch.from_numpy(maps.normals).movedim(-1, 1) * 2 - 1
    return torch.cat([normals * mask, mask], 1)


def drop_normals(normals: Tensor) -> Tensor:
    """The input of the ablation without normals: zeros of the same shape, [B, 4, H, W]."""
    return torch.zeros_like(normals)


def check_input(images: Tensor, normals: Tensor | None) -> None:
    """Refuses what no refiner can work with.

    Raises:
        InputError: the normal map is missing or of another size, or a value is no number.
    """
    if normals is None:
        raise InputError("A refiner needs the normal map of the bodies; render it first.")
    if images.ndim != 4 or images.shape[1] != 3:
        raise InputError(f"A refiner takes pictures [B, 3, H, W], not {list(images.shape)}.")
    wanted = [len(images), INPUTS, *images.shape[2:]]
    if list(normals.shape) != wanted:
        raise InputError(
            f"The normal map has the shape {list(normals.shape)} where {wanted} belongs to the "
            "pictures; render both with the same cameras."
        )
    if not (images.isfinite().all() and normals.isfinite().all()):
        raise InputError(
            "A picture to refine holds values that are no numbers; reconstruct its people again."
        )
