# SPDX-License-Identifier: Apache-2.0
"""Crowds that come into somebody's own shot leave it alone, and what splats need there is said."""

from types import SimpleNamespace

import bpy
import crowdgaussian_addon
import numpy as np
import pytest
from _support.blender.blender_people import make_avatar, make_camera, write_scene
from _support.blender.fake_layout import FakeLayout
from crowdgaussian_addon.ops import state
from crowdgaussian_addon.ops.state import shot_of
from crowdgaussian_addon.ops.viewport import is_looking
from crowdgaussian_addon.scene.attributes import read_attribute
from crowdgaussian_addon.scene.importer import import_scene
from crowdgaussian_addon.scene.people import all_people
from crowdgaussian_addon.scene.render.settings import eevee_name, render_mode
from crowdgaussian_addon.scene.render.viewport import NOBODY, largest_view, views_of
from crowdgaussian_addon.scene.rig.body import cast_shadows
from crowdgaussian_addon.scene.shot import holds_work, is_new_shot, mend, needs_of
from crowdgaussian_addon.scene.splats.build import get_inputs, splat_modifier
from crowdgaussian_addon.scene.splats.material import COLOUR, SOLID
from crowdgaussian_addon.scene.splats.nodes.project import INPUT_DEPTH_SORT
from crowdgaussian_addon.scene.splats.recolour import ColorChange, recolour
from crowdgaussian_addon.ui import people

GROUPS = ("render", "render.image_settings", "cycles", "eevee", "view_settings", "unit_settings",
          "display_settings", "display", "display.shading", "tool_settings", "world")  # fmt: skip
SIMPLE = {"BOOLEAN", "INT", "FLOAT", "STRING", "ENUM"}
OLD = {"use_nodes"}  # reading it warns from Blender 5 on


@pytest.fixture
def own_shot():
    """A scene with a sphere, a camera and settings of its own, and the add-on."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    crowdgaussian_addon.register()
    scene = bpy.context.scene
    bpy.ops.mesh.primitive_uv_sphere_add()
    bpy.ops.object.camera_add()
    scene.camera = bpy.context.object
    scene.world = bpy.data.worlds.new("Mine")
    scene.render.engine, scene.cycles.samples = eevee_name(), 77
    scene.render.resolution_x, scene.render.resolution_y, scene.render.fps = 333, 222, 30
    scene.view_settings.view_transform = "AgX"
    scene.view_settings.exposure = 0.25
    yield scene
    crowdgaussian_addon.unregister()


@pytest.fixture
def crowd(tmp_path):
    """A folder of two small people."""
    return write_scene(tmp_path / "two", [make_avatar(200, seed=s) for s in (0, 1)], make_camera())


def settings_of(scene):
    """Every property of a scene and of what hangs on it, by its path."""
    found = {}
    for name in ("", *GROUPS):
        owner = scene.path_resolve(name) if name else scene
        for prop in owner.bl_rna.properties:
            if prop.identifier in OLD or prop.type not in (*SIMPLE, "POINTER"):
                continue
            value = getattr(owner, prop.identifier)
            if prop.type == "POINTER":
                value = getattr(value, "name", None)
            found[f"{name}.{prop.identifier}"] = (
                value[:] if getattr(prop, "is_array", False) else value
            )
    return found


@pytest.mark.parametrize("shot", ["AUTO", "ADD"])
def test_nothing_of_a_shot_with_work_in_it_changes(own_shot, crowd, shot):
    before = settings_of(own_shot)
    assert len(before) > 300 and before[".camera"] == "Camera"
    bpy.ops.object.select_all(action="DESELECT")
    bpy.ops.crowdgaussian.import_scene(directory=str(crowd.path), shot=shot)
    bpy.ops.crowdgaussian.import_scene(directory=str(crowd.path), shot=shot)
    assert len(all_people(own_shot)) == 4
    assert settings_of(own_shot) == before
    assert bpy.context.selected_objects == [] and bpy.context.object.name == "Camera"


def test_splats_fit_in_by_what_is_their_own(own_shot, crowd):
    people = import_scene(crowd, "ADD").people
    assert render_mode(own_shot) == "linear"  # they decode, since the shot's view encodes
    assert all(get_inputs(splat_modifier(p.splats))[INPUT_DEPTH_SORT] for p in people)
    assert [need.kind for need in needs_of(own_shot)] == ["TONES"]


def test_a_new_shot_is_made_where_it_is_asked_for(own_shot, crowd):
    camera = import_scene(crowd, "NEW").camera
    assert own_shot.camera == camera and own_shot.render.engine == "CYCLES"
    assert own_shot.view_settings.view_transform == "Raw" and not needs_of(own_shot)


def test_undo_takes_a_new_shot_back_and_redo_brings_it_again(own_shot, crowd):
    before = settings_of(own_shot)
    bpy.ops.ed.undo_push(message="before")
    bpy.ops.crowdgaussian.import_scene(directory=str(crowd.path), shot="NEW")
    bpy.ops.ed.undo_push(message="after")
    after = settings_of(bpy.context.scene)
    bpy.ops.ed.undo()
    assert settings_of(bpy.context.scene) == before and not all_people(bpy.context.scene)
    bpy.ops.ed.redo()
    assert settings_of(bpy.context.scene) == after and len(all_people(bpy.context.scene)) == 2
    assert len(bpy.data.scenes) == 1


def test_the_startup_file_is_no_work_until_something_is_added(crowd):
    bpy.ops.wm.read_factory_settings(use_empty=False)
    scene, cube = bpy.context.scene, bpy.data.objects["Cube"]
    assert not holds_work(scene) and is_new_shot(scene, "AUTO")
    cube.modifiers.new("Mine", "BEVEL")
    assert holds_work(scene)
    cube.modifiers.clear()
    scene.camera.location.x += 1.0  # somebody has framed something
    assert holds_work(scene)
    scene.camera.location.x -= 1.0
    import_scene(crowd, "AUTO")
    assert scene.camera.name == "Photo camera"
    assert cube.hide_viewport and cube.hide_render  # the photo's camera would stand in it
    assert holds_work(scene) and not is_new_shot(scene, "AUTO")


def test_the_choice_is_kept_in_the_scene(own_shot):
    assert shot_of(own_shot) == "AUTO"
    own_shot.crowdgaussian.shot = "ADD"
    assert shot_of(own_shot) == "ADD"


@pytest.mark.parametrize("spoil, kind", [
    (lambda scene: setattr(scene.render, "engine", "BLENDER_WORKBENCH"), "ENGINE"),
    (lambda scene: setattr(scene.cycles, "min_transparent_bounces", 0), "BOUNCES"),
    (lambda scene: setattr(scene.cycles, "transparent_max_bounces", 8), "BOUNCES"),
    (lambda scene: setattr(scene.render, "engine", eevee_name()), "SORTING"),
    (lambda scene: setattr(scene.view_settings, "view_transform", "Standard"), "COLOURS"),
    (lambda scene: setattr(scene, "camera", None), "CAMERA"),
    (lambda scene: cast_shadows([p.body for p in all_people(scene)], True), "GROUND"),
])  # fmt: skip
def test_what_splats_need_is_found_and_mended_one_by_one(own_shot, crowd, spoil, kind):
    for obj in list(own_shot.objects):
        bpy.data.objects.remove(obj)
    import_scene(crowd, "NEW")
    assert needs_of(own_shot) == []
    spoil(own_shot)
    bpy.context.view_layer.update()
    assert [need.kind for need in needs_of(own_shot)] == [kind]
    assert needs_of(own_shot)[0].button
    before = settings_of(own_shot)
    mend(own_shot, kind)
    assert needs_of(own_shot) == []
    changed = {name for name, value in settings_of(own_shot).items() if value != before[name]}
    assert len(changed) <= 2, changed


def test_the_own_floor_of_a_shot_catches_shadows(own_shot, crowd):
    people = import_scene(crowd, "ADD").people
    cast_shadows([person.body for person in people], True)
    assert "GROUND" not in [need.kind for need in needs_of(own_shot)]


def test_a_scene_without_splats_needs_nothing(own_shot):
    assert needs_of(own_shot) == []


def test_people_come_in_without_evaluating_who_is_there(empty_blender, crowd):
    first = import_scene(crowd).people[0].splats
    bpy.context.view_layer.update()
    seen = []
    bpy.app.handlers.depsgraph_update_post.append(lambda scene, _: seen.append(scene.name))
    try:
        first.update_tag()
        import_scene(crowd)
    finally:
        bpy.app.handlers.depsgraph_update_post.pop()
    assert empty_blender.name not in seen  # only the scene aside, which holds nothing heavy
    assert [scene.name for scene in bpy.data.scenes] == [empty_blender.name]


# The first look, and Check Splats as buttons


def view():
    return largest_view(bpy.context.window_manager)


def look_of(space):
    return (space.shading.type, space.shading.color_type, space.shading.light,
            space.overlay.show_bones, space.overlay.show_floor,
            space.region_3d.view_perspective, space.use_local_camera,
            space.camera if space.use_local_camera else None)  # fmt: skip


@pytest.mark.parametrize("answer, wish", [("KEEP", "ALWAYS"), ("BACK", "NEVER")])
def test_a_new_shot_is_seen_in_colour_and_asked_about_once(
    own_shot, crowd, answer, wish, monkeypatch
):
    kept = []
    monkeypatch.setattr(state, "remember_first_look", kept.append)
    before = look_of(view())
    bpy.ops.crowdgaussian.import_scene(directory=str(crowd.path), shot="NEW")
    shown = look_of(view())
    assert shown[:6] == ("SOLID", "VERTEX", "FLAT", False, False, "CAMERA")
    assert state.first_look == "ASKED"
    ground = bpy.data.objects["Ground"]
    assert not ground.visible_get()  # its outline would cross people
    bpy.ops.crowdgaussian.first_look(action=answer)
    assert ground.visible_get() == (answer == "BACK")
    assert look_of(view()) == (shown if answer == "KEEP" else before)
    assert kept == [wish] and state.first_look == ""


def test_the_view_of_an_own_shot_waits_for_the_button(own_shot, crowd):
    before = look_of(view())
    bpy.ops.crowdgaussian.import_scene(directory=str(crowd.path), shot="ADD")
    assert look_of(view()) == before and state.first_look == "OFFERED"
    bpy.ops.crowdgaussian.first_look(action="SHOW")
    assert view().camera.name == "Photo camera" and view().use_local_camera and is_looking()
    assert own_shot.camera.name == "Camera"  # the view has a camera of its own
    bpy.ops.crowdgaussian.first_look(action="BACK")
    assert look_of(view()) == before and not is_looking()


def test_splats_turn_to_a_camera_that_is_the_view_s_own(own_shot, crowd):
    bpy.ops.crowdgaussian.import_scene(directory=str(crowd.path), shot="ADD")
    bpy.ops.crowdgaussian.first_look(action="SHOW")
    region = view().region_3d
    assert views_of(bpy.context.window_manager)[region.as_pointer()] != NOBODY
    view().use_local_camera = False
    assert views_of(bpy.context.window_manager)[region.as_pointer()] == NOBODY


def test_never_means_never(own_shot, crowd, monkeypatch):
    monkeypatch.setattr(state, "first_look_wish", lambda: "NEVER")
    before = look_of(view())
    bpy.ops.crowdgaussian.import_scene(directory=str(crowd.path), shot="NEW")
    assert look_of(view()) == before and state.first_look == ""


def test_solid_shading_has_the_colours_of_the_splats(empty_blender, crowd):
    mesh = import_scene(crowd).people[0].splats.data
    shown = read_attribute(mesh, SOLID).reshape(-1, 4, 4)
    assert mesh.attributes.active_color_name == SOLID
    assert np.abs(shown[:, 0, :3] - read_attribute(mesh, COLOUR)[:, :3].clip(0, 1)).max() < 0.003
    assert np.ptp(shown, axis=1).max() == 0 and (shown[..., 3] == 1).all()
    every = np.ones(len(mesh.polygons), bool)
    recolour(mesh, every, ColorChange(np.zeros((3, 3)), np.array([1.0, 0.0, 0.5])))
    assert np.allclose(read_attribute(mesh, SOLID), (1, 0, 0.5, 1), atol=0.003)


def test_check_splats_mends_all_of_it(own_shot, crowd):
    import_scene(crowd, "ADD")
    own_shot.render.engine, own_shot.camera = "CYCLES", None
    assert len(needs_of(own_shot)) == 3
    assert bpy.ops.crowdgaussian.check_splats(need="BOUNCES") == {"FINISHED"}
    assert own_shot.camera is None and len(needs_of(own_shot)) == 2
    assert bpy.ops.crowdgaussian.check_splats() == {"FINISHED"}
    assert own_shot.camera is not None and needs_of(own_shot) == []
    assert own_shot.cycles.samples == 77


def test_people_of_another_file_are_checked_like_any_other(own_shot, crowd, tmp_path):
    import_scene(crowd, "NEW")
    bpy.data.libraries.write(str(tmp_path / "people.blend"), {bpy.data.collections["Person 000"]})
    bpy.ops.wm.read_factory_settings(use_empty=False)
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    with bpy.data.libraries.load(str(tmp_path / "people.blend")) as (_, into):
        into.collections = ["Person 000"]
    scene.collection.children.link(into.collections[0])
    bpy.context.view_layer.update()
    assert [need.kind for need in needs_of(scene)] == ["BOUNCES", "COLOURS"]
    assert bpy.ops.crowdgaussian.check_splats() == {"FINISHED"}
    assert needs_of(scene) == [] and scene.camera.name == "Camera"


def test_the_panel_says_what_a_scene_needs(own_shot, crowd, monkeypatch):
    asked = []
    monkeypatch.setattr(people, "needs_of", lambda scene: asked.append(scene) or needs_of(scene))
    import_scene(crowd, "ADD")
    bpy.context.view_layer.update()
    panel = SimpleNamespace(layout=FakeLayout())
    context = SimpleNamespace(
        scene=own_shot, preferences=bpy.context.preferences, region=SimpleNamespace(width=900)
    )
    assert people.CROWDGAUSSIAN_PT_shot.poll(context)
    people.CROWDGAUSSIAN_PT_shot.draw(panel, context)
    assert len(asked) == 1, "a redraw looks through the scene once"
    assert "AgX makes people paler" in " ".join(panel.layout.texts())
    assert panel.layout.buttons() == ["crowdgaussian.check_splats"]
    mend(own_shot, "TONES")
    assert not people.CROWDGAUSSIAN_PT_shot.poll(context)
