# SPDX-License-Identifier: Apache-2.0
"""Surfaces as Gaussians: points spread evenly on a mesh, each a flat opaque disc."""

import numpy as np
from crowdgaussian_shared.gaussians import Gaussians
from crowdgaussian_shared.rotations import matrix_to_quat
from crowdgaussian_shared.sh import SH_C0

_WIDTH = 0.7  # of a surface Gaussian, in distances between neighbours
_FLAT = 0.1  # its thickness by its width


def spread_points(areas: np.ndarray, count: int, rng: np.random.Generator,
                  ) -> tuple[np.ndarray, np.ndarray]:
    """Random places on a mesh, evenly by area.

    Args:
        areas: of the faces.  # [F]
        count: how many points.
        rng: where they lie.

    Returns:
        Face of each point [N] and the shares of its three corners [N, 3].
    """
    faces = rng.choice(len(areas), count, p=areas / areas.sum())
    u, v = rng.random((2, count))
    root = np.sqrt(u)
    return faces, np.stack([1 - root, root * (1 - v), root * v], 1)


def surface_gaussians(points: np.ndarray, normals: np.ndarray, colours: np.ndarray,
                      spacing: float) -> Gaussians:
    """Flat, opaque Gaussians on a surface.

    # [N, 3], [N, 3] unit, [N, 3] sRGB 0..1, metres between neighbours
    """
    helper = np.where(np.abs(normals[:, :1]) < 0.9, np.eye(3)[0], np.eye(3)[1])
    first = np.cross(normals, helper)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    frames = np.stack([first, np.cross(normals, first), normals], 2)  # [N, 3, 3]
    width = _WIDTH * spacing
    return Gaussians(
        points.astype(np.float32), matrix_to_quat(frames).astype(np.float32),
        np.tile(np.array([width, width, _FLAT * width], np.float32), (len(points), 1)),
        np.full(len(points), 0.99, np.float32),
        ((colours - 0.5) / SH_C0)[:, None].astype(np.float32))
