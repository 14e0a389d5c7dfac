# SPDX-License-Identifier: GPL-3.0-or-later
"""Cameras around a crowd, each as near as the people's size allows."""

from dataclasses import dataclass

import bpy
import numpy as np
from mathutils import Matrix

_FOV = np.radians(30.0)  # across the longer side
_MARGIN = 0.28  # metres around the joints: flesh, hair, hands
_SENSOR = 36.0  # millimetres


@dataclass(frozen=True)
class View:
    """A direction to look at the crowd from."""

    name: str  # of the file
    title: str  # for people
    azimuth: float  # degrees; 0 in front, 90 on the crowd's left
    elevation: float = 8.0  # degrees
    walking: bool = False  # everybody in the other pose


VIEWS = (
    View("front", "Front", 0),
    View("left", "Their left side", 90),
    View("back", "Back", 180),
    View("right", "Their right side", 270),
    View("posed", "Another pose, front", 0, walking=True),
    View("posed_corner", "Another pose, corner", 50, 14, walking=True),
)


def joint_places(rigs: list[bpy.types.Object]) -> np.ndarray:
    """World positions of all joints of all people as posed now.  # [J, 3]"""
    bpy.context.view_layer.update()
    return np.array([rig.matrix_world @ bone.head for rig in rigs for bone in rig.pose.bones])


def aim(camera: bpy.types.Object, view: View, places: np.ndarray, aspect: float) -> None:
    """Put a camera so that all places are in the picture with a margin.

    Args:
        camera: a camera object of its own.
        view: direction.
        places: [J, 3] metres, what must be seen.
        aspect: width over height of the picture, at least 1.
    """
    rotation = _rotation(view)
    centre = (places.min(axis=0) + places.max(axis=0)) / 2
    local = (places - centre) @ rotation  # [J, 3]: right, up, towards the camera
    tangent = np.array([np.tan(_FOV / 2), np.tan(_FOV / 2) / aspect])
    middle = (local[:, :2].max(axis=0) + local[:, :2].min(axis=0)) / 2
    reach = np.abs(local[:, :2] - middle) + _MARGIN
    distance = (reach / tangent + local[:, 2:]).max()
    world = np.eye(4)
    world[:3, :3] = rotation
    world[:3, 3] = centre + rotation @ np.append(middle, distance)
    camera.matrix_world = Matrix(world.tolist())
    camera.data.sensor_fit, camera.data.sensor_width = "AUTO", _SENSOR
    camera.data.lens = _SENSOR / 2 / np.tan(_FOV / 2)


def _rotation(view: View) -> np.ndarray:
    """Columns: right, up, backwards of a camera that looks at the crowd.  # [3, 3]"""
    azimuth, elevation = np.radians((view.azimuth, view.elevation))
    back = np.array([
        np.sin(azimuth) * np.cos(elevation), -np.cos(azimuth) * np.cos(elevation), np.sin(elevation)
    ])  # fmt: skip
    right = np.cross((0.0, 0.0, 1.0), back)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(back, right), back], axis=1)
