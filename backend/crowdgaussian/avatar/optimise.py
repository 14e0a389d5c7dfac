# SPDX-License-Identifier: Apache-2.0
"""Fits colour, place, size and opacity of bound Gaussians to the photo through the rasteriser."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from crowdgaussian_shared.geometry.sh import SH_C0
from crowdgaussian_shared.geometry.skinning import blend_transforms, move_points
from torch import Tensor

from ..body.model import PosedBody
from ..core.device import float_tensor
from ..core.mesh import unit
from ..core.optim import Descent, minimise
from ..splat.cameras import Cameras
from ..splat.rasterize import rasterize
from ..splat.splats import Splats
from .gaussians import SurfaceGaussians
from .types import PhotoFitConfig
from .visibility import PhotoView, facing_camera, visible

_START_OPACITY, _HIGHEST_OPACITY = 0.96, 0.995
_LOWEST_OPACITY, _LOWEST_HAIR = 0.8, 0.4  # hair may thin out
_BACK = -0.35  # cosine: discs turned further away are behind others and wait
_COARSE_SHARE = 0.5  # of the steps, at half the resolution
_DRIFT = 0.4  # pixels: a Gaussian that paints much less keeps its first colour
_FIRST_VISIBLE, _VISIBLE_RANGE = 0.15, 0.45  # cosines: seen a little, and by how much more well
# The loss, hand-tuned; not measured one by one. Colour is absolute and squared error: more of the
# square mends large errors first. Cover fills the mask, spill empties what is beside it.
_ABSOLUTE, _SQUARED = 0.7, 6.0
_COVER, _SPILL = 2.0, 0.5
_CALM = 1e-6  # of moves and sizes, for Gaussians that the photo says nothing about
_EDGE_TRUST, _EDGE_PX = (0.3, 0.7), 3  # of impure pixels, by their distance from the mask's edge
_ADAM_BETAS = (0.8, 0.95)  # short memories for a short run
_LAST_RATE = 0.05  # of the rates; they fall over the second half
_SIZE_RANGE = 0.45  # natural logarithm: how far a size may leave its start


@dataclass(frozen=True)
class Fitted:
    """What the photo made of a cloud; canonical frame."""

    means: np.ndarray  # [N, 3]
    scales: np.ndarray  # [N, 3] along the cloud's frames
    opacities: np.ndarray  # [N]
    colours: np.ndarray  # [N, 3] sRGB
    shown: np.ndarray  # [N] pixels of the pure mask that each Gaussian paints


class _Model:
    """The parameters, and the splats that they stand for in the photo's pose."""

    def __init__(
        self,
        cloud: SurfaceGaussians,
        matrices: np.ndarray,
        colours: np.ndarray,
        config: PhotoFitConfig,
    ) -> None:
        linear = matrices[:, :, :3] @ cloud.frames  # [N, 3, 3] frame -> scene
        self.base = float_tensor(move_points(matrices, cloud.means))
        self.linear = float_tensor(linear)
        self.scales = float_tensor(cloud.scales)
        self.limit = torch.minimum(2.0 * float_tensor(cloud.radius), torch.tensor(config.max_move))[
            :, None
        ]
        self.first_colour = float_tensor(colours)
        self.colour = self.first_colour.clone().requires_grad_()
        self.move = torch.zeros(len(cloud), 3, requires_grad=True)  # of limit, before tanh
        self.size = torch.zeros(len(cloud), 3, requires_grad=True)  # of _SIZE_RANGE
        self.lowest = float_tensor(_LOWEST_OPACITY + (_LOWEST_HAIR - _LOWEST_OPACITY) * cloud.scalp)
        start = (_START_OPACITY - self.lowest) / (_HIGHEST_OPACITY - self.lowest)
        self.solid = torch.logit(start).requires_grad_()

    def moves(self) -> Tensor:
        return self.limit * torch.tanh(self.move)

    def sizes(self) -> Tensor:
        return self.scales * torch.exp(_SIZE_RANGE * torch.tanh(self.size))

    def opacities(self) -> Tensor:
        return self.lowest + (_HIGHEST_OPACITY - self.lowest) * torch.sigmoid(self.solid)

    def splats(self, some: Tensor) -> Splats:
        """The splats of some of the Gaussians, by index."""
        linear = self.linear[some]
        means = self.base[some] + (linear @ self.moves()[some, :, None])[:, :, 0]
        axes = linear * self.sizes()[some, None, :]
        return Splats(
            means,
            self.opacities()[some],
            (self.colour[some, None] - 0.5) / SH_C0,
            covars=axes @ axes.transpose(1, 2),
        )


def fit_photo(
    cloud: SurfaceGaussians,
    posed: PosedBody,
    colours: np.ndarray,
    view: PhotoView,
    config: PhotoFitConfig,
    step_done: Callable[[float], None],
) -> Fitted:
    """Runs Adam on the masked photo.

    Args:
        cloud: the bound Gaussians.
        posed: the body in the photo.
        colours: [N, 3] sRGB to start from.
        view: the crop.
        config: steps and rates.
        step_done: called with the fraction done; may raise to stop.
    """
    matrices = blend_transforms(cloud.skin_joints, cloud.skin_weights, posed.transforms)
    model = _Model(cloud, matrices, colours, config)
    some = torch.from_numpy(np.flatnonzero(_facing(cloud, matrices, view) > _BACK))
    scales = [_Loss(view, side) for side in (0.5, 1.0)]
    groups = [
        {"params": [model.colour], "lr": config.colour_rate},
        {"params": [model.move], "lr": config.move_rate},
        {"params": [model.size, model.solid], "lr": config.shape_rate},
    ]
    steps = config.colour_steps

    def loss_at(step: int) -> Tensor:
        loss_of = scales[int(step / steps >= _COARSE_SHARE)]
        return loss_of(model, rasterize(model.splats(some), loss_of.cameras))

    descent = Descent(steps, betas=_ADAM_BETAS, rate=_late_cooling)
    minimise(groups, descent, loss_at, lambda step, _: step_done((step + 1) / steps))
    return _result(model, cloud, view)


def _late_cooling(done: float) -> float:
    return min(1.0, 2.0 * (1 - done) + _LAST_RATE)


class _Loss:
    """Colour inside the mask, alpha inside and outside, and small changes."""

    def __init__(self, view: PhotoView, side: float) -> None:
        height, width = view.visible.shape
        small = max(1, round(width * side)), max(1, round(height * side))
        self.cameras = Cameras.from_cameras(view.camera).resize(*small)
        distance = cv2.distanceTransform(view.visible.astype(np.uint8), cv2.DIST_L2, 3)
        trust = np.where(view.pure, 1.0, np.clip(distance / _EDGE_PX, *_EDGE_TRUST)) * view.visible
        self.photo = _resized(view.photo, small)
        self.colour_weight = _resized(trust, small)[..., None]
        self.inside = _resized(view.visible, small)
        self.outside = _resized(view.empty, small)
        self.count = max(float(self.inside.sum()), 1.0)

    def __call__(self, model: _Model, render) -> Tensor:
        error = (render.color[0] - self.photo) * self.colour_weight
        colour = (_ABSOLUTE * error.abs().sum() + _SQUARED * error.square().sum()) / self.count
        alpha = render.alpha[0]
        cover = (self.inside * (1 - alpha).square()).sum() / self.count
        spill = (self.outside * alpha.square()).sum() / self.count
        calm = model.move.square().sum() + model.size.square().sum()
        drift = (model.colour - model.first_colour).square().sum() / self.count
        return colour + _COVER * cover + _SPILL * spill + _DRIFT * drift + _CALM * calm


def _result(model: _Model, cloud: SurfaceGaussians, view: PhotoView) -> Fitted:
    ones = torch.zeros(len(cloud), 1, requires_grad=True)
    with torch.no_grad():
        splats = model.splats(torch.arange(len(cloud)))
    cameras = Cameras.from_cameras(view.camera)
    painted = rasterize(splats, cameras, features=ones).blended[0, ..., 0]
    (shares,) = torch.autograd.grad((painted * float_tensor(view.pure)).sum(), ones)
    shown = shares[:, 0].numpy()
    with torch.no_grad():
        moved = model.moves().double().numpy()
        means = cloud.means + np.einsum("nij,nj->ni", cloud.frames, moved)
        return Fitted(
            means,
            model.sizes().double().numpy(),
            model.opacities().numpy(),
            model.colour.clamp(0, 1).double().numpy(),
            shown,
        )


def seen_gaussians(
    cloud: SurfaceGaussians, posed: PosedBody, fitted: Fitted, view: PhotoView
) -> np.ndarray:
    """How well the photo shows each Gaussian: what it paints, and how frontally.  # [N] 0..1"""
    matrices = blend_transforms(cloud.skin_joints, cloud.skin_weights, posed.transforms)
    facing = np.clip((_facing(cloud, matrices, view) - _FIRST_VISIBLE) / _VISIBLE_RANGE, 0, 1)
    _, depth = view.camera.project(move_points(matrices, cloud.means))
    return visible(fitted.shown, cloud.radius, view.camera.K[0, 0], depth, facing)


def _facing(cloud: SurfaceGaussians, matrices: np.ndarray, view: PhotoView) -> np.ndarray:
    """Cosine between each disc's normal and the way to the camera.  # [N]"""
    normals = unit(np.einsum("nij,nj->ni", matrices[:, :, :3], cloud.normals))
    return facing_camera(move_points(matrices, cloud.means), normals, view)


def _resized(image: np.ndarray, size: tuple[int, int]) -> Tensor:
    return float_tensor(cv2.resize(image.astype(np.float32), size, interpolation=cv2.INTER_AREA))
