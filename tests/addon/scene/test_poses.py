# SPDX-License-Identifier: GPL-3.0-or-later
"""The pose library and people as assets."""

from dataclasses import fields
from types import SimpleNamespace

import bpy
import crowdgaussian_addon
import numpy as np
import pytest
from _support.blender.fake_layout import FakeLayout
from _support.made_up_motion import cmu_walk
from crowdgaussian_addon.ops import motion as motion_ops
from crowdgaussian_addon.scene.importer import import_scene
from crowdgaussian_addon.scene.motion.apply import MotionOptions
from crowdgaussian_addon.scene.motion.keys import bone_poses, bone_values, read_bones
from crowdgaussian_addon.scene.people import all_people, read_pose
from crowdgaussian_addon.scene.poses import assets as catalogue
from crowdgaussian_addon.scene.poses.library import pose_assets
from crowdgaussian_addon.scene.poses.shapes import POSES, pose_angles
from crowdgaussian_addon.scene.rig.read_pose import photo_pose, read_rest_joints
from crowdgaussian_addon.ui import people as motion
from crowdgaussian_shared.geometry.rotations import axis_angle_to_matrix
from crowdgaussian_shared.geometry.skinning import joint_transforms

FEET = [7, 8, 10, 11]


@pytest.fixture
def people(empty_blender, scene_folder):
    crowdgaussian_addon.register()
    import_scene(scene_folder)
    bpy.context.view_layer.update()
    yield all_people(bpy.context.scene)
    crowdgaussian_addon.unregister()


def turns_of(person):
    pose, transl = read_pose(person.rig)
    return axis_angle_to_matrix(pose), transl


def test_bones_and_angles_are_inverse(people):
    rng = np.random.default_rng(0)
    poses, transl = rng.normal(0, 0.7, (6, 55, 3)), rng.normal(0, 1, (6, 3))
    values = bone_values(people[0].rig, poses, transl)
    back, place = bone_poses(people[0].rig, values)
    np.testing.assert_allclose(back, poses, atol=1e-5)
    np.testing.assert_allclose(place, transl, atol=1e-5)


def test_a_pose_keeps_place_and_facing_and_the_photo_pose_comes_back(people):
    before = turns_of(people[1])
    assert bpy.ops.crowdgaussian.apply_pose(pose="Sitting") == {"FINISHED"}
    for person in people:
        turns, transl = turns_of(person)
        wanted = axis_angle_to_matrix(pose_angles("Sitting"))
        np.testing.assert_allclose(turns[1:], wanted[1:], atol=1e-4)
        rest = read_rest_joints(person.rig)
        transforms = joint_transforms(rest, *read_pose(person.rig))
        joints = (transforms @ np.c_[rest, np.ones(55)][..., None])[:, :3, 0]
        assert 0.0 < joints[FEET, 1].min() < 0.06  # the made-up soles lie 3 cm below the balls
        assert 0.3 < joints[0, 1] < 0.75  # the pelvis came down
        assert person.rig.animation_data.action.frame_range[0] == 1  # keyed
    bpy.ops.crowdgaussian.apply_pose(pose="Photo pose")
    turns, transl = turns_of(people[1])
    np.testing.assert_allclose(turns, before[0], atol=1e-3)
    np.testing.assert_allclose(transl, before[1], atol=1e-3)
    np.testing.assert_allclose(before[1], photo_pose(people[1].rig)[1], atol=1e-4)


def test_half_a_pose_is_half_way(people):
    bpy.ops.crowdgaussian.apply_pose(pose="T-pose")
    bpy.ops.crowdgaussian.apply_pose(pose="A-pose", factor=0.5)
    poses, _ = bone_poses(people[0].rig, read_bones(people[0].rig))
    np.testing.assert_allclose(poses[0, 16], (0, 0, -np.pi / 8), atol=1e-4)
    np.testing.assert_allclose(poses[0, 17], (0, 0, np.pi / 8), atol=1e-4)


def test_the_library_has_pictures_and_a_catalogue_beside_the_file(people, tmp_path):
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "crowd.blend"))
    catalogues = tmp_path / "blender_assets.cats.txt"
    mine = "VERSION 1\n\n11111111-2222-4333-8444-555555555555:Mine:Mine"
    catalogues.write_text(mine)
    for _ in range(2):  # again changes nothing
        assert bpy.ops.crowdgaussian.add_pose_library() == {"FINISHED"}
    text = catalogues.read_text()
    assert text.startswith(mine + "\n")
    assert text.count(catalogue.POSES) == text.count(catalogue.PEOPLE) == 1
    names = sorted(action.name for action in pose_assets())
    photos = [f"Photo pose {person.name}" for person in people]
    assert names == sorted([*POSES, *photos])
    for action in pose_assets():
        assert action.asset_data.catalog_id == catalogue.POSES
        pixels = np.array(action.preview.image_pixels_float[:]).reshape(-1, 4)
        assert 0.005 < (pixels[:, 3] > 0).mean() < 0.9
    assert bpy.ops.crowdgaussian.apply_pose(pose=photos[1]) == {"FINISHED"}
    poses, _ = bone_poses(people[0].rig, read_bones(people[0].rig))
    wanted = axis_angle_to_matrix(photo_pose(people[1].rig)[0])
    np.testing.assert_allclose(axis_angle_to_matrix(poses[0, 1:]), wanted[1:], atol=1e-3)


def test_a_pose_of_ones_own_is_kept(people):
    with pytest.raises(RuntimeError, match="Select the one person"):
        bpy.ops.crowdgaussian.save_pose(name="Mine")
    people[0].rig.select_set(True)
    bpy.ops.crowdgaussian.apply_pose(pose="Waving")
    assert bpy.ops.crowdgaussian.save_pose(name="Mine") == {"FINISHED"}
    (asset,) = pose_assets()
    angles = np.array(asset["crowdgaussian_pose"]).reshape(55, 3)
    np.testing.assert_allclose(
        axis_angle_to_matrix(angles), axis_angle_to_matrix(pose_angles("Waving")), atol=1e-4
    )


def test_catalogues_of_another_version_are_left_alone(people, tmp_path):
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "crowd.blend"))
    (tmp_path / "blender_assets.cats.txt").write_text("VERSION 9\n")
    with pytest.raises(RuntimeError, match="version"):
        bpy.ops.crowdgaussian.add_pose_library()
    assert (tmp_path / "blender_assets.cats.txt").read_text() == "VERSION 9\n"
    assert not pose_assets()


def test_people_become_assets(people):
    assert bpy.ops.crowdgaussian.mark_people() == {"FINISHED"}
    for person in people:
        assert person.collection.asset_data.catalog_id == catalogue.PEOPLE
        pixels = np.array(person.collection.preview.image_pixels_float[:]).reshape(-1, 4)
        assert (pixels[:, 3] > 0).mean() > 0.03
        assert np.ptp(pixels[pixels[:, 3] > 0, :3]) > 0.3
    assert bpy.ops.crowdgaussian.mark_people(clear=True) == {"FINISHED"}
    assert all(person.collection.asset_data is None for person in people)


def test_the_panel_draws_and_its_buttons_say_what_they_miss(people):
    fake = SimpleNamespace(layout=FakeLayout())
    context = SimpleNamespace(scene=bpy.context.scene, selected_objects=[])
    motion.CROWDGAUSSIAN_PT_motion.draw_people(fake, context)
    assert {"crowdgaussian.choose_motion", "crowdgaussian.apply_motion",
            "crowdgaussian.apply_rig_motion", "crowdgaussian.add_pose_library",
            "crowdgaussian.save_pose", "crowdgaussian.mark_people"} \
        <= set(fake.layout.buttons())  # fmt: skip
    with pytest.raises(RuntimeError, match="Choose a motion file first"):
        bpy.ops.crowdgaussian.apply_motion()
    with pytest.raises(RuntimeError, match="Choose the rig"):
        bpy.ops.crowdgaussian.apply_rig_motion()
    bpy.ops.wm.read_factory_settings(use_empty=True)
    with pytest.raises(RuntimeError, match="no people|poll"):
        bpy.ops.crowdgaussian.apply_motion(filepath="x.bvh")


def test_a_motion_is_stopped_by_esc(people, tmp_path):
    """The modal operator driven by hand: Esc takes back what was made."""
    (tmp_path / "walk.bvh").write_text(cmu_walk(seconds=1.0)[0])
    before = sorted(a.name for a in bpy.data.actions)
    manager = SimpleNamespace(
        event_timer_remove=lambda _: None, progress_end=lambda: None, progress_update=lambda _: None
    )
    context = SimpleNamespace(scene=bpy.context.scene, selected_objects=[], workspace=None,
                              window_manager=manager)  # fmt: skip
    operator = stand_in(motion_ops.CROWDGAUSSIAN_OT_apply_motion, str(tmp_path / "walk.bvh"))
    operator._steps, operator._timer = operator.steps(context), None
    for _ in range(4):
        next(operator._steps)
    assert sorted(a.name for a in bpy.data.actions) != before
    escape = SimpleNamespace(type="ESC", value="PRESS")
    assert operator.modal(context, escape) == {"CANCELLED"}
    assert sorted(a.name for a in bpy.data.actions) == before
    assert all("photo pose" in p.rig.animation_data.action.name for p in people)


def stand_in(kind, filepath):
    """An operator's methods without Blender behind them, at its default options."""
    bases = [base for base in kind.__mro__ if base.__module__.startswith("crowdgaussian_addon")]
    members = {name: value for base in reversed(bases) for name, value in vars(base).items()
               if callable(value) or isinstance(value, property)}  # fmt: skip
    values = {f.name: f.default for f in fields(MotionOptions)}
    values |= {"filepath": filepath, "up": "auto", "fps": 0.0, "unit": "GUESS"}
    made = type("StandIn", (), members | values | {"report": lambda *_: None})
    return made()
