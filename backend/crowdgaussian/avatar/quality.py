# SPDX-License-Identifier: Apache-2.0
"""How well an avatar matches the photo, and whether it has holes."""

from dataclasses import replace

import numpy as np
import torch
from crowdgaussian_shared.geometry.avatar import Avatar
from crowdgaussian_shared.geometry.skinning import pose_avatar, pose_body

from ..core import metrics
from ..segment.types import CrowdView
from ..splat.cameras import Cameras
from ..splat.normals import render_mesh_depth
from ..splat.rasterize import rasterize
from ..splat.splats import Render, Splats
from .visibility import COMPARED_PX, PhotoView, make_view

ORBIT_VIEWS = 24
_ORBIT_SIZE = 320  # pixels
_FOV = 0.6  # radians
_SOLID = 0.9  # alpha from which a pixel is covered
_MARGIN = 0.08  # of the person's height around the crop that is compared
_ORBIT_MARGIN = 0.62  # of the body's diagonal that fits into half the picture


def measure(
    avatar: Avatar, scene: CrowdView, index: int, max_side: int = COMPARED_PX
) -> dict[str, float]:
    """Everything `inspect` reports about one avatar.

    Args:
        avatar: the person in the photo's pose.
        scene: the photo, everybody in it, and their masks.
        index: whose avatar it is.
        max_side: longest side in pixels at which the photo is compared.

    Returns:
        iou: visible mask against the splat silhouette (alpha > 0.5), pixels of occluders left out.
        psnr_db: inside the visible mask, over black.
        coverage: share of the body's silhouette with alpha > 0.9, worst of 24 orbit views.
    """
    quality = {"coverage": coverage(avatar)}
    view = make_view(scene, index, _MARGIN, max_side)
    if view is not None and view.visible.any():
        with torch.no_grad():
            render = rasterize(
                Splats.from_gaussians(pose_avatar(avatar)), Cameras.from_cameras(view.camera)
            )
        quality |= {"iou": silhouette_iou(render, view), "psnr_db": masked_psnr(render, view)}
    return {name: round(float(value), 4) for name, value in quality.items()}


def silhouette_iou(render: Render, view: PhotoView) -> float:
    """Intersection over union of alpha > 0.5 and the visible mask, hidden pixels left out."""
    known = ~view.hidden
    drawn = (render.alpha[0].numpy() > 0.5) & known
    shown = view.visible & known
    return float((drawn & shown).sum() / max((drawn | shown).sum(), 1))


def masked_psnr(render: Render, view: PhotoView) -> float:
    """Peak signal-to-noise ratio over the visible pixels, the render on black.  # decibels"""
    photo, visible = torch.from_numpy(view.photo), torch.from_numpy(view.visible)
    return float(metrics.masked_psnr(render.color.clamp(0, 1), photo[None], visible[None]))


def coverage(avatar: Avatar, views: int = ORBIT_VIEWS, size: int = _ORBIT_SIZE) -> float:
    """Share of the body's silhouette under alpha > 0.9, in the worst of the orbit's views.

    The body mesh and the Gaussians take the photo's pose; the cameras stand around the middle of
    the body at its height.
    """
    gaussians = pose_avatar(avatar)
    vertices = pose_body(avatar)
    low, high = vertices.min(0), vertices.max(0)
    radius = _ORBIT_MARGIN * float(np.linalg.norm(high - low)) / np.tan(_FOV / 2)
    cameras = Cameras.orbit((low + high) / 2, radius, views, fov=_FOV, size=size)
    splats = Splats.from_gaussians(gaussians)
    worst = 1.0
    for index, camera in enumerate(cameras.to_cameras()):
        with torch.no_grad():
            alpha = rasterize(splats, cameras[index]).alpha[0].numpy()
        depth, _ = render_mesh_depth(vertices, avatar.body.faces, camera)
        silhouette = np.isfinite(np.asarray(depth))
        worst = min(worst, (alpha[silhouette] > _SOLID).mean() if silhouette.any() else 0.0)
    return float(worst)


def tidy_share(avatar: Avatar, tidy_sh: np.ndarray, view: PhotoView, loss_db: float) -> float:
    """How far the colours may go to the tidy ones before the photo suffers, 0..1.

    Blending is linear in the colours, so the squared error inside the mask is a parabola in the
    share, known from two renders.

    Args:
        avatar: with colours as the photo shows them.
        tidy_sh: [N, 1, 3] the same with misplaced colours replaced.
        view: the crop.
        loss_db: how much of the avatar's own signal-to-noise ratio inside the mask may go.
    """
    posed, cameras = pose_avatar(avatar), Cameras.from_cameras(view.camera)
    with torch.no_grad():
        drawn = [
            rasterize(Splats.from_gaussians(replace(posed, sh=sh)), cameras).color[0].numpy()
            for sh in (posed.sh, tidy_sh)
        ]
    error = (drawn[0] - view.photo)[view.visible]
    change = (drawn[1] - drawn[0])[view.visible]
    square, cross = (change**2).mean(), (error * change).mean()
    room = (10 ** (loss_db / 10) - 1) * (error**2).mean()
    if square + 2 * cross <= room:
        return 1.0
    return float(np.clip((-cross + np.sqrt(cross**2 + square * room)) / max(square, 1e-12), 0, 1))
