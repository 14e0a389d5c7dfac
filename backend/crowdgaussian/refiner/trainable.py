# SPDX-License-Identifier: Apache-2.0
"""The avatars of a cluster as tensors that move: what distillation may change, and how far.

The pose and the Gaussians' rotations stay, so a posed covariance is linear in the squared scales:
sum_k s_k^2 a_k a_k^T with the posed axes a_k. Their products are made once, not in every step.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from crowdgaussian_shared.geometry.avatar import Avatar, Gaussians
from crowdgaussian_shared.geometry.skinning import joint_transforms
from torch import Tensor

from ..avatar.visibility import visible
from ..core.device import float_tensor
from ..core.rotations import blend_affines, polar_rotations, quats_to_matrices
from ..splat.cameras import Cameras, depths
from ..splat.rasterize import rasterize
from ..splat.splats import Splats

RATES = {"means": 3e-4, "scales": 5e-3, "opacities": 2e-2, "sh": 2e-2}  # of 100 steps, not 30,000
_LIMIT = 0.015  # metres a centre may leave its place without being pulled back
_THIN = 5.0  # longest over shortest axis that a Gaussian may reach that was no thinner before
_HOLD = 0.75  # of its change is kept from a Gaussian that the photo shows well; more keeps faces as
# they are, less fits the photo more closely: the sample gains 0.07 dB in the photo at 0.7
_LOW, _HIGH = 1e-3, 1 - 1e-3  # opacities, away from where their logits end


@dataclass(frozen=True)
class Movable:
    """All Gaussians of a cluster in their canonical frames, and how they are posed."""

    start: Splats  # as they came; never moves
    free: dict[str, Tensor]  # changes of means, log scales, logit opacities, sh; zero at first
    gate: Tensor  # [N, 1] how much of its change each Gaussian takes
    linear: Tensor  # [3, 3, N] columns first: canonical frame -> posed
    offset: Tensor  # [N, 3]
    outer: Tensor  # [3, 9, N] products of each posed axis with itself
    frames: Tensor | None  # [N, 3, 3] turns of view-dependent colour
    counts: tuple[int, ...]  # Gaussians of each avatar

    def posed(self) -> Splats:
        """The cluster in the scene, differentiable in `free`; as splats.pose_splats."""
        now = self.splats()
        _, scales = now.axes
        means = (self.linear * now.means.T[:, None]).sum(0).T + self.offset
        covars = (self.outer * scales.square().T[:, None]).sum(0).T.reshape(-1, 3, 3)
        return Splats(
            means=means, covars=covars, opacities=now.opacities, sh=now.sh, sh_frames=self.frames
        )

    def splats(self) -> Splats:
        """The canonical Gaussians as they are now."""
        start = self.start
        quats, scales = start.axes
        change = {name: self.gate * value for name, value in self.free.items()}
        return Splats(
            means=start.means + change["means"],
            quats=quats,
            scales=scales * change["scales"].exp(),
            opacities=torch.sigmoid(_logits(start) + change["opacities"][:, 0]),
            sh=start.sh + change["sh"].reshape(start.sh.shape),
        )

    def restraint(self) -> Tensor:
        """What keeps Gaussians on the body, of human colours, and round."""
        free = self.free
        beyond = (free["means"].norm(dim=1) - _LIMIT).clamp_min(0) / _LIMIT
        began = self.start.axes[1].log()
        allowed = _slimness(began).clamp_min(float(np.log(_THIN)))
        thin = (_slimness(began + free["scales"]) - allowed).clamp_min(0)
        return (
            beyond.square().mean()
            + 0.1 * thin.square().mean()
            + 0.02 * free["sh"].square().mean()
            + 0.01 * free["scales"].square().mean()
        )


def movable(avatars: list[Avatar], device: torch.device) -> Movable:
    """The avatars of a cluster, ready to be optimised.

    Args:
        avatars: of one SH degree.
        device: where the tensors go.
    """
    parts = [Splats.from_gaussians(avatar.gaussians, device) for avatar in avatars]
    start = Splats(
        **{
            name: torch.cat([getattr(part, name) for part in parts])
            for name in ("means", "opacities", "sh", "quats", "scales")
        }
    )
    quats, scales = start.axes
    start = replace(start, scales=scales.clamp_min(1e-4))
    affines = torch.cat([_affines(avatar).to(device) for avatar in avatars])
    linear = affines[:, :, :3]
    frames = polar_rotations(linear) if start.sh_degree else None
    axes = linear @ quats_to_matrices(quats)  # [N, 3, 3] columns
    outer = (axes[:, :, None] * axes[:, None]).permute(3, 1, 2, 0).reshape(3, 9, -1)
    free = {
        name: torch.zeros_like(getattr(start, name)).flatten(1).requires_grad_(True)
        for name in ("means", "scales", "sh")
    }
    free["opacities"] = torch.zeros_like(start.opacities[:, None]).requires_grad_(True)
    gate = torch.ones(len(start), 1, device=device)
    return Movable(
        start,
        free,
        gate,
        linear.permute(2, 1, 0).contiguous(),
        affines[:, :, 3],
        outer.contiguous(),
        frames,
        tuple(len(part) for part in parts),
    )


def held(moved: Movable, shown: Tensor) -> Movable:
    """The same, what the photo shows held back by as much as it shows it.  # [N] 0..1"""
    return replace(moved, gate=1 - _HOLD * shown[:, None])


def refined_avatars(avatars: list[Avatar], moved: Movable) -> list[Avatar]:
    """The avatars with what has been learnt; their weights and bodies stay."""
    with torch.no_grad():
        now = moved.splats()
    arrays = {
        name: getattr(now, name).detach().cpu().numpy().astype(np.float32)
        for name in ("means", "quats", "scales", "opacities", "sh")
    }
    arrays["quats"] /= np.linalg.norm(arrays["quats"], axis=1, keepdims=True)
    ends = np.cumsum(moved.counts)
    return [
        replace(
            avatar,
            gaussians=Gaussians(
                **{name: array[end - count : end] for name, array in arrays.items()}
            ),
        )
        for avatar, end, count in zip(avatars, ends, moved.counts)
    ]


def _slimness(lengths: Tensor) -> Tensor:
    """Logarithm of longest over shortest axis.  # [N, 3] logarithms -> [N]"""
    return lengths.amax(dim=1) - lengths.amin(dim=1)


def _logits(start: Splats) -> Tensor:
    return torch.logit(start.opacities.clamp(_LOW, _HIGH))


def _affines(avatar: Avatar) -> Tensor:
    transforms = joint_transforms(avatar.rest_joints, avatar.pose, avatar.transl)
    return blend_affines(
        torch.as_tensor(avatar.skin_joints),
        torch.as_tensor(avatar.skin_weights),
        float_tensor(transforms),
    )


# The photo as the anchor of what it shows: its crop around a cluster, and whom it paints


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
            drawn = rasterize(splats, self.camera, features=layer).blended[..., 0]
            (painted,) = torch.autograd.grad((drawn * self.weight).sum(), layer)
        depth = depths(splats.means, self.camera.viewmats[0])
        radius = scales.topk(2).values.prod(1).sqrt()  # of a circle as large as the ellipse
        return visible(painted[:, 0], radius, self.camera.Ks[0, 0, 0], depth)
