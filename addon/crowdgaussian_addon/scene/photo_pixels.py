# SPDX-License-Identifier: GPL-3.0-or-later
"""From a place in the camera's view to a pixel of the photo, whatever the render size is."""

import numpy as np
from crowdgaussian_shared.scene_schema import CameraInfo

_FLIP = np.diag([1.0, -1.0, -1.0])  # Blender's camera axes -> OpenCV's


def pixel_of_direction(camera: CameraInfo, turn: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """The pixel in which a direction is seen.

    Args:
        camera: the photo's.
        turn: [3, 3] of the photo camera in Blender, camera axes -> world.
        direction: [3] in the world, of any length, in front of the camera.

    Returns:
        x and y, pixels; outside of the photo too.
    """
    x, y, z = camera.K @ (_FLIP @ turn.T @ direction)
    return np.array([x / z, y / z])
