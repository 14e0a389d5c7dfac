# SPDX-License-Identifier: Apache-2.0
"""A cloud of 3D Gaussians as plain numpy arrays."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Gaussians:
    """N anisotropic 3D Gaussians with view-dependent colour, in linear (not log, not logit) units.

    The colour of a Gaussian seen along unit direction d is 0.5 + sum_k Y_k(d) sh[k] (3DGS
    convention, sRGB values), so a constant colour c is sh[0] = (c - 0.5) / 0.28209479.
    """

    means: np.ndarray  # [N, 3] float32, metres
    quats: np.ndarray  # [N, 4] float32, wxyz, unit
    scales: np.ndarray  # [N, 3] float32, metres, standard deviations along the rotated axes
    opacities: np.ndarray  # [N] float32, 0..1
    sh: np.ndarray  # [N, K, 3] float32, K = (degree + 1)^2, degree 0..3

    def __len__(self) -> int:
        return len(self.means)

    @property
    def sh_degree(self) -> int:
        return round(self.sh.shape[1] ** 0.5) - 1
