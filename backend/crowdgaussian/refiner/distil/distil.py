# SPDX-License-Identifier: Apache-2.0
"""Refined pictures back into the Gaussians (CrowdGaussian, equation 6): L1 and SSIM.

Rounds of render, refine, fit. The photo stays the anchor of what it shows; refined pictures keep
the low frequencies of the coarse ones, so that identity and tone do not drift; each pixel counts
by how squarely the body faces the camera, so that inconsistent views do not average to a blur.
"""

from collections.abc import Callable

import torch
from crowdgaussian_shared.errors import InputError
from crowdgaussian_shared.geometry.avatar import Avatar
from torch import Tensor
from torch.nn import functional

from ...core.device import choose_device
from ...core.metrics import WINDOW, ssim
from ...core.optim import Descent, minimise, parameter_groups
from ...splat.cameras import Cameras
from ...splat.rasterize import rasterize
from ...splat.splats import DEFAULT_CONFIG, RasterConfig
from ..networks.tiling import VIEWS
from ..types import DistilConfig, Refiner
from .trainable import RATES, Anchor, Movable, held, movable
from .views import ClusterViews

_LOW = 4  # of the picture's side: pixels that a low frequency spans
_BACKGROUND = (0.5, 0.5, 0.5)
_QUIET = 1e-5  # Adam's epsilon: smaller gradients, as a clean crowd has them, move little
_CHUNK = 4  # views rendered or refined at once


def coarse_scene(avatars: list[Avatar], anchor: Anchor | None) -> Movable:
    """The avatars of one cluster as a scene whose Gaussians can change.

    Args:
        avatars: of one SH degree; nothing of them changes in place.
        anchor: what the photo shows of them; None when it shows nothing.

    Raises:
        InputError: a Gaussian is not finite.
    """
    _check(avatars)
    moved = movable(avatars, choose_device())
    if anchor is not None:
        with torch.no_grad():
            moved = held(moved, anchor.shown(moved.posed(), moved.start.axes[1]))
    return moved


@torch.no_grad()
def refined_views(
    moved: Movable, views: ClusterViews, refiner: Refiner, tell: Callable[[], None]
) -> Tensor:
    """What the refiner makes of the cluster as it is now.  # [V, H, W, 3]

    `tell` is called before every few views, which take minutes where diffusion runs on a CPU.
    """
    pictures = []
    for first in range(0, len(views.cameras), _CHUNK):
        tell()
        some = slice(first, first + _CHUNK)
        coarse = _render(moved, views.cameras[some], VIEWS).permute(0, 3, 1, 2).clamp(0, 1)
        fine = refiner.refine(coarse, views.normals[some])
        if fine.shape != coarse.shape or not bool(torch.isfinite(fine).all()):
            raise InputError(
                "The refiner gave pictures of another size or with values that are not finite; "
                "use another one, or set stages.refiner to none."
            )
        pictures.append(keep_tone(coarse, fine).permute(0, 2, 3, 1))
    return torch.cat(pictures)


def keep_tone(coarse: Tensor, fine: Tensor) -> Tensor:
    """The fine picture with the low frequencies of the coarse one.  # [B, 3, H, W]"""
    width = max(3, coarse.shape[-1] // _LOW) | 1
    drift = functional.avg_pool2d(
        functional.pad(coarse - fine, (width // 2,) * 4, mode="replicate"), width, stride=1
    )
    return (fine + drift).clamp(0, 1)


def distil(
    moved: Movable,
    views: ClusterViews,
    targets: Tensor,
    anchor: Anchor | None,
    config: DistilConfig,
    generator: torch.Generator,
    tell: Callable[[float], None],
) -> None:
    """Fit a cluster's Gaussians to refined views, for one round.

    Args:
        moved: the cluster; its free tensors change in place.
        views: cameras, and how much each of their pixels counts.
        targets: what the refiner made of the views.  # [V, H, W, 3]
        anchor: what the photo shows of the cluster; None when it shows nothing.
        config: how.
        generator: of the order of views.
        tell: called with the fraction done; raises to stop.
    """
    order = torch.randperm(len(views.cameras), generator=generator).tolist()

    def loss_at(step: int) -> Tensor:
        tell(step / config.steps)
        on_photo = torch.rand((), generator=generator) < config.photo_share
        if anchor is not None and on_photo:
            found = _render(moved, anchor.camera, DEFAULT_CONFIG)
            loss = config.photo_weight * _weighted_loss(found, anchor.photo, anchor.weight, config)
        else:
            view = order[step % len(order)]
            some = slice(view, view + 1)
            found = _render(moved, views.cameras[some], VIEWS)
            loss = config.pseudo_weight * _weighted_loss(
                found, targets[some], views.weight[some], config
            )
        return loss + moved.restraint()

    descent = Descent(config.steps, eps=_QUIET)
    minimise(parameter_groups(moved.free, RATES), descent, loss_at)


def _render(moved: Movable, camera: Cameras, config: RasterConfig) -> Tensor:
    posed = moved.posed()
    return rasterize(posed, camera, posed.means.new_tensor(_BACKGROUND), config=config).color


def _weighted_loss(found: Tensor, wanted: Tensor, weight: Tensor, config: DistilConfig) -> Tensor:
    # Beside the pixels that count, the picture agrees with itself.
    wanted = torch.where(weight[..., None] > 0, wanted, found.detach())
    colour = ((found - wanted).abs().mean(dim=-1) * weight).sum() / weight.sum().clamp_min(1.0)
    if min(found.shape[1:3]) < WINDOW:  # a sliver of the photo
        return colour
    return (1 - config.ssim_share) * colour + config.ssim_share * (
        1 - ssim(found.clamp(0, 1), wanted)
    ).mean()


def _check(avatars: list[Avatar]) -> None:
    for number, avatar in enumerate(avatars):
        for name, array in vars(avatar.gaussians).items():
            if not torch.isfinite(torch.as_tensor(array)).all():
                raise InputError(
                    f"The avatar number {number} of a cluster has {name} that are not finite; "
                    "reconstruct that person again."
                )
