# SPDX-License-Identifier: GPL-3.0-or-later
"""Preview pictures of assets, painted here: points with colours, the nearest on top.

Rendering would need a camera, lights and seconds, and would touch the scene.
"""

from typing import Any

import bpy
import numpy as np
from crowdgaussian_shared.geometry.avatar import BodyMesh, Gaussians
from crowdgaussian_shared.geometry.rotations import axis_angle_to_matrix
from crowdgaussian_shared.geometry.sh import sh_to_colour
from crowdgaussian_shared.geometry.skinning import joint_transforms, skin
from crowdgaussian_shared.motion.motion import Motion

_SIZE = 192  # pixels
_MARGIN = 0.06
_TURN = 0.35  # radians the viewer stands to the side
_LIGHT = np.array([0.35, 0.55, 0.76])  # towards the light, unit
_SKIN = np.array([0.72, 0.73, 0.78])


def paint_pose(body: BodyMesh, rest_joints: np.ndarray, still: Motion) -> np.ndarray:
    """A body in a pose, in plain clay.  # [S, S, 4] sRGB with alpha, bottom row first"""
    transforms = joint_transforms(rest_joints, still.poses[0], still.transl[0])
    vertices = skin(body.vertices, body.skin_joints, body.skin_weights, transforms)
    corners = vertices[body.faces].astype(np.float64)  # [F, 3, 3]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    shade = 0.35 + 0.65 * np.clip(normals @ _LIGHT, 0, 1)
    # Corners and points between them: triangles are small beside a pixel of the picture.
    weights = np.array([[1, 1, 1], [4, 1, 1], [1, 4, 1], [1, 1, 4]], float)
    weights /= weights.sum(axis=1, keepdims=True)
    points = np.einsum("kc,fcx->fkx", weights, corners).reshape(-1, 3)
    return _paint(points, np.repeat(shade[:, None] * _SKIN, len(weights), axis=0), 2)


def paint_person(gaussians: Gaussians) -> np.ndarray:
    """Posed Gaussians in their own colours.  # [S, S, 4] sRGB with alpha, bottom row first"""
    solid = gaussians.opacities > 0.4
    colours = np.clip(sh_to_colour(gaussians.sh[solid]), 0, 1)
    return _paint(gaussians.means[solid].astype(np.float64), colours, 3)


def set_preview(data: bpy.types.ID, picture: np.ndarray) -> None:
    """Give an asset its picture."""
    preview = data.preview_ensure()
    preview.image_size = picture.shape[1::-1]
    pixels: Any = preview.image_pixels_float  # an array of them
    pixels.foreach_set(np.ascontiguousarray(picture, np.float32).ravel())


def _paint(points: np.ndarray, colours: np.ndarray, width: int) -> np.ndarray:
    """Squares of some pixels, drawn from back to front, seen from the front and a little aside."""
    seen = points @ axis_angle_to_matrix(np.array([0.0, -_TURN, 0.0])).T
    low, high = seen[:, :2].min(axis=0), seen[:, :2].max(axis=0)
    scale = _SIZE * (1 - 2 * _MARGIN) / max((high - low).max(), 1e-6)
    places = (seen[:, :2] - (low + high) / 2) * scale + _SIZE / 2
    order = np.argsort(seen[:, 2], kind="stable")
    depth = np.full((_SIZE, _SIZE), -1)
    columns, rows = np.floor(places[order]).astype(int).T
    for dx in range(width):
        for dy in range(width):
            x = np.clip(columns + dx - width // 2, 0, _SIZE - 1)
            y = np.clip(rows + dy - width // 2, 0, _SIZE - 1)
            np.maximum.at(depth, (y, x), np.arange(len(order)))
    picture = np.zeros((_SIZE, _SIZE, 4))
    drawn = depth >= 0
    picture[drawn, :3] = colours[order][depth[drawn]]
    picture[drawn, 3] = 1.0
    return picture
