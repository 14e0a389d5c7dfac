# SPDX-License-Identifier: Apache-2.0
"""The photo's K in Blender's words."""

import bpy
import numpy as np
import pytest
from bpy_extras.object_utils import world_to_camera_view
from crowdgaussian_addon.scene.render.camera import build_camera, set_resolution
from crowdgaussian_shared.geometry.axes import scene_to_blender, scene_viewmat
from crowdgaussian_shared.geometry.camera import Camera
from mathutils import Vector

CASES = {
    "landscape": (640, 480, (700.0, 700.0, 320.0, 240.0)),
    "portrait": (480, 640, (700.0, 700.0, 240.0, 320.0)),
    "off-centre landscape": (640, 480, (500.0, 500.0, 260.0, 300.0)),
    "off-centre portrait": (300, 800, (900.0, 900.0, 190.0, 333.0)),
    "wide pixels": (640, 480, (600.0, 660.0, 300.0, 250.0)),
    "tall pixels": (640, 480, (700.0, 610.0, 330.0, 250.0)),
    "tall pixels portrait": (480, 600, (700.0, 500.0, 250.0, 280.0)),
}


@pytest.mark.parametrize("case", CASES)
def test_projection_equals_K(empty_blender, case):
    width, height, (fx, fy, cx, cy) = CASES[case]
    K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    camera = Camera(K, scene_viewmat(1.6, pitch=0.2, roll=-0.1), width, height)
    obj = build_camera(camera, "camera")
    empty_blender.collection.objects.link(obj)
    set_resolution(empty_blender, camera)
    bpy.context.view_layer.update()
    points = np.random.default_rng(0).uniform((-1, 0, -6), (1, 2, -3), (20, 3))
    seen = points @ camera.viewmat[:3, :3].T + camera.viewmat[:3, 3]
    wanted = seen @ K.T
    wanted = wanted[:, :2] / wanted[:, 2:]
    for point, pixel in zip(scene_to_blender(points), wanted):
        view = world_to_camera_view(empty_blender, obj, Vector(point))
        np.testing.assert_allclose((view.x * width, (1 - view.y) * height), pixel, atol=0.01)


def test_smaller_render_keeps_the_frame(empty_blender):
    camera = Camera(np.diag([900.0, 900.0, 1.0]), np.eye(4), 1600, 1200)
    set_resolution(empty_blender, camera, width=640)
    render = empty_blender.render
    assert (render.resolution_x, render.resolution_y) == (640, 480)
