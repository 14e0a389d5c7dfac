# SPDX-License-Identifier: GPL-3.0-or-later
"""The photo's camera as a Blender camera, exact for off-centre principal points."""

from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np
from crowdgaussian_shared.geometry.axes import (
    BLENDER_CAMERA_FROM_OPENCV_CAMERA,
    viewmat_to_blender_camera,
)
from crowdgaussian_shared.geometry.camera import Camera
from crowdgaussian_shared.scene.schema import CameraInfo
from mathutils import Matrix

from ..attributes import camera_data

SENSOR = 36.0  # millimetres on the longer side of the picture, as sensor_fit AUTO has it


@dataclass(frozen=True)
class Lens:
    """Blender's way of writing K."""

    lens: float  # millimetres
    shift_x: float  # in units of the longer side
    shift_y: float
    pixel_aspect_x: float  # at least 1, as Blender demands
    pixel_aspect_y: float


def lens_from_K(K: np.ndarray, width: int, height: int) -> Lens:
    """K in pixels to Blender's lens, shift and pixel aspect for sensor_fit AUTO.

    A Blender camera with sensor s and lens l sees f = l / s times the longer side of the picture,
    measured in the smaller pixel pitch; the shift moves the frame, so it is minus the offset of
    the principal point, in units of the same side.
    """
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    aspect_x, aspect_y = max(1.0, fy / fx), max(1.0, fx / fy)  # the smaller pixel pitch is 1
    side = max(width * aspect_x, height * aspect_y)
    return Lens(
        lens=float(fx * aspect_x / side * SENSOR),
        shift_x=float((width / 2 - cx) * aspect_x / side),
        shift_y=float((cy - height / 2) * aspect_y / side),
        pixel_aspect_x=float(aspect_x),
        pixel_aspect_y=float(aspect_y),
    )


def build_camera(camera: Camera, name: str) -> bpy.types.Object:
    """A camera object with the photo's K and pose; the caller links it to a collection."""
    data = bpy.data.cameras.new(name)
    lens = lens_from_K(camera.K, camera.width, camera.height)
    data.sensor_fit, data.sensor_width = "AUTO", SENSOR
    data.lens, data.shift_x, data.shift_y = lens.lens, lens.shift_x, lens.shift_y
    data.clip_start, data.clip_end = 0.05, 1000.0
    obj = bpy.data.objects.new(name, data)
    obj.matrix_world = Matrix(viewmat_to_blender_camera(camera.viewmat).tolist())
    return obj


def set_resolution(scene: bpy.types.Scene, camera: Camera, width: int | None = None) -> None:
    """Render at the photo's size, or scaled to another width, with the photo's pixel aspect."""
    lens = lens_from_K(camera.K, camera.width, camera.height)
    scale = 1.0 if width is None else width / camera.width
    render = scene.render
    render.resolution_x = max(1, round(camera.width * scale))
    render.resolution_y = max(1, round(camera.height * scale))
    render.resolution_percentage = 100
    render.pixel_aspect_x, render.pixel_aspect_y = lens.pixel_aspect_x, lens.pixel_aspect_y


def show_photo(camera: bpy.types.Object, photo: Path) -> None:
    """Put the photo behind the scene in the camera's view."""
    background = camera_data(camera).background_images.new()
    background.image = bpy.data.images.load(str(photo.resolve()), check_existing=True)
    background.alpha = 1.0
    background.display_depth = "BACK"
    background.frame_method = "STRETCH"
    camera_data(camera).show_background_images = True


# From a place in the camera's view to a pixel of the photo, whatever the render size is


def pixel_of_direction(camera: CameraInfo, turn: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """The pixel in which a direction is seen.

    Args:
        camera: the photo's.
        turn: [3, 3] of the photo camera in Blender, camera axes -> world.
        direction: [3] in the world, of any length, in front of the camera.

    Returns:
        x and y, pixels; outside of the photo too.
    """
    x, y, z = camera.K @ (BLENDER_CAMERA_FROM_OPENCV_CAMERA.T @ turn.T @ direction)
    return np.array([x / z, y / z])
