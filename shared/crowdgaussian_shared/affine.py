# SPDX-License-Identifier: Apache-2.0
"""Whole clouds of Gaussians moved, turned, stretched and joined.

An affine map x -> M x + t acts on a Gaussian as one bone of weight 1 does, see skinning: centre
M c + t, covariance M S M^T, and spherical harmonics turned by the rotation of M's polar
decomposition. A mirroring M keeps colours as if unmirrored: no rotation can mirror them.
"""

from collections.abc import Sequence

import numpy as np

from .gaussians import Gaussians
from .sh import num_coefficients
from .skinning import skin_gaussians


def transform_gaussians(gaussians: Gaussians, matrix: np.ndarray) -> Gaussians:
    """The cloud under one affine map.

    Args:
        gaussians: N Gaussians.
        matrix: [4, 4] affine, the last row is (0, 0, 0, 1).

    Returns:
        N Gaussians; axes keep their order, so a rigid map leaves the scales as they are.
    """
    joints = np.zeros((len(gaussians), 1), np.uint8)
    weights = np.ones((len(gaussians), 1), np.float32)
    return skin_gaussians(gaussians, joints, weights, np.asarray(matrix, np.float64)[None])


def join_gaussians(clouds: Sequence[Gaussians]) -> Gaussians:
    """All clouds as one, in their order; colours take the highest degree among them.

    Args:
        clouds: at least one.
    """
    degree = max(cloud.sh_degree for cloud in clouds)
    return Gaussians(
        means=np.concatenate([cloud.means for cloud in clouds]),
        quats=np.concatenate([cloud.quats for cloud in clouds]),
        scales=np.concatenate([cloud.scales for cloud in clouds]),
        opacities=np.concatenate([cloud.opacities for cloud in clouds]),
        sh=np.concatenate([_pad(cloud.sh, num_coefficients(degree)) for cloud in clouds]),
    )


def _pad(sh: np.ndarray, count: int) -> np.ndarray:
    """Coefficients with zeros for the bands that are missing.  # [N, count, 3]"""
    missing = count - sh.shape[1]
    return np.pad(sh, ((0, 0), (0, missing), (0, 0))) if missing else sh
