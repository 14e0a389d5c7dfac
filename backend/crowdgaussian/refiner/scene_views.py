# SPDX-License-Identifier: Apache-2.0
"""A training scene seen from its cameras: truth, coarse rendering, and normals of the bodies."""

import numpy as np
import torch
from crowdgaussian_shared.affine import join_gaussians
from crowdgaussian_shared.gaussians import Gaussians

from ..made_up.pictures import render_rgba
from ..splat import Cameras, Splats, rasterize
from ..splat.normals import render_normals
from .actors import face_light
from .crowd_scenes import CrowdScene
from .inputs import VIEWS


def render_truth(scene: CrowdScene, cameras: Cameras) -> np.ndarray:
    """What is really seen.  # [C, H, W, 4] uint8, straight alpha"""
    vertices = [each.points(each.actor.vertices) for each in scene.people]
    starts = np.cumsum([0, *(len(part) for part in vertices)])
    faces = np.concatenate([each.actor.faces + start
                            for each, start in zip(scene.people, starts)])
    colours = np.concatenate([face_light(each, scene.light, scene.direct)
                              for each in scene.people])
    return np.stack([render_rgba(np.concatenate(vertices), faces, colours, camera)
                     for camera in cameras.to_cameras()])


def render_gaussians(people: list[Gaussians], cameras: Cameras) -> np.ndarray:
    """What a reconstruction shows.  # [C, H, W, 4] uint8, straight alpha"""
    splats = Splats.from_gaussians(join_gaussians(people))
    views = []
    with torch.no_grad():
        for index in range(len(cameras)):
            seen = rasterize(splats, cameras[index], config=VIEWS)
            alpha = seen.alpha[0, ..., None]
            colour = seen.color[0] / alpha.clamp(min=1e-6)
            views.append(torch.cat([colour, alpha], -1).clamp(0, 1).mul(255).round().byte())
    return torch.stack(views).numpy()


def render_bodies(bodies: np.ndarray, faces: np.ndarray, cameras: Cameras) -> np.ndarray:
    """Normals of the bodies in the colour code of NormalMaps, alpha the mask.

    # [B, V, 3], [F, 3] -> [C, H, W, 4] uint8
    """
    maps = render_normals(bodies, faces, cameras)
    both = np.concatenate([maps.normals, maps.mask[..., None]], -1)
    return (255 * both).round().astype(np.uint8)
