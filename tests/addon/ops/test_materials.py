# SPDX-License-Identifier: Apache-2.0
"""Colours of materials, parts and painted splats: on all levels, undone, saved, exported."""

from dataclasses import replace
from types import SimpleNamespace

import bpy
import crowdgaussian_addon
import numpy as np
import pytest
from _support.blender.blender_people import make_camera, write_scene
from _support.blender.fake_layout import FakeLayout
from crowdgaussian_addon.ops.recolour import NO_MATERIALS
from crowdgaussian_addon.scene.importer import import_scene
from crowdgaussian_addon.scene.people import all_people, read_avatar, read_weights
from crowdgaussian_addon.scene.render.display import reduced_of, set_level
from crowdgaussian_addon.scene.splats.build import get_inputs, set_depth_sort, splat_modifier
from crowdgaussian_addon.scene.splats.edit import selected
from crowdgaussian_addon.scene.splats.nodes.project import INPUT_DEPTH_SORT
from crowdgaussian_addon.scene.splats.recolour import (
    moved_by,
    read_materials,
    showing,
    take_paint,
)
from crowdgaussian_addon.ui.people import CROWDGAUSSIAN_PT_materials
from crowdgaussian_shared.formats.splat_ply import read_splat_file
from crowdgaussian_shared.geometry.avatar import MATERIALS, Materials
from crowdgaussian_shared.geometry.sh import colour_to_sh
from crowdgaussian_shared.geometry.skeleton import JOINT_NAMES, PARTS
from crowdgaussian_shared.scene.folder import SceneFolder

LOWER = MATERIALS.index("lower")
BLUE = (0.1, 0.2, 0.7)
crowd = bpy.ops.crowdgaussian


@pytest.fixture
def people(empty_blender, tmp_path, avatars):
    """Two people: the first knows what it wears, the second does not."""
    crowdgaussian_addon.register()
    rng = np.random.default_rng(0)
    count = len(avatars[0].gaussians)
    label = rng.integers(0, len(MATERIALS), count).astype(np.uint8)
    materials = Materials(label, rng.uniform(0.2, 1, count).astype(np.float32))
    sh = rng.normal(0, 0.05, (count, 4, 3)).astype(np.float32)
    sh[:, 0] = colour_to_sh(rng.uniform(0.2, 0.6, (count, 3)))[:, 0]
    told = replace(avatars[0], materials=materials, gaussians=replace(avatars[0].gaussians, sh=sh))
    folder = write_scene(tmp_path / "out", [told, avatars[1]], make_camera())
    import_scene(folder.path)
    yield all_people(empty_blender)
    if bpy.context.mode != "OBJECT":
        bpy.ops.object.mode_set(mode="OBJECT")
    crowdgaussian_addon.unregister()


def colours(obj):
    mesh = obj.data
    values = np.empty(4 * len(mesh.polygons), np.float32)
    mesh.attributes["splat_colour"].data.foreach_get("color", values)
    return values.reshape(-1, 4)[:, :3]


def of(obj, name="lower"):
    return showing(obj.data, name)


def test_materials_come_in_and_are_read_back(people):
    told, untold = (read_avatar(person).materials for person in people)
    assert untold is None
    assert told.label.dtype == np.uint8 and len(told.label) == len(people[0].splats.data.polygons)
    assert set(np.unique(told.label)) == set(range(6))


def test_one_colour_keeps_light_and_shade(people):
    before, splats = colours(people[0].splats), people[0].splats
    assert crowd.recolour(material="lower", colour=BLUE) == {"FINISHED"}
    after, trousers = colours(splats), of(splats)
    np.testing.assert_array_equal(after[~trousers], before[~trousers])
    np.testing.assert_allclose(np.median(after[trousers], axis=0), BLUE, atol=0.02)
    order = np.corrcoef(after[trousers].sum(1), before[trousers] @ (0.299, 0.587, 0.114))
    assert order[0, 1] > 0.98


def test_the_view_dependent_bands_follow(people):
    before = read_avatar(people[0]).gaussians.sh
    crowd.recolour(material="lower", method="SHIFT", saturation=0.0)
    after, trousers = read_avatar(people[0]).gaussians.sh, of(people[0].splats)
    np.testing.assert_allclose(np.ptp(after[trousers], axis=2), 0, atol=2e-3)
    np.testing.assert_allclose(after[~trousers], before[~trousers], atol=1e-6)


def test_a_shift_of_nothing_changes_nothing_and_half_a_turn_is_undone_by_another(people):
    before = colours(people[0].splats)
    crowd.recolour(material="skin", method="SHIFT")
    np.testing.assert_allclose(colours(people[0].splats), before, atol=1e-5)
    crowd.recolour(material="skin", method="SHIFT", hue=0.5, saturation=0.5)
    turned = colours(people[0].splats)
    assert np.abs(turned - before).max() > 0.05
    crowd.recolour(material="skin", method="SHIFT", hue=0.5, saturation=2.0)
    np.testing.assert_allclose(colours(people[0].splats), before, atol=1e-4)


def test_unsure_splats_are_left_out_when_asked(people):
    before, splats = colours(people[0].splats), people[0].splats
    crowd.recolour(material="lower", colour=BLUE, confidence=0.6)
    changed = (colours(splats) != before).any(axis=1)
    sure = read_materials(splats.data).confidence >= 0.6
    assert not changed[~sure].any() and changed[sure & of(splats)].any()


@pytest.mark.parametrize("made", ["before", "after"])
def test_the_reduced_splats_follow(people, made):
    if made == "before":
        set_level(people[0], "REDUCED", ("VIEWPORT",))
    crowd.recolour(material="lower", colour=BLUE)
    set_level(people[0], "REDUCED", ("VIEWPORT",))
    reduced = reduced_of(people[0])
    middle = np.median(colours(reduced)[of(reduced)], axis=0)
    assert np.abs(middle - BLUE).max() < (0.05 if made == "before" else 0.3)
    assert middle[2] == middle.max()


def test_copies_that_share_the_mesh_keep_their_colours(people):
    set_level(people[0], "REDUCED", ("VIEWPORT",))
    objects = [people[0].rig, people[0].splats, reduced_of(people[0]), people[0].body]
    copies = {obj: obj.copy() for obj in objects}
    for copy in copies.values():
        bpy.context.scene.collection.objects.link(copy)
        for modifier in copy.modifiers:
            if modifier.type == "ARMATURE":
                modifier.object = copies[people[0].rig]
    before = colours(copies[people[0].splats])
    bpy.context.view_layer.update()
    for obj in bpy.context.scene.objects:
        obj.select_set(obj == people[0].rig)
    crowd.recolour(material="lower", colour=BLUE)
    twin, reduced = copies[people[0].splats], copies[objects[2]]
    np.testing.assert_array_equal(colours(twin), before)
    assert people[0].splats.data != twin.data and reduced_of(people[0]).data != reduced.data
    assert np.abs(colours(people[0].splats) - before).max() > 0.1


def test_colours_survive_posing_and_saving(people, tmp_path):
    crowd.recolour(material="lower", colour=BLUE)
    after = colours(people[0].splats)
    crowd.rest_pose()
    np.testing.assert_array_equal(colours(people[0].splats), after)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "crowd.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "crowd.blend"))
    (splats, _) = (person.splats for person in all_people(bpy.context.scene))
    np.testing.assert_array_equal(colours(splats), after)
    assert crowd.recolour(material="lower", colour=(0.9, 0.1, 0.1)) == {"FINISHED"}


def test_recolouring_is_undone(people):
    assert "UNDO" in bpy.types.CROWDGAUSSIAN_OT_recolour.bl_options
    bpy.ops.ed.undo_push(message="before")
    before = colours(people[0].splats)
    crowd.recolour(material="lower", colour=BLUE)
    bpy.ops.ed.undo_push(message="Recolour")
    bpy.ops.ed.undo()
    np.testing.assert_array_equal(colours(all_people(bpy.context.scene)[0].splats), before)


def test_selection_is_of_that_material_alone(people):
    splats = people[0].splats
    assert crowd.select_material(material="lower", edit=False) == {"FINISHED"}
    chosen = np.empty(len(splats.data.polygons), bool)
    splats.data.polygons.foreach_get("select", chosen)
    np.testing.assert_array_equal(chosen, of(splats))


def test_selected_splats_can_be_deleted(people):
    count, trousers = len(people[0].splats.data.polygons), int(of(people[0].splats).sum())
    crowd.select_material(material="lower")
    assert bpy.context.mode == "EDIT_MESH"
    bpy.ops.mesh.delete(type="VERT")
    bpy.ops.object.mode_set(mode="OBJECT")
    left = read_avatar(people[0])
    assert len(left.gaussians) == count - trousers == len(left.materials.label)
    assert LOWER not in left.materials.label


def test_hidden_splats_are_not_edited(people):
    set_level(people[0], "BODY", ("VIEWPORT",))
    with pytest.raises(RuntimeError, match="splats are hidden; set Display to Full"):
        crowd.select_material(material="lower")


def test_exports_keep_what_people_wear(people, tmp_path):
    worn = read_materials(people[0].splats.data).label
    crowd.export_splats(filepath=str(tmp_path / "crowd.ply"))
    labels = read_splat_file(tmp_path / "crowd.ply").labels
    np.testing.assert_array_equal(labels[: len(worn)], worn)
    assert not labels[len(worn) :].any()  # nobody has told what the second person wears
    crowd.export_scene(filepath=str(tmp_path / "scene"))
    folder = SceneFolder.open(tmp_path / "scene")
    np.testing.assert_array_equal(folder.read_avatar(0).materials.label, worn)
    assert folder.read_avatar(1).materials is None


def test_people_without_materials_say_so(people):
    for obj in bpy.context.scene.objects:
        obj.select_set(obj == people[1].rig)
    for run in (crowd.recolour, crowd.select_material):
        with pytest.raises(RuntimeError, match="Nobody chosen has materials"):
            run(material="lower")
    assert NO_MATERIALS[:20] in " ".join(draw().texts())


def test_a_material_that_nobody_shows_is_named(people):
    with pytest.raises(RuntimeError, match="No splat of those chosen is Trousers"):
        crowd.recolour(material="lower", confidence=1.0)


def test_the_panel_has_both_buttons(people):
    layout = draw()
    assert NO_MATERIALS[:20] not in " ".join(layout.texts())
    assert layout.buttons() == ["crowdgaussian.recolour"]
    menus = [options for method, options in layout.calls[:-1] if method == "operator_menu_enum"]
    assert [menu["operator"] for menu in menus] == ["crowdgaussian.select_material"]


def draw():
    layout = FakeLayout()
    fake = SimpleNamespace(layout=layout)
    fake.draw_people = lambda context: CROWDGAUSSIAN_PT_materials.draw_people(fake, context)
    CROWDGAUSSIAN_PT_materials.draw(fake, bpy.context)
    return layout


def paint(splats, chosen, colour):
    """As a brush of Vertex Paint does: all four corners of some splats."""
    mesh = splats.data
    cards = np.empty((len(mesh.polygons), 4, 4), np.float32)
    mesh.attributes["splat_solid"].data.foreach_get("color_srgb", cards.ravel())
    cards[chosen, :, :3] = colour
    mesh.attributes["splat_solid"].data.foreach_set("color_srgb", cards.ravel())


def test_parts_of_the_body_are_known_without_materials(people):
    joints, weights = read_weights(people[1].splats, 4)
    before, chosen = colours(people[1].splats), moved_by("arms", joints, weights)
    main = [JOINT_NAMES[k] for k in joints[np.arange(len(joints)), weights.argmax(1)]]
    sure = weights.max(axis=1) > 0.5
    wanted = np.array([name.endswith(("shoulder", "elbow")) for name in main])
    np.testing.assert_array_equal(chosen[sure], wanted[sure])
    parts = np.stack([moved_by(part, joints, weights) for part in PARTS])
    assert (parts.sum(axis=0) == 1).all() and parts.any(axis=1).all()
    only(people[1])
    assert crowd.recolour(material="arms", method="SHIFT", value=0.5) == {"FINISHED"}
    after = colours(people[1].splats)
    np.testing.assert_allclose(after[chosen], before[chosen] / 2, atol=1e-5)
    np.testing.assert_array_equal(after[~chosen], before[~chosen])
    crowd.select_material(material="arms", edit=False)
    assert selected(people[1].splats.data).sum() == chosen.sum()


def test_paint_covers_shade_by_its_share(people):
    before, splats = read_avatar(people[0]).gaussians.sh, people[0].splats
    old, trousers = colours(splats), of(splats)
    crowd.recolour(material="lower", method="PAINT", colour=BLUE, mix=0.25)
    wanted = 0.75 * old[trousers] + 0.25 * np.array(BLUE)
    np.testing.assert_allclose(colours(splats)[trousers], wanted, atol=1e-5)
    after = read_avatar(people[0]).gaussians.sh
    np.testing.assert_allclose(after[trousers, 1:], 0.75 * before[trousers, 1:], atol=1e-6)


def test_brushes_paint_on_splats(people, tmp_path):
    set_level(people[0], "REDUCED", ("VIEWPORT",))
    set_level(people[0], "FULL", ("VIEWPORT",))
    only(people[0])
    old, splats = colours(people[0].splats), people[0].splats
    set_depth_sort([splats], True)
    assert crowd.paint_splats() == {"FINISHED"}
    assert bpy.context.mode == "PAINT_VERTEX" and bpy.context.active_object == splats
    assert not get_inputs(splat_modifier(splats))[INPUT_DEPTH_SORT]
    chosen = np.arange(0, len(old), 7)
    paint(splats, chosen, BLUE)
    assert crowd.paint_splats() == {"FINISHED"}
    assert bpy.context.mode == "OBJECT" and get_inputs(splat_modifier(splats))[INPUT_DEPTH_SORT]
    new = colours(splats)
    np.testing.assert_allclose(new[chosen], np.tile(BLUE, (len(chosen), 1)), atol=1 / 255)
    np.testing.assert_array_equal(np.delete(new, chosen, 0), np.delete(old, chosen, 0))
    assert take_paint(splats.data) == 0  # nothing is left to take
    assert np.abs(colours(reduced_of(people[0])) - BLUE).max(axis=1).min() < 0.3
    crowd.export_scene(filepath=str(tmp_path / "scene"))
    sh = SceneFolder.open(tmp_path / "scene").read_avatar(0).gaussians.sh[chosen, :1]
    np.testing.assert_allclose(sh, colour_to_sh(new[chosen]), atol=1e-5)


def test_nobody_paints_on_splats_that_are_gone(people):
    for person in people:
        bpy.data.objects.remove(person.splats)
    with pytest.raises(RuntimeError, match="Their splats were deleted"):
        crowd.paint_splats()


def test_paint_that_was_left_by_hand_is_not_lost_to_a_new_colour(people):
    splats = people[0].splats
    chosen = np.flatnonzero(of(splats, "skin"))[:20]
    paint(splats, chosen, BLUE)
    crowd.recolour(material="lower", colour=(1, 0, 0))
    assert np.abs(colours(splats)[chosen] - BLUE).max() < 1 / 255


def test_painting_in_edit_mode_is_for_what_is_selected_and_copies_keep_theirs(people):
    twin = people[0].splats.copy()
    only(people[0])
    crowd.select_material(material="lower")
    crowd.paint_splats()
    assert people[0].splats.data.use_paint_mask and people[0].splats.data != twin.data
    np.testing.assert_array_equal(selected(people[0].splats.data), of(people[0].splats))
    crowd.paint_splats()
    assert not people[0].splats.data.use_paint_mask


def only(person):
    for obj in bpy.context.scene.objects:
        obj.select_set(obj == person.rig)
    bpy.context.view_layer.objects.active = person.rig
