# SPDX-License-Identifier: Apache-2.0
"""The pictures of a cluster: cameras framed on it, body normals, and how much each pixel counts."""

from dataclasses import dataclass

import numpy as np
import torch
from crowdgaussian_shared.avatar import Avatar
from crowdgaussian_shared.skinning import pose_body
from torch import Tensor

from ..splat.cameras import Cameras
from ..splat.normals import render_normals
from .inputs import normal_input

_FOV = 0.6  # radians, of the cameras before they are framed
_MARGIN = 1.15  # of a picture's side to the naked bodies: hair and clothes reach over them
_UNSQUARE = 0.1  # weight of a body seen edge-on
_BESIDE = 0.3  # weight of pixels beside the naked body: hair, clothes and background
_LEVELS = (np.radians(4.0), np.radians(28.0))  # elevations of the two rings


@dataclass(frozen=True)
class ClusterViews:
    """V views of one cluster."""

    cameras: Cameras
    normals: Tensor  # [V, 4, H, W] as Refiner takes them
    weight: Tensor  # [V, H, W] 0..1: faces turned to the camera say most


def cluster_views(avatars: list[Avatar], views: int, size: int, device: str) -> ClusterViews:
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
    facing = _UNSQUARE + (1 - _UNSQUARE) * normals[:, 2].clamp(0, 1).square()
    weight = torch.where(normals[:, 3] > 0, facing, torch.tensor(_BESIDE))
    return ClusterViews(cameras.to(device), normals.to(device), weight.to(device))


def ring_cameras(points: np.ndarray, views: int, size: int) -> Cameras:
    """Two rings of cameras around points [N, 3]; the same where refiners are trained and used."""
    low, high = points.min(axis=0), points.max(axis=0)
    radius = 0.5 * float(np.linalg.norm(high - low)) / np.sin(_FOV / 2)
    rings = [Cameras.orbit((low + high) / 2, radius, count, level, _FOV, size)
             for count, level in zip((views - views // 2, views // 2), _LEVELS) if count]
    return Cameras.joined(rings).framed(torch.from_numpy(points[::4]).float(), _MARGIN)
