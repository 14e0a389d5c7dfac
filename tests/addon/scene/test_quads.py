# SPDX-License-Identifier: Apache-2.0
"""The quads that the nodes make: the projected covariance for any camera, viewport and limit."""

import bpy
import numpy as np
import pytest
from _support.blender.blender_people import make_avatar, make_camera, write_scene
from crowdgaussian_addon.scene.attributes import read_attribute, read_positions
from crowdgaussian_addon.scene.importer import import_scene
from crowdgaussian_addon.scene.render.viewport import (
    NOBODY,
    Follower,
    Report,
    is_worthwhile,
    show,
    view_empty,
    views_of,
)
from crowdgaussian_addon.scene.splats.build import set_input
from crowdgaussian_addon.scene.splats.material import CORNER
from crowdgaussian_addon.scene.splats.nodes.project import (
    DILATION,
    INPUT_FOOTPRINT,
    INPUT_MAX_SIZE,
    INPUT_MIN_SIZE,
)
from crowdgaussian_addon.scene.splats.nodes.view import ORTHOGRAPHIC, PERSPECTIVE
from crowdgaussian_shared.geometry.axes import convert_gaussians
from crowdgaussian_shared.geometry.rotations import quat_to_matrix
from crowdgaussian_shared.geometry.skinning import pose_avatar
from mathutils import Euler, Matrix


@pytest.fixture
def person(empty_blender, tmp_path):
    avatar = make_avatar(800)
    found = import_scene(write_scene(tmp_path / "out", [avatar], make_camera())).people[0]
    set_input(found.splats, INPUT_FOOTPRINT, 0.0)
    return found, avatar


def drawn(splats):
    """Centres [N, 3] and covariances [N, 3, 3] of the quads in the world."""
    bpy.context.view_layer.update()
    evaluated = splats.evaluated_get(bpy.context.evaluated_depsgraph_get())
    world = np.array(evaluated.matrix_world)
    points = read_positions(evaluated.data).astype(np.float64).reshape(-1, 4, 3)
    points = points @ world[:3, :3].T + world[:3, 3]
    reach = np.abs(read_attribute(evaluated.data, CORNER).reshape(-1, 4, 3)[:, 0, 0])
    first = (points[:, 1] - points[:, 0]) / (2 * reach[:, None])
    second = (points[:, 2] - points[:, 1]) / (2 * reach[:, None])
    axes = np.stack([first, second], axis=2)
    return points.mean(axis=1), axes @ axes.transpose(0, 2, 1)


def wanted(avatar, camera, pixel, orthographic=False, sizes=(0.0, np.inf)):
    """The same by EWA splatting (Zwicker et al. 2001) in the plane of each centre."""
    posed = convert_gaussians(pose_avatar(avatar), "scene", "blender")
    right, up, forward = camera[:3, 0], camera[:3, 1], -camera[:3, 2]
    rays = posed.means - camera[:3, 3] if not orthographic else np.tile(forward, (len(posed), 1))
    depths = rays @ forward
    axes = quat_to_matrix(posed.quats.astype(np.float64))
    axes = axes * posed.scales.clip(*sizes)[:, None, :]
    slide = np.eye(3) - rays[:, :, None] * forward / depths[:, None, None]
    seen = slide @ axes
    plane = np.outer(right, right) + np.outer(up, up)
    spread = DILATION * (pixel * depths) ** 2
    return posed.means, seen @ seen.transpose(0, 2, 1) + spread[:, None, None] * plane


def compare(found, expected):
    np.testing.assert_allclose(found[0], expected[0], atol=1e-4)
    size = np.trace(expected[1], axis1=1, axis2=2)[:, None, None]
    np.testing.assert_allclose(found[1] / size, expected[1] / size, atol=2e-3)


def test_perspective_camera(person):
    found, avatar = person
    scene = bpy.context.scene
    camera = scene.camera.data
    pixel = camera.sensor_width / camera.lens / scene.render.resolution_x
    compare(drawn(found.splats), wanted(avatar, np.array(scene.camera.matrix_world), pixel))


def test_orthographic_camera(person):
    found, avatar = person
    scene = bpy.context.scene
    scene.camera.data.type = "ORTHO"
    scene.camera.data.ortho_scale = 5.0
    pixel = 5.0 / scene.render.resolution_x
    matrix = np.array(scene.camera.matrix_world)
    compare(drawn(found.splats), wanted(avatar, matrix, pixel, orthographic=True))


def test_upright_sensor(person):
    found, avatar = person
    scene = bpy.context.scene
    scene.camera.data.sensor_fit = "VERTICAL"
    scene.camera.data.sensor_height = 20.0
    scene.render.resolution_percentage = 50
    pixel = 20.0 / scene.camera.data.lens / (0.5 * scene.render.resolution_y)
    compare(drawn(found.splats), wanted(avatar, np.array(scene.camera.matrix_world), pixel))


def test_a_scene_may_lose_its_camera_and_get_another(person):
    found, avatar = person
    scene, first = bpy.context.scene, bpy.context.scene.camera
    matrix, data = first.matrix_world.copy(), first.data
    bpy.data.objects.remove(first)
    drawn(found.splats)  # the drivers have been evaluated without a camera
    scene.camera = bpy.data.objects.new("another", data)
    scene.collection.objects.link(scene.camera)
    scene.camera.matrix_world = matrix
    pixel = data.sensor_width / data.lens / scene.render.resolution_x
    compare(drawn(found.splats), wanted(avatar, np.array(matrix), pixel))


def test_size_limits(person):
    found, avatar = person
    scene = bpy.context.scene
    set_input(found.splats, INPUT_MIN_SIZE, 0.015)
    set_input(found.splats, INPUT_MAX_SIZE, 0.02)
    camera = scene.camera.data
    pixel = camera.sensor_width / camera.lens / scene.render.resolution_x
    matrix = np.array(scene.camera.matrix_world)
    assert (avatar.gaussians.scales < 0.015).any() and (avatar.gaussians.scales > 0.02).any()
    # the pose shears a little, and limits hold for what is seen, so only roughly so
    expected = wanted(avatar, matrix, pixel, sizes=(0.015, 0.02))
    ratio = np.trace(drawn(found.splats)[1], axis1=1, axis2=2) / np.trace(
        expected[1], axis1=1, axis2=2
    )
    assert 0.9 < ratio.min() and ratio.max() < 1.1


@pytest.mark.parametrize("kind", [PERSPECTIVE, ORTHOGRAPHIC])
def test_quads_face_the_viewport_that_is_reported(person, kind):
    found, avatar = person
    camera_view = drawn(found.splats)
    turn = Euler((1.2, 0.1, 2.0)).to_matrix()
    matrix = Matrix.Translation((2.5, 2.0, 1.8)) @ turn.to_4x4()
    show(Report(tuple(matrix.translation), tuple(matrix.to_quaternion()), 0.002, kind))
    flat = kind == ORTHOGRAPHIC
    compare(drawn(found.splats), wanted(avatar, np.array(matrix), 0.002, flat))
    show(NOBODY)
    compare(drawn(found.splats), camera_view)


def test_a_deleted_view_leaves_the_scenes_camera(person):
    found, _ = person
    camera_view = drawn(found.splats)
    show(Report((1.0, 2.0, 3.0), (0.0, 1.0, 0.0, 0.0), 0.001, PERSPECTIVE))
    bpy.data.objects.remove(view_empty())
    compare(drawn(found.splats), camera_view)


def test_slow_turns_are_followed_in_steps_and_exactly_at_rest(person):
    follower = Follower()

    def views(degrees):
        turn = Euler((np.radians(90), 0, np.radians(degrees))).to_quaternion()
        return {1: Report((0.0, -3.0, 1.0), tuple(turn), 0.001, PERSPECTIVE)}

    def facing():
        return np.degrees(view_empty().rotation_quaternion.to_euler().z)

    follower.look(views(0))
    assert abs(facing()) < 0.01
    follower.look(views(1))
    follower.look(views(2))
    assert abs(facing()) < 0.01  # not worth a picture while it moves
    follower.look(views(7))
    assert abs(facing() - 7) < 0.01
    follower.look(views(8))
    follower.look(views(8))
    assert abs(facing() - 8) < 0.01
    follower.look({})
    assert view_empty().scale.y < 1.5  # off


def test_nothing_is_done_for_a_view_that_rests():
    view = Report((0.0, 0.0, 1.0), kind=PERSPECTIVE)
    assert not is_worthwhile(view, view, resting=True)
    assert is_worthwhile(view, NOBODY, resting=False)


def test_a_window_reports_its_viewport(empty_blender):
    (view,) = views_of(bpy.context.window_manager).values()
    assert view == NOBODY or view.kind in (PERSPECTIVE, ORTHOGRAPHIC)
    assert np.isfinite(np.array(view.matrix)).all()
