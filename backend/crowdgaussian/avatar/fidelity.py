# SPDX-License-Identifier: Apache-2.0
"""Weighs tidy colours against likeness to the photo."""

from dataclasses import replace

import numpy as np
import torch
from crowdgaussian_shared.avatar import Avatar
from crowdgaussian_shared.skinning import pose_avatar

from ..splat.cameras import Cameras
from ..splat.rasterize import rasterize
from ..splat.splats import Splats
from .view import PhotoView


def tidy_share(avatar: Avatar, tidy_sh: np.ndarray, view: PhotoView, least_db: float) -> float:
    """How far the colours may go to the tidy ones before the photo suffers, 0..1.

    Blending is linear in the colours, so the squared error inside the mask is a parabola in the
    share, known from two renders.

    Args:
        avatar: with colours as the photo shows them.
        tidy_sh: [N, 1, 3] the same with misplaced colours replaced.
        view: the crop.
        least_db: signal-to-noise ratio inside the mask to keep.
    """
    posed, cameras = pose_avatar(avatar), Cameras.from_cameras(view.camera)
    with torch.no_grad():
        drawn = [rasterize(Splats.from_gaussians(replace(posed, sh=sh)), cameras).color[0].numpy()
                 for sh in (posed.sh, tidy_sh)]
    error = (drawn[0] - view.photo)[view.visible]
    change = (drawn[1] - drawn[0])[view.visible]
    square, cross = (change**2).mean(), (error * change).mean()
    room = 10 ** (-least_db / 10) - (error**2).mean()
    if room <= 0:
        return 0.0
    if square + 2 * cross <= room:
        return 1.0
    return float(np.clip((-cross + np.sqrt(cross**2 + square * room)) / max(square, 1e-12), 0, 1))
