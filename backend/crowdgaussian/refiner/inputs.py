# SPDX-License-Identifier: Apache-2.0
"""What a refiner takes: pictures, and the normals and mask of the bodies in them."""

import torch
from crowdgaussian_shared.errors import CrowdGaussianError
from torch import Tensor

from ..splat import RasterConfig
from ..splat.normals import NormalMaps

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


def check_input(images: Tensor, normals: Tensor | None) -> None:
    """Refuses what no refiner can work with.

    Raises:
        CrowdGaussianError: the normal map is missing or of another size, or a value is no number.
    """
    if normals is None:
        raise CrowdGaussianError("A refiner needs the normal map of the bodies; render it first.")
    if images.ndim != 4 or images.shape[1] != 3:
        raise CrowdGaussianError(
            f"A refiner takes pictures [B, 3, H, W], not {list(images.shape)}.")
    wanted = [len(images), 4, *images.shape[2:]]
    if list(normals.shape) != wanted:
        raise CrowdGaussianError(
            f"The normal map has the shape {list(normals.shape)} where {wanted} belongs to the "
            "pictures; render both with the same cameras.")
    if not (images.isfinite().all() and normals.isfinite().all()):
        raise CrowdGaussianError(
            "A picture to refine holds values that are no numbers; reconstruct its people again.")
