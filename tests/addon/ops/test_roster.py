# SPDX-License-Identifier: Apache-2.0
"""People as things: duplicate, delete, rename, hide, isolate, and what the outliner breaks."""

from types import SimpleNamespace

import bpy
import crowdgaussian_addon
import numpy as np
import pytest
from _support.blender.blender_people import make_avatar, make_camera, write_scene
from _support.blender.fake_layout import FakeLayout
from crowdgaussian_addon.scene.corrections import people_in
from crowdgaussian_addon.scene.importer import import_scene
from crowdgaussian_addon.scene.people import all_people, people_without_rig, read_avatar
from crowdgaussian_addon.scene.render.display import make_reduced, reduced_of, set_level
from crowdgaussian_addon.scene.roster import is_shown, shown_people, strays
from crowdgaussian_addon.ui import people as panel
from crowdgaussian_shared.formats.splat_ply import read_splat_ply

COUNT = 120


@pytest.fixture
def crowd(tmp_path):
    """Two small people, the add-on, and a step of undo to come back to."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    crowdgaussian_addon.register()
    avatars = [make_avatar(COUNT, seed=seed) for seed in (0, 1)]
    result = import_scene(write_scene(tmp_path / "two", avatars, make_camera()))
    bpy.context.view_layer.update()
    bpy.ops.ed.undo_push(message="two people")
    yield result.collection
    crowdgaussian_addon.unregister()


def people():
    return all_people(bpy.context.scene)


def select(*objects):
    bpy.ops.object.select_all(action="DESELECT")
    for obj in objects:
        obj.select_set(True)
    bpy.context.view_layer.objects.active = objects[0]


def names():
    return [person.name for person in people()]


def draw():
    fake = SimpleNamespace(layout=FakeLayout(), draw_people=None)
    context = SimpleNamespace(scene=bpy.context.scene, preferences=bpy.context.preferences,
                              region=SimpleNamespace(width=900), selected_objects=[],
                              space_data=None)  # fmt: skip
    panel.draw_list(fake.layout, context)
    panel.draw_broken(fake.layout, context)
    return fake.layout


def press(verb, **options):
    assert getattr(bpy.ops.crowdgaussian, verb)(**options) == {"FINISHED"}
    bpy.context.view_layer.update()


def test_a_duplicate_has_everything_of_its_own(crowd):
    original = people()[1]
    make_reduced(original)
    select(original.rig)
    press("duplicate_person", offset=(0.5, 0, 0))
    assert names() == ["Person 000", "Person 001", "Person 001.001"]
    copy = people()[2]
    assert bpy.context.selected_objects == [copy.rig]
    assert np.isclose(copy.rig.matrix_world.translation.x - original.rig.location.x, 0.5)
    for mine, theirs in zip(copy.objects, original.objects):
        assert mine.data != theirs.data and mine.name.startswith("Person 001.001")
    assert reduced_of(copy).data != reduced_of(original).data
    assert copy.rig.animation_data.action != original.rig.animation_data.action
    same = np.array_equal(read_avatar(copy).gaussians.means, read_avatar(original).gaussians.means)
    assert same and copy.body.hide_get()
    assert [p.rig for p in people_in(crowd, bpy.context.scene).values()] == [
        p.rig for p in people()[:2]
    ]  # corrections go on to mean the originals
    copy.rig.animation_data.action = None
    copy.rig.pose.bones["left_elbow"].rotation_quaternion = (0.7, 0.7, 0, 0)
    bpy.context.view_layer.update()
    elbow = original.rig.pose.bones["left_elbow"].rotation_quaternion
    assert not np.allclose(elbow, (0.7, 0.7, 0, 0))


def test_a_duplicate_may_share_its_splats(crowd):
    select(people()[0].rig)
    press("duplicate_person", share=True)
    assert people()[0].splats.data == people()[1].splats.data
    assert people()[0].rig.data != people()[1].rig.data


def test_deleting_a_person_leaves_nothing_but_what_hung_on_them(crowd):
    make_reduced(people()[0])
    prop = bpy.data.objects.new("Hat", None)
    bpy.context.collection.objects.link(prop)
    prop.parent = people()[0].rig
    bpy.context.view_layer.update()
    place = prop.matrix_world.copy()
    select(people()[0].splats)
    press("delete_person")
    assert names() == ["Person 001"] and "Person 000" not in bpy.data.collections
    assert not [d for d in (*bpy.data.meshes, *bpy.data.armatures) if "000" in d.name]
    assert np.allclose(prop.matrix_world, place) and prop.parent is None
    bpy.ops.ed.undo_push(message="deleted")
    bpy.ops.ed.undo()
    assert names() == ["Person 000", "Person 001"]


@pytest.mark.parametrize("verb", ["duplicate_person", "delete_person", "rename_person"])
def test_nobody_selected_is_not_everybody(crowd, verb):
    bpy.ops.object.select_all(action="DESELECT")
    assert not getattr(bpy.ops.crowdgaussian, verb).poll()


def test_a_person_is_renamed_by_button_rig_or_collection(crowd):
    select(people()[0].rig)
    press("rename_person", name="Anna")
    anna = people()[0]
    assert names()[0] == "Anna"
    assert {o.name for o in anna.objects} == {"Anna", "Anna splats", "Anna body"}
    anna.rig.name = "Berta"  # F2 in the viewport
    assert names()[0] == "Berta"
    anna.collection.name = "Carla"  # a double click in the outliner
    assert names()[0] == "Carla"
    assert bpy.ops.crowdgaussian.rename_person.poll()
    with pytest.raises(RuntimeError, match="The name is empty"):
        bpy.ops.crowdgaussian.rename_person(name=" ")


def test_hidden_people_are_shown_again_at_their_level(crowd):
    set_level(people()[0], "BODY", ("VIEWPORT",))
    press("hide_person", person=0, hide=True)
    assert [is_shown(person) for person in people()] == [False, True]
    assert [p.name for p in shown_people(bpy.context.scene, people())] == ["Person 001"]
    press("hide_person", person=0, hide=False)
    assert people()[0].body.visible_get() and not people()[0].splats.visible_get()
    people()[1].splats.hide_set(True)  # H in the viewport
    assert not is_shown(people()[1])
    press("hide_person", person=1, hide=False)
    assert people()[1].splats.visible_get()


def test_isolate_hides_the_others_and_then_shows_everybody(crowd):
    select(people()[1].rig)
    press("isolate_person")
    assert [is_shown(person) for person in people()] == [False, True]
    press("isolate_person")
    assert all(is_shown(person) for person in people())


def test_everybody_in_an_export_is_who_is_seen(crowd, tmp_path):
    bpy.ops.object.select_all(action="DESELECT")
    press("hide_person", person=0, hide=True)
    for hidden, count in ((False, COUNT), (True, 2 * COUNT)):
        path = tmp_path / f"{hidden}.ply"
        press("export_splats", filepath=str(path), hidden=hidden)
        assert len(read_splat_ply(path)) == count
    people()[1].splats.hide_render = True
    with pytest.raises(RuntimeError, match="Everybody is hidden"):
        bpy.ops.crowdgaussian.export_motion(filepath=str(tmp_path / "m.npz"))


def test_a_rig_duplicated_by_hand_is_told_and_made_whole(crowd, tmp_path):
    select(people()[0].rig)
    bpy.ops.object.duplicate()
    (stray,) = strays(bpy.context.scene)
    assert stray.name == "Person 000.001"
    assert names() == ["Person 000.001", "Person 000", "Person 001"] or set(names()) == {
        "Person 000", "Person 001", "Person 000.001"}  # fmt: skip
    assert "Person 000.001 is a rig without splats of its own." in draw().texts()
    bpy.ops.object.select_all(action="DESELECT")
    press("export_splats", filepath=str(tmp_path / "all.ply"))  # the others can be exported
    assert len(read_splat_ply(tmp_path / "all.ply")) == 2 * COUNT
    press("mend_people")
    assert not strays(bpy.context.scene) and len(people()) == 3
    made = next(person for person in people() if person.rig == stray)
    original = people()[0]
    assert made.splats and made.body and made.splats.data != original.splats.data
    assert made.rig.animation_data.action != original.rig.animation_data.action
    assert not bpy.ops.crowdgaussian.mend_people.poll()


def test_rig_and_splats_duplicated_by_hand_get_a_body_and_a_collection(crowd):
    original = people()[0]
    select(original.rig, original.splats)
    bpy.ops.object.duplicate()
    press("mend_people")
    made = next(person for person in people() if person.rig == bpy.context.object)
    assert made.collection != original.collection and made.body is not None
    assert len(list(original.collection.objects)) == 3


def test_splats_whose_rig_was_deleted_are_told_and_taken_away(crowd):
    for person in people():
        bpy.data.objects.remove(person.rig)
    assert len(people_without_rig(bpy.context.scene)) == 2
    assert "Person 000's rig was deleted." in draw().texts()
    assert "crowdgaussian.mend_people" in draw().buttons()
    press("mend_people")
    assert not people_without_rig(bpy.context.scene)
    assert not [obj for obj in bpy.data.objects if "Person" in obj.name]
