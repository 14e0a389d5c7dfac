# SPDX-License-Identifier: Apache-2.0
"""Gaussians and renders as torch tensors: posed, coloured, what the rasteriser takes and gives."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from crowdgaussian_shared.errors import InputError
from crowdgaussian_shared.geometry.avatar import Gaussians
from crowdgaussian_shared.geometry.sh import SH_C0
from torch import Tensor

from ..core.rotations import polar_rotations, quats_to_matrices


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

    def to_gaussians(self) -> Gaussians:
        """The inverse of from_gaussians: numpy arrays, with quats of length 1.

        Raises:
            InputError: they are posed Splats, whose shapes and colours Gaussians cannot say; pose
                numpy Gaussians instead (crowdgaussian_shared.geometry.skinning).
        """
        if self.sh_frames is not None:
            raise InputError("splats with sh_frames cannot become Gaussians; pose Gaussians.")
        quats, scales = self.axes
        quats = torch.nn.functional.normalize(quats, dim=-1)
        tensors = (self.means, quats, scales, self.opacities, self.sh)
        return Gaussians(*(tensor.detach().float().cpu().numpy() for tensor in tensors))


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


# Posing: the differentiable twin of crowdgaussian_shared.geometry.skinning.skin_gaussians
#
# A Gaussian with centre c and covariance V under the affine x -> M x + t becomes the one with
# centre M c + t and covariance M V M^T. Its colours turn with the rotation of M's polar
# decomposition: instead of its spherical harmonics, ``Splats.sh_frames`` takes that rotation, and
# the rasteriser turns the view direction back.


def pose_splats(splats: Splats, affines: Tensor, sh_frames: Tensor | None = None) -> Splats:
    """Move each Gaussian by its own affine.

    Args:
        splats: Canonical Gaussians, without sh_frames of their own.
        affines: From ``blend_affines``.  # [N, 3, 4]
        sh_frames: ``polar_rotations(affines[:, :, :3])`` where the caller has kept them.

    Returns:
        Posed Gaussians with covars; with sh_frames too where the colours depend on the view.
    """
    linear, offset = affines[:, :, :3], affines[:, :, 3]
    means = (linear * splats.means[:, None, :]).sum(-1) + offset
    if splats.covars is None:
        quats, scales = splats.axes
        factors = linear @ (quats_to_matrices(quats) * scales[:, None, :])
        covars = factors @ factors.transpose(1, 2)
    else:
        covars = linear @ splats.covars @ linear.transpose(1, 2)
    if splats.sh.shape[1] > 1 and sh_frames is None:
        sh_frames = polar_rotations(linear)
    return replace(
        splats,
        means=means,
        covars=covars,
        quats=None,
        scales=None,
        sh_frames=sh_frames if splats.sh.shape[1] > 1 else None,
    )


def sh_basis(directions: Tensor, degree: int) -> Tensor:
    """Real spherical harmonics with the signs of 3DGS.  # [N, 3] unit -> [N, (degree + 1)^2]"""
    x, y, z = directions.unbind(-1)
    terms = [torch.full_like(x, SH_C0)]
    if degree > 0:
        terms += [-0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x]
    if degree > 1:
        terms += [
            1.0925484305920792 * x * y,
            -1.0925484305920792 * y * z,
            0.31539156525252005 * (2 * z * z - x * x - y * y),
            -1.0925484305920792 * x * z,
            0.5462742152960396 * (x * x - y * y),
        ]
    if degree > 2:
        terms += [
            -0.5900435899266435 * y * (3 * x * x - y * y),
            2.890611442640554 * x * y * z,
            -0.4570457994644658 * y * (4 * z * z - x * x - y * y),
            0.3731763325901154 * z * (2 * z * z - 3 * x * x - 3 * y * y),
            -0.4570457994644658 * x * (4 * z * z - x * x - y * y),
            1.445305721320277 * z * (x * x - y * y),
            -0.5900435899266435 * x * (x * x - 3 * y * y),
        ]
    return torch.stack(terms, -1)


def sh_colors(splats: Splats, center: Tensor) -> Tensor:
    """Colours of the Gaussians seen from a point in the scene.  # [3] -> [N, 3]"""
    directions = torch.nn.functional.normalize(splats.means - center, dim=-1)
    if splats.sh_frames is not None:
        directions = (splats.sh_frames.transpose(1, 2) @ directions[:, :, None])[:, :, 0]
    basis = sh_basis(directions, splats.sh_degree)
    return torch.clamp(0.5 + (basis[:, :, None] * splats.sh).sum(1), min=0.0)
