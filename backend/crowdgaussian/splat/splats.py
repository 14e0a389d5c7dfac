# SPDX-License-Identifier: Apache-2.0
"""Gaussians and renders as torch tensors: what goes into the rasteriser and what comes out."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from crowdgaussian_shared.errors import InputError
from crowdgaussian_shared.geometry.avatar import Gaussians
from torch import Tensor


@dataclass(frozen=True)
class Splats:
    """N anisotropic 3D Gaussians in the scene frame, in linear (not log, not logit) units.

    The shape is given either by ``quats`` and ``scales`` or by ``covars``. The colour of a
    Gaussian seen along unit direction d is max(0, 0.5 + sum_k Y_k(F^T d) sh[k]) (3DGS convention,
    sRGB), where F is its ``sh_frames`` rotation: how far posing has turned it from the pose its
    coefficients were made in (None: not at all).
    """

    means: Tensor  # [N, 3] metres
    opacities: Tensor  # [N] 0..1
    sh: Tensor  # [N, K, 3], K = (degree + 1)^2, degree 0..3
    quats: Tensor | None = None  # [N, 4] wxyz, of any length but zero
    scales: Tensor | None = None  # [N, 3] metres
    covars: Tensor | None = None  # [N, 3, 3] square metres, symmetric
    sh_frames: Tensor | None = None  # [N, 3, 3] rotations

    def __len__(self) -> int:
        return len(self.means)

    @property
    def sh_degree(self) -> int:
        return round(self.sh.shape[1] ** 0.5) - 1

    @property
    def axes(self) -> tuple[Tensor, Tensor]:
        """quats [N, 4] and scales [N, 3], where these give the shape.

        Raises:
            InputError: they do not.
        """
        if self.quats is None or self.scales is None:
            raise InputError("splats need both quats and scales here.")
        return self.quats, self.scales

    def to(self, *args: Any) -> "Splats":
        """The same Gaussians on another device or in another dtype (as ``Tensor.to``)."""
        moved = {k: v.to(*args) for k, v in vars(self).items() if v is not None}
        return replace(self, **moved)

    def check(self) -> None:
        """Raise CrowdGaussianError where the tensors do not fit together."""
        n = len(self.means)
        shapes = {
            "means": (n, 3),
            "opacities": (n,),
            "quats": (n, 4),
            "scales": (n, 3),
            "covars": (n, 3, 3),
            "sh_frames": (n, 3, 3),
        }
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value is not None and tuple(value.shape) != shape:
                raise InputError(
                    f"splats.{name} has shape {tuple(value.shape)}, it must be {shape}."
                )
        if self.sh.ndim != 3 or self.sh.shape[0] != n or self.sh.shape[1:] not in _SH_SHAPES:
            raise InputError(
                f"splats.sh has shape {tuple(self.sh.shape)}, it must be ({n}, 1|4|9|16, 3)."
            )
        if self.covars is None and (self.quats is None or self.scales is None):
            raise InputError("splats need either covars or both quats and scales.")

    @classmethod
    def from_gaussians(cls, gaussians: Gaussians, device: str | torch.device = "cpu") -> "Splats":
        """Numpy Gaussians as float32 tensors."""
        arrays = {
            name: torch.as_tensor(getattr(gaussians, name), dtype=torch.float32, device=device)
            for name in ("means", "opacities", "sh", "quats", "scales")
        }
        return cls(**arrays)


_SH_SHAPES = ((1, 3), (4, 3), (9, 3), (16, 3))


@dataclass(frozen=True)
class Render:
    """What C cameras see. Pixel centres lie at half integers; colours are sRGB, not clamped above.

    ``depth`` is the expected depth (gsplat's "ED"): the camera-space z of the Gaussians' centres
    averaged with their blending weights, sum(w z) / max(alpha, 1e-10), metres; 0 where empty.
    """

    color: Tensor  # [C, H, W, 3]
    alpha: Tensor  # [C, H, W]
    depth: Tensor  # [C, H, W]
    features: Tensor | None = None  # [C, H, W, F] blended like the colour, on a zero background

    @property
    def blended(self) -> Tensor:
        """The features, of a render that was asked for some.  # [C, H, W, F]"""
        if self.features is None:
            raise ValueError("this render has no features")
        return self.features


@dataclass(frozen=True)
class RasterConfig:
    """The constants of the projection; the defaults are those of gsplat 1.5.3."""

    near: float = 0.01  # metres; nearer Gaussians are skipped
    far: float = 1e10  # metres
    eps2d: float = 0.3  # square pixels added to the projected variances


DEFAULT_CONFIG = RasterConfig()
