# SPDX-License-Identifier: GPL-3.0-or-later
"""Splats out of Blender and back: exact under any transform, and the scene stays as it was."""

import os

import bpy
import crowdgaussian_addon
import numpy as np
import pytest
from _support.blender.blender_people import make_avatar, make_camera, random_pose, write_scene
from _support.blender.evaluated import QUADS, deformed, show_posed_quads
from _support.blender.exporting import record, refused, start, turned_and_stretched
from _support.made_up import covariances
from crowdgaussian_addon.ops.export import CROWDGAUSSIAN_OT_export_splats as Exporter
from crowdgaussian_addon.scene.motion.record import each_frame
from crowdgaussian_addon.scene.rig.armature import set_pose
from crowdgaussian_shared.formats.splat_ply import read_splat_ply
from crowdgaussian_shared.geometry.axes import convert_gaussians
from crowdgaussian_shared.geometry.rotations import axis_angle_to_matrix
from crowdgaussian_shared.geometry.sh import eval_sh
from crowdgaussian_shared.geometry.skinning import pose_avatar
from mathutils import Matrix

COUNT = 300


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two people, and the add-on registered."""
    avatars = [make_avatar(COUNT, 3, seed) for seed in (0, 1)]
    crowdgaussian_addon.register()
    yield write_scene(tmp_path_factory.mktemp("crowd") / "out", avatars, make_camera())
    crowdgaussian_addon.unregister()


@pytest.fixture
def crowd(folder):
    """Both in a fresh file."""
    return start(folder).people


def export(path, **options) -> list:
    assert bpy.ops.crowdgaussian.export_splats(filepath=str(path), **options) == {"FINISHED"}
    return sorted(path.parent.glob("*.ply"))


def evaluated_axes(obj):
    """Centres [N, 3] and scaled axes [N, 3, 3] as the bones move them in Blender."""
    points = deformed(obj).reshape(-1, 4, 3)
    return points[:, 0], (points[:, 1:] - points[:, :1]).transpose(0, 2, 1)


def test_a_leaning_stretched_crowd_is_where_blender_shows_it(crowd, tmp_path):
    turned_and_stretched(crowd[0].rig)
    crowd[1].splats.location = (0.1, 0.2, 0.3)  # moved against the rig
    (path,) = export(tmp_path / "a.ply", axes="blender")
    read = read_splat_ply(path)
    shown = [evaluated_axes(person.splats) for person in crowd]
    centres, axes = (np.concatenate(parts) for parts in zip(*shown))
    np.testing.assert_allclose(read.means, centres, atol=1e-4)
    wanted = axes @ axes.transpose(0, 2, 1)
    assert np.abs(covariances(read) - wanted).max() < 1e-5  # square metres, and in proportion:
    assert np.median(np.abs(covariances(read) - wanted) / np.abs(wanted).max()) < 1e-4


def test_scattered_copies_are_where_blender_instances_them(crowd, tmp_path):
    bpy.ops.mesh.primitive_plane_add(size=20)
    bpy.context.object.rotation_euler = (0.1, 0, 0)
    plane = bpy.context.object.name
    bpy.ops.crowdgaussian.scatter(target=plane, count=5, size=0.2)
    bpy.ops.object.select_all(action="DESELECT")
    paths = export(tmp_path / "a.ply", axes="blender", separate=True)
    assert len(paths) == 2 + 5, "people and their copies"
    copies = [obj for obj in bpy.context.scene.objects if obj.instance_collection]
    for copy in copies:
        actor = copy.instance_collection
        splats = next(obj for obj in actor.objects if obj.get("crowdgaussian_role") == "splats")
        if QUADS not in splats.modifiers:
            show_posed_quads(splats)
    depsgraph = bpy.context.evaluated_depsgraph_get()
    seen = {}
    for instance in depsgraph.object_instances:
        obj = instance.object
        if instance.is_instance and obj.get("crowdgaussian_role") == "splats":
            points = np.array([v.co for v in obj.data.vertices])[::4]
            world = np.array(instance.matrix_world)
            seen[instance.parent.original] = points @ world[:3, :3].T + world[:3, 3]
    for copy in copies:
        read = read_splat_ply(tmp_path / f"a_{copy.name.replace(' ', '_')}.ply")
        np.testing.assert_allclose(read.means, seen[copy], atol=1e-4)
    copies[0].select_set(True)
    export(tmp_path / "one.ply")
    assert len(read_splat_ply(tmp_path / "one.ply")) == COUNT


def test_colours_turn_with_the_rig(crowd, folder, tmp_path):
    """Turning the rig object and looking from the turned side shows the same colour."""
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(COUNT, 3))
    seen /= np.linalg.norm(seen, axis=1, keepdims=True)
    bpy.context.view_layer.objects.active = crowd[0].rig
    crowd[0].rig.select_set(True)
    (first,) = export(tmp_path / "a.ply", axes="blender")
    before = eval_sh(read_splat_ply(first).sh, seen)
    turn = axis_angle_to_matrix(np.array([0.5, -0.8, 1.2]))
    crowd[0].rig.matrix_world = (
        Matrix(np.block([[turn, np.zeros((3, 1))], [0, 0, 0, 1]]).tolist())
        @ crowd[0].rig.matrix_world
    )
    bpy.context.view_layer.update()
    export(tmp_path / "b.ply", axes="blender")
    after = eval_sh(read_splat_ply(tmp_path / "b.ply").sh, seen @ turn.T)
    assert len(after) == COUNT, "one person was selected"
    np.testing.assert_allclose(after, before, atol=1 / 255 / 10)


def test_the_photo_pose_equals_the_scene_folder(crowd, folder, tmp_path):
    before = record()
    paths = export(tmp_path / "a.ply", separate=True)
    assert record() == before
    for index, path in enumerate(paths):
        wanted = convert_gaussians(pose_avatar(folder.read_avatar(index)), "scene", "opencv")
        read = read_splat_ply(path)
        np.testing.assert_allclose(read.means, wanted.means, atol=1e-4)
        np.testing.assert_allclose(read.sh, wanted.sh, atol=2e-4)
        np.testing.assert_allclose(read.opacities, wanted.opacities, atol=1e-5)


def animate(crowd, folder):
    rng = np.random.default_rng(1)
    for person in crowd:
        for frame in (1, 5):
            set_pose(person.rig, random_pose(rng, 0), (0.1 * frame, 1.0, -4.0), frame=frame)


def test_a_frame_range_is_a_sequence(crowd, folder, tmp_path):
    animate(crowd, folder)
    bpy.context.scene.frame_set(3, subframe=0.25)
    before = record()
    paths = export(tmp_path / "a.ply", animation=True, frame_start=-1, frame_end=5, frame_step=2)
    assert [p.name for p in paths] == ["a_-0001.ply", "a_0001.ply", "a_0003.ply", "a_0005.ply"]
    assert record() == before
    bpy.context.scene.frame_set(5)
    export(tmp_path / "now.ply")
    last, now = read_splat_ply(paths[-1]), read_splat_ply(tmp_path / "now.ply")
    np.testing.assert_array_equal(last.means, now.means)
    assert np.abs(read_splat_ply(paths[1]).means - now.means).max() > 0.1


def test_moving_rigs_take_their_splats_along_though_those_are_not_evaluated(crowd, tmp_path):
    rig = crowd[0].rig
    for frame, x in ((1, 0.0), (5, 2.0)):
        rig.location.x = x
        rig.keyframe_insert("location", frame=frame)
    paths = export(tmp_path / "a.ply", animation=True, frame_start=1, frame_end=5, frame_step=4)
    first, last = (read_splat_ply(path).means for path in paths)
    moved = np.linalg.norm(last - first, axis=1)
    np.testing.assert_allclose(np.sort(moved), [0] * COUNT + [2] * COUNT, atol=1e-4)
    shown = []
    for _ in each_frame(bpy.context.scene, [1, 2]):
        shown += [not person.splats.hide_viewport for person in crowd]
    assert not any(shown) and not any(person.splats.hide_viewport for person in crowd)


def test_stopping_leaves_whole_files_and_the_frame(crowd, folder, tmp_path, monkeypatch):
    animate(crowd, folder)
    bpy.context.scene.frame_set(2)
    before = record()

    said = []

    def stopped(self, context):  # as Esc does it
        steps = self.steps(context)
        said.extend(next(steps) for _ in range(20))
        steps.close()
        return {"CANCELLED"}

    monkeypatch.setattr(Exporter, "execute", stopped)
    bpy.ops.crowdgaussian.export_splats(
        filepath=str(tmp_path / "a.ply"), animation=True, frame_start=1, frame_end=50
    )
    assert 0 <= said[0][0] < said[-1][0] < 1 and said[-1][1].startswith("Writing a_00")
    assert record() == before
    files = sorted(tmp_path.iterdir())
    assert 2 <= len(files) < 20
    assert all(len(read_splat_ply(path)) == 2 * COUNT for path in files)


def test_own_export_comes_back(crowd, tmp_path):
    (path,) = export(tmp_path / "a.ply")
    count = len(bpy.context.scene.objects)
    assert bpy.ops.crowdgaussian.import_splats(filepath=str(path)) == {"FINISHED"}
    (obj,) = bpy.context.selected_objects
    assert len(bpy.context.scene.objects) == count + 1 and len(obj.data.polygons) == 2 * COUNT
    export(tmp_path / "b.ply")
    wanted, read = read_splat_ply(path), read_splat_ply(tmp_path / "b.ply")
    np.testing.assert_allclose(read.means, wanted.means, atol=1e-5)
    np.testing.assert_allclose(read.sh, wanted.sh, atol=1e-5)
    obj.matrix_world = Matrix.Translation((0, 0, 2)) @ obj.matrix_world
    bpy.context.view_layer.update()
    export(tmp_path / "c.ply")
    moved = read_splat_ply(tmp_path / "c.ply").means - wanted.means
    np.testing.assert_allclose(moved, np.tile([0, -2, 0], (2 * COUNT, 1)), atol=1e-5)


def test_a_person_without_rig_is_named(crowd, tmp_path):
    bpy.data.objects.remove(crowd[1].rig)
    crowd[1].splats.select_set(True)
    said = refused(bpy.ops.crowdgaussian.export_splats, filepath=str(tmp_path / "a.ply"))
    assert said.startswith("Person 001's rig was deleted") and not os.listdir(tmp_path)
