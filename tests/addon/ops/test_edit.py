# SPDX-License-Identifier: Apache-2.0
"""Splats selected and deleted by size, opacity, place and hand: undone, saved, on all levels."""

from types import SimpleNamespace

import bpy
import crowdgaussian_addon
import numpy as np
import pytest
from _support.blender.blender_people import make_avatar, make_camera, write_scene
from _support.blender.fake_layout import FakeLayout
from crowdgaussian_addon.scene.export.splats import cast_person
from crowdgaussian_addon.scene.importer import import_scene
from crowdgaussian_addon.scene.people import all_people, read_avatar
from crowdgaussian_addon.scene.render.display import reduced_of, set_level
from crowdgaussian_addon.scene.splats.edit import adrift
from crowdgaussian_addon.ui.people import CROWDGAUSSIAN_PT_editing
from crowdgaussian_shared.geometry.axes import convert_points

COUNT = 200
OPS = bpy.ops.crowdgaussian


@pytest.fixture
def people(empty_blender, tmp_path):
    """Two people of few splats; the first has two large and three faint ones."""
    crowdgaussian_addon.register()
    avatars = [make_avatar(COUNT, 1, seed=seed) for seed in (0, 1)]
    for avatar in avatars:
        avatar.gaussians.scales[:] = np.minimum(avatar.gaussians.scales, 0.1)
    avatars[0].gaussians.scales[[5, 90], 0] = 0.5
    avatars[0].gaussians.opacities[[7, 8, 150]] = 0.05
    import_scene(write_scene(tmp_path / "out", avatars, make_camera()).path)
    bpy.context.view_layer.update()
    bpy.ops.ed.undo_push(message="two people")
    yield all_people(bpy.context.scene)
    if bpy.context.mode != "OBJECT":
        bpy.ops.object.mode_set(mode="OBJECT")
    crowdgaussian_addon.unregister()


def count(person=0):
    return len(all_people(bpy.context.scene)[person].splats.data.polygons)


def test_large_splats_go_with_everything_of_theirs_and_come_back_by_undo(people):
    before = read_avatar(people[0])
    set_level(people[0], "REDUCED", ("VIEWPORT",))
    assert OPS.edit_splats(by="SIZE", action="DELETE", size=0.3) == {"FINISHED"}
    kept = np.setdiff1d(np.arange(COUNT), [5, 90])
    after = read_avatar(people[0])
    for name in ("means", "quats", "scales", "opacities", "sh"):
        wanted = getattr(before.gaussians, name)[kept]
        np.testing.assert_allclose(getattr(after.gaussians, name), wanted, atol=1e-6)
    np.testing.assert_array_equal(after.skin_joints, before.skin_joints[kept])
    np.testing.assert_allclose(after.skin_weights, before.skin_weights[kept], atol=1e-6)
    assert count(1) == COUNT
    assert reduced_of(people[0]).data["crowdgaussian_reduced_from"] == COUNT - 2
    bpy.ops.ed.undo_push(message="deleted")
    bpy.ops.ed.undo()
    assert count() == COUNT
    bpy.ops.ed.redo()
    assert count() == COUNT - 2


def test_faint_ones_are_selected_then_deleted_by_hand_and_saved_so(people, tmp_path):
    assert OPS.edit_splats(by="OPACITY", action="SELECT", opacity=0.1) == {"FINISHED"}
    assert bpy.context.mode == "EDIT_MESH"
    assert OPS.edit_splats(by="SELECTED", action="DELETE") == {"FINISHED"}
    assert bpy.context.mode == "EDIT_MESH" and count() == COUNT - 3
    bpy.ops.object.mode_set(mode="OBJECT")
    assert read_avatar(people[0]).gaussians.opacities.min() > 0.1
    path = tmp_path / "edited.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    bpy.ops.wm.open_mainfile(filepath=str(path))
    assert count() == COUNT - 3
    bpy.ops.object.select_all(action="DESELECT")
    OPS.export_splats(filepath=str(tmp_path / "all.ply"))
    head = (tmp_path / "all.ply").read_bytes()[:300].decode(errors="replace")
    assert f"element vertex {2 * COUNT - 3}\n" in head


def test_a_box_crops_people_as_they_are_posed(people):
    set_level(people[0], "REDUCED", ("VIEWPORT",))
    people[0].rig.select_set(True)
    people[0].rig.rotation_euler.z += 0.4
    assert OPS.add_crop(shape="CUBE") == {"FINISHED"}
    box = bpy.context.active_object
    people[0].rig.select_set(True)
    with pytest.raises(RuntimeError, match="No splat of those chosen is meant"):
        OPS.edit_splats(by="INSIDE", action="KEEP")  # all of them are inside
    low = box.location.z - box.scale.z
    box.location.z, box.scale.z = low + 0.5, 0.5  # what lies below a metre
    bpy.context.view_layer.update()
    centres = convert_points(cast_person(people[0]).posed().means, "scene", "blender")
    below = int((centres[:, 2] <= low + 1.0).sum())
    assert 10 < below < COUNT
    assert OPS.edit_splats(by="INSIDE", action="DELETE") == {"FINISHED"}
    assert (count(), count(1)) == (COUNT - below, COUNT)
    OPS.add_crop(shape="SPHERE")
    ball = bpy.context.active_object
    ball.scale = (1e-4,) * 3
    bpy.context.view_layer.update()
    with pytest.raises(RuntimeError, match="would lose all"):
        OPS.edit_splats(by="INSIDE", action="KEEP", gizmo=ball.name)


def test_what_hangs_together_with_nothing_is_adrift():
    grid = np.stack(np.meshgrid(*[np.arange(6) * 0.02] * 3), axis=-1).reshape(-1, 3)
    far = np.array([[0.3, 0, 0], [0.31, 0, 0], [0, 0.5, 0.0]])
    lost = adrift(np.concatenate([grid, far]), gap=0.03, share=0.02)
    np.testing.assert_array_equal(np.flatnonzero(lost), [216, 217, 218])
    assert not adrift(np.concatenate([grid, grid + 1.0]), gap=0.03, share=0.02).any()


def test_selected_splats_and_everything_change_their_colours(people):
    before = read_avatar(people[0]).gaussians.sh
    OPS.edit_splats(by="OPACITY", action="SELECT", opacity=0.1)
    assert OPS.recolour(material="selected", method="SHIFT", value=0.5) == {"FINISHED"}
    changed = np.abs(read_avatar(people[0]).gaussians.sh - before).max(axis=(1, 2)) > 1e-3
    np.testing.assert_array_equal(np.flatnonzero(changed), [7, 8, 150])
    OPS.recolour(material="all", method="SHIFT", saturation=0.0)
    assert np.ptp(read_avatar(people[0]).gaussians.sh[:, 0], axis=1).max() < 0.02


def test_decimation_keeps_a_quarter_at_every_level(people):
    people[0].rig.select_set(True)
    set_level(people[0], "REDUCED", ("VIEWPORT",))
    assert OPS.decimate_splats() == {"FINISHED"}
    person = all_people(bpy.context.scene)[0]
    assert count() == COUNT // 4 and reduced_of(person) is None
    assert not person.splats.hide_viewport
    set_level(person, "REDUCED", ("VIEWPORT",))
    assert 0 < len(reduced_of(person).data.polygons) < COUNT // 4
    assert len(read_avatar(person).skin_joints) == COUNT // 4


def test_the_panel_has_every_button(people):
    fake = SimpleNamespace(layout=FakeLayout())
    CROWDGAUSSIAN_PT_editing.draw_people(fake, bpy.context)
    buttons = fake.layout.buttons()
    wanted = ("edit_splats", "add_crop", "decimate_splats", "recolour", "paint_splats")
    assert {f"crowdgaussian.{name}" for name in wanted} <= set(buttons)
    OPS.paint_splats()
    bpy.ops.object.mode_set(mode="OBJECT")  # left by Tab
    fake = SimpleNamespace(layout=FakeLayout())
    CROWDGAUSSIAN_PT_editing.draw_people(fake, bpy.context)
    assert "Press Paint, then Done" in " ".join(fake.layout.texts())
