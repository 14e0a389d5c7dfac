# SPDX-License-Identifier: Apache-2.0
"""The seam of all refiners."""

from typing import Protocol

from torch import Tensor


class Refiner(Protocol):
    """Coarse views and the normals of the bodies in them -> clean views, in one step."""

    def refine(self, images: Tensor, normals: Tensor) -> Tensor:
        """Clean views.

        Args:
            images: [B, 3, H, W] sRGB 0..1, coarse.
            normals: [B, 4, H, W] unit normals in camera axes (0 beside bodies), then the mask 0/1.

        Returns:
            [B, 3, H, W] sRGB 0..1.
        """
        ...
