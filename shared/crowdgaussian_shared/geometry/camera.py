# SPDX-License-Identifier: Apache-2.0
"""A pinhole camera as plain numpy arrays."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Camera:
    """A pinhole camera in OpenCV axes (x right, y down, z forward).

    Pixel centres lie at half integers: the top left pixel covers [0, 1) x [0, 1).
    """

    K: np.ndarray  # [3, 3] float64, pixels; the principal point may be off-centre
    viewmat: np.ndarray  # [4, 4] float64, scene frame -> camera frame
    width: int  # pixels
    height: int  # pixels
