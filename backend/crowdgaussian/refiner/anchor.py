# SPDX-License-Identifier: Apache-2.0
"""The photo as the anchor of what it shows: its crop around a cluster, and whom it paints."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..splat.cameras import Cameras
from ..splat.rasterize import rasterize
from ..splat.splats import Splats

_PAINTED = 0.5  # share of its disc's pixels that a well seen Gaussian paints


@dataclass(frozen=True)
class Anchor:
    """What the photo shows of a cluster."""

    camera: Cameras  # one, of the crop
    photo: Tensor  # [1, h, w, 3] sRGB 0..1
    weight: Tensor  # [1, h, w] 1 where it shows the cluster's people

    def shown(self, splats: Splats, scales: Tensor) -> Tensor:
        """How well the photo shows each Gaussian: the pixels it paints of those its disc has.

        Args:
            splats: the cluster in the scene.
            scales: standard deviations of the same Gaussians, metres.  # [N, 3]

        Returns:
            # [N] 0..1
        """
        layer = torch.zeros_like(splats.opacities[:, None]).requires_grad_(True)
        with torch.enable_grad():
            drawn = rasterize(splats, self.camera, features=layer).features[..., 0]
            painted, = torch.autograd.grad((drawn * self.weight).sum(), layer)
        rotation, shift = self.camera.viewmats[0, :3, :3], self.camera.viewmats[0, :3, 3]
        depth = (splats.means @ rotation.T + shift)[:, 2].clamp_min(0.05)
        disc = scales.topk(2).values.prod(1) * (2 * self.camera.Ks[0, 0, 0] / depth).square()
        return (painted[:, 0] / (_PAINTED * disc + 1e-3)).clamp(0, 1)
