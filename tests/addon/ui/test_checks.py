# SPDX-License-Identifier: Apache-2.0
"""The sub-panel that says what to check, from the import until it is mended."""

from types import SimpleNamespace

import bpy
import crowdgaussian_addon
import pytest
from _support.blender.fake_layout import FakeLayout
from crowdgaussian_addon.scene.corrections import bring_in
from crowdgaussian_addon.scene.importer import WARNINGS, import_scene
from crowdgaussian_addon.ui.people import CROWDGAUSSIAN_PT_checks as Checks
from crowdgaussian_addon.ui.people import draw_list
from crowdgaussian_shared.scene.edit import SceneEdit
from crowdgaussian_shared.scene.schema import LEFT_OUT, SceneWarning

MISSED = SceneWarning("missed", "Somebody at (30, 40) was probably missed.", (1, 2, 3, 4))
FLOATS = SceneWarning("floating", "Person 0 floats 0.40 m above the floor.")
TALL = SceneWarning("height", "Person 1 came out 2.31 m tall.")

SELECT = "crowdgaussian.select_person"


@pytest.fixture
def crowd(scene_folder):
    """An imported crowd of two with a warning about each, and one about the scene."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    crowdgaussian_addon.register()
    scene_folder.update(warnings=(MISSED,))
    scene_folder.update_person(0, warnings=(FLOATS,))
    scene_folder.update_person(1, warnings=(TALL,))
    result = import_scene(scene_folder)
    select()
    yield SimpleNamespace(**vars(result), folder=scene_folder)
    crowdgaussian_addon.unregister()


def select(*objects):
    for obj in list(bpy.context.view_layer.objects):
        obj.select_set(obj in objects)


def said():
    """What the sub-panel says, as one text; None while it is not there."""
    if not Checks.poll(bpy.context):
        return None
    layout = FakeLayout()
    Checks.draw_people(SimpleNamespace(layout=layout), bpy.context)
    return " ".join(call[1]["text"] for call in layout.calls if call[0] == "label")


def words(*warnings):
    return " ".join(one.sentence for one in warnings)


def icons():
    """Of the people in the list."""
    layout = FakeLayout()
    draw_list(layout, bpy.context)
    return [call[2]["icon"] for call in layout.calls if call[1:2] == (SELECT,)]


def test_everything_is_told_and_of_selected_people_only_what_is_theirs(crowd):
    assert said() == words(MISSED, FLOATS, TALL)
    select(crowd.people[1].rig)
    assert said() == words(MISSED, TALL)


def test_doubtful_people_have_a_sign_in_the_list(crowd):
    assert icons() == ["ERROR", "ERROR"]
    bpy.data.objects.remove(crowd.people[0].rig)
    assert icons() == ["ERROR"] and said() == words(MISSED, TALL), "who is gone is no matter"


def test_a_correction_brings_what_is_doubtful_then(crowd):
    crowd.folder.update(warnings=())
    crowd.folder.update_person(1, state="failed", flags=(LEFT_OUT,))
    step = SceneEdit(excluded=(1,))
    assert bring_in(crowd.collection, crowd.folder, step, bpy.context.scene) == []
    assert said() == words(FLOATS)
    crowd.folder.update_person(0, warnings=())
    bring_in(crowd.collection, crowd.folder, SceneEdit(), bpy.context.scene)
    assert said() is None and icons() == ["OUTLINER_OB_ARMATURE"]


def test_many_are_cut_short(crowd):
    crowd.folder.update(warnings=(MISSED,) * 20)
    bring_in(crowd.collection, crowd.folder, SceneEdit(), bpy.context.scene)
    assert said().count(MISSED.sentence) == 12 and said().endswith("and 10 more")


def test_a_button_adds_whoever_was_missed(crowd):
    layout = FakeLayout()
    Checks.draw_people(SimpleNamespace(layout=layout), bpy.context)
    (button,) = [call[3] for call in layout.calls if call[1:2] == ("crowdgaussian.add_person",)]
    left, top, right, bottom = button.x0, button.y0, button.x1, button.y1
    assert left < 1 and right > 3 and top < 2, "the face is in it"
    assert bottom > 4 + 7 * 2, "and so are the feet, seven heads below"
    crowd.folder.update(warnings=())
    bring_in(crowd.collection, crowd.folder, SceneEdit(), bpy.context.scene)
    layout = FakeLayout()
    Checks.draw_people(SimpleNamespace(layout=layout), bpy.context)
    assert layout.buttons() == [], "nobody is missed any more"


def test_crowds_of_older_versions_have_nothing_to_check(crowd):
    del crowd.collection[WARNINGS]
    assert said() is None
