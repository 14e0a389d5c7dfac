# SPDX-License-Identifier: Apache-2.0
"""The pictures of a cluster: cameras framed on it, body normals, and how much each pixel counts."""

from dataclasses import dataclass

import numpy as np
import torch
from crowdgaussian_shared.geometry.avatar import Avatar
from crowdgaussian_shared.geometry.skinning import pose_body
from sklearn.cluster import DBSCAN
from torch import Tensor

from ...splat.cameras import Cameras
from ...splat.normals import render_normals
from ..networks.tiling import normal_input

_FOV = 0.6  # radians, of the cameras before they are framed
_MARGIN = 1.15  # of a picture's side to the naked bodies: hair and clothes reach over them
_GRAZING_WEIGHT = 0.1  # weight of a body seen edge-on
_BACKGROUND_WEIGHT = 0.3  # weight of pixels beside the naked body: hair, clothes and background
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
    weight = torch.where(normals[:, 3] > 0, facing, torch.tensor(_BACKGROUND_WEIGHT))
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
