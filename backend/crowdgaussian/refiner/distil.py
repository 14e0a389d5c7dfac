# SPDX-License-Identifier: Apache-2.0
"""A cluster's views, and their refined pictures back into the Gaussians (CrowdGaussian, eq. 6).

Rounds of render, refine, fit with L1 and SSIM. The photo stays the anchor of what it shows; refined
pictures keep the low frequencies of the coarse ones, so that identity and tone do not drift; each
pixel counts by how squarely the body faces the camera, so that inconsistent views do not average
to a blur.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from crowdgaussian_shared.errors import InputError
from crowdgaussian_shared.geometry.avatar import Avatar
from crowdgaussian_shared.geometry.skinning import pose_body
from sklearn.cluster import DBSCAN
from torch import Tensor
from torch.nn import functional

from ..core.device import choose_device
from ..core.metrics import WINDOW, ssim
from ..core.optim import Descent, minimise, parameter_groups
from ..splat.cameras import Cameras
from ..splat.normals import render_normals
from ..splat.rasterize import rasterize
from ..splat.splats import DEFAULT_CONFIG, RasterConfig
from .networks.tiling import VIEWS, normal_input
from .trainable import RATES, Anchor, Movable, held, movable
from .types import DistilConfig, Refiner

# The pictures of a cluster: cameras framed on it, body normals, and how much each pixel counts

_FOV = 0.6  # radians, of the cameras before they are framed
_MARGIN = 1.15  # of a picture's side to the naked bodies: hair and clothes reach over them
_GRAZING_WEIGHT = 0.1  # weight of a body seen edge-on
_BESIDE_WEIGHT = 0.3  # weight of pixels beside the naked body: hair, clothes and background
_LEVELS = (np.radians(4.0), np.radians(28.0))  # elevations of the two rings


@dataclass(frozen=True)
class ClusterViews:
    """V views of one cluster."""

    cameras: Cameras
    normals: Tensor  # [V, 4, H, W] as Refiner takes them
    weight: Tensor  # [V, H, W] 0..1: faces turned to the camera say most


def cluster_views(
    avatars: list[Avatar], views: int, size: int, device: torch.device
) -> ClusterViews:
    """Views all around, half of them from a little above.

    Args:
        avatars: the people of the cluster.
        views: how many, at least 2.
        size: pixels a side.
        device: where the tensors go.
    """
    bodies = [pose_body(avatar) for avatar in avatars]
    cameras = ring_cameras(np.concatenate(bodies), views, size)
    maps = render_normals(np.stack(bodies), avatars[0].body.faces, cameras)
    normals = normal_input(maps)
    facing = _GRAZING_WEIGHT + (1 - _GRAZING_WEIGHT) * normals[:, 2].clamp(0, 1).square()
    weight = torch.where(normals[:, 3] > 0, facing, torch.tensor(_BESIDE_WEIGHT))
    return ClusterViews(cameras.to(device), normals.to(device), weight.to(device))


def ring_cameras(points: np.ndarray, views: int, size: int) -> Cameras:
    """Two rings of cameras around points [N, 3]; the same where refiners are trained and used."""
    low, high = points.min(axis=0), points.max(axis=0)
    radius = 0.5 * float(np.linalg.norm(high - low)) / np.sin(_FOV / 2)
    rings = [
        Cameras.orbit((low + high) / 2, radius, count, level, _FOV, size)
        for count, level in zip((views - views // 2, views // 2), _LEVELS)
        if count
    ]
    return Cameras.joined(rings).framed(torch.from_numpy(points[::4]).float(), _MARGIN)


# Who is refined together: neighbours on the floor (DBSCAN), never so many that pixels starve


def find_clusters(roots: np.ndarray, reach: float, cap: int) -> list[list[int]]:
    """Groups of people, each nearest first from the group's middle; everybody is in one.

    DBSCAN (Ester et al. 1996) finds crowds of any form; one that is larger than the cap is cut
    across its longest direction until no part is.

    Args:
        roots: [P, 3] metres, the pelvises; their height does not count.
        reach: metres within which two people are neighbours.
        cap: most people of a cluster, at least 1.
    """
    floor = np.asarray(roots, np.float64)[:, [0, 2]]
    if not len(floor):
        return []
    labels = DBSCAN(eps=reach, min_samples=1).fit_predict(floor)
    clusters: list[list[int]] = []
    for label in range(labels.max() + 1):
        clusters += _cut(floor, np.flatnonzero(labels == label), max(cap, 1))
    return clusters


def _cut(floor: np.ndarray, members: np.ndarray, cap: int) -> list[list[int]]:
    if len(members) <= cap:
        return [members.tolist()]
    centred = floor[members] - floor[members].mean(axis=0)
    direction = np.linalg.eigh(centred.T @ centred)[1][:, -1]
    order = members[np.argsort(centred @ direction, kind="stable")]
    parts = -(-len(members) // cap)
    middle = round(len(members) * (parts // 2) / parts)
    return _cut(floor, order[:middle], cap) + _cut(floor, order[middle:], cap)


# Back into the Gaussians

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
