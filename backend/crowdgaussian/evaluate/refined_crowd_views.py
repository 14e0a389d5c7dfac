# SPDX-License-Identifier: Apache-2.0
"""Views of a crowd that its refinement has not seen: the truth, and what avatars show in them."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from crowdgaussian_shared.affine import join_gaussians
from crowdgaussian_shared.avatar import Avatar
from crowdgaussian_shared.skinning import pose_avatar, pose_body
from torch import Tensor
from torch.nn.functional import max_pool2d

from ..lpips import Lpips
from ..metrics import masked_psnr
from ..refiner.crowd_scenes import CrowdScene, hemisphere_views
from ..refiner.inputs import VIEWS, normal_input
from ..refiner.scene_photo import ScenePhoto
from ..refiner.scene_views import render_truth
from ..refiner.types import Refiner
from ..splat.cameras import Cameras
from ..splat.normals import render_normals
from ..splat.rasterize import rasterize
from ..splat.splats import Splats
from .scores import Views, render_views, score

AROUND = 7  # pixels: the window in which somebody counts as near
INSIDE = 5  # pixels: the window that must show somebody everywhere
SCORES = ("psnr", "masked_psnr", "inside_psnr", "ssim", "masked_ssim", "lpips", "masked_lpips")


@dataclass(frozen=True)
class HeldOut:
    """What is really seen, on white."""

    cameras: Cameras
    views: Views


def held_out(scene: CrowdScene, views: int, size: int, only: int | None = None) -> HeldOut:
    """The truth from a hemisphere of cameras, framed on everybody or on one person alone.

    Args:
        scene: the people.
        views: how many.
        size: pixels a side.
        only: this person, as if nobody else were there; None: everybody.
    """
    if only is not None:
        scene = replace(scene, people=(scene.people[only],))
    cameras = hemisphere_views(scene, views, size)
    layers = torch.from_numpy(render_truth(scene, cameras)).float() / 255
    alpha = layers[..., 3:]
    return HeldOut(cameras, Views(layers[..., :3] * alpha + 1 - alpha, alpha[..., 0]))


def shown(avatars: Iterable[Avatar], cameras: Cameras) -> Views:
    """What avatars show, on white."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return render_views(_splats(avatars).to(device), cameras, VIEWS)


def refined_in_2d(coarse: Views, avatars: Iterable[Avatar], cameras: Cameras,
                  refiner: Refiner) -> Views:
    """The same views after the refiner, which is given the normals of the avatars' bodies."""
    some = list(avatars)
    maps = render_normals(np.stack([pose_body(each) for each in some]), some[0].body.faces,
                          cameras)
    normals, pictures = normal_input(maps), coarse.colour.movedim(-1, 1)
    fine = torch.cat([refine_on_device(refiner, pictures[i:i + 1], normals[i:i + 1])
                      for i in range(len(cameras))])
    return replace(coarse, colour=((255 * fine).round() / 255).movedim(1, -1))


def refine_on_device(refiner: Refiner, images: Tensor, normals: Tensor) -> Tensor:
    """What a refiner that lies on the best device makes of tensors on the CPU; back there."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return refiner.refine(images.to(device), normals.to(device)).cpu()


def near(*alphas: Tensor) -> Tensor:
    """Where somebody is, or is wrongly shown, and a little around.  # [C, H, W] -> bool"""
    widest = torch.stack(alphas).amax(0)[:, None]
    return max_pool2d(widest, AROUND, stride=1, padding=AROUND // 2)[:, 0] > 0.5


def score_views(views: Views, truth: Views, mask: Tensor, lpips: Lpips | None) -> dict[str, float]:
    """Means over the views of SCORES, without LPIPS where that is None.  # mask [C, H, W] bool"""
    values = score(views, truth.colour, mask, lpips)
    beside = max_pool2d(1 - truth.alpha[:, None], INSIDE, stride=1, padding=INSIDE // 2)[:, 0]
    inside = masked_psnr(views.colour, truth.colour, beside < 0.5)
    values["inside_psnr"] = float(inside.nanmean())
    return {name: values[name] for name in SCORES if name in values}


def photo_psnr(avatars: Iterable[Avatar], taken: ScenePhoto) -> float:
    """Masked PSNR where the photo shows somebody, dB; what lies behind is taken from the photo's
    own median there."""
    seen = np.logical_or.reduce([mask.visible for mask in taken.masks])
    photo = torch.from_numpy(taken.photo).float()[None] / 255
    splats, camera = _splats(avatars), Cameras.from_cameras(taken.crowd.camera)
    behind = photo[0][torch.from_numpy(~seen)].median(0).values
    with torch.no_grad():
        render = rasterize(splats, camera, behind, config=VIEWS).color.clamp(0, 1)
    return float(masked_psnr(render, photo, torch.from_numpy(seen)[None]))


def _splats(avatars: Iterable[Avatar]) -> Splats:
    return Splats.from_gaussians(join_gaussians([pose_avatar(each) for each in avatars]))
