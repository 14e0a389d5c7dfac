# SPDX-License-Identifier: Apache-2.0
"""Files outlive the add-on: older ones are upgraded, and none needs it to show its people."""

import os
import subprocess
import sys
from pathlib import Path

import bpy
import numpy as np
import pytest
from _support.blender.blender_people import make_avatar, make_camera, write_scene
from crowdgaussian_addon.ops import viewport
from crowdgaussian_addon.scene.attributes import read_attribute, read_positions
from crowdgaussian_addon.scene.importer import import_scene
from crowdgaussian_addon.scene.people import all_people
from crowdgaussian_addon.scene.render.images import read_picture
from crowdgaussian_addon.scene.splats.build import (
    get_inputs,
    splat_modifier,
    weights_to_groups,
)
from crowdgaussian_addon.scene.splats.material import COLOUR, ROTATION, SPLAT_MATERIAL
from crowdgaussian_addon.scene.splats.nodes.project import (
    INPUT_DEPTH_SORT,
    INPUT_FOOTPRINT,
    INPUT_MIN_SIZE,
    SKINS_KEY,
    SPLAT_NODES,
    splat_node_groups,
)
from crowdgaussian_addon.scene.splats.upgrade import outdated_splats, upgrade_splats
from crowdgaussian_addon.scripting.previews import save_blend

OLD_FILE = Path(__file__).parents[1] / "data" / "people_v1.blend"  # saved by the first version
RENDER_ALONE = """
import os, sys
sys.modules["crowdgaussian_addon"] = None  # to import it is an error
import bpy
bpy.ops.wm.open_mainfile(filepath=sys.argv[1])
bpy.context.scene.render.filepath = sys.argv[2]
bpy.ops.render.render(write_still=True)
sys.stdout.flush()
os._exit(0)
"""


def evaluated(splats):
    bpy.context.view_layer.update()
    return splats.evaluated_get(bpy.context.evaluated_depsgraph_get()).data


def centres(splats):
    return read_positions(evaluated(splats)).reshape(-1, 4, 3).mean(axis=1)


@pytest.fixture
def watching():
    """The handlers that the add-on registers, without the rest of it."""
    viewport.start()
    yield
    viewport.stop()


def test_an_old_file_is_upgraded_when_it_is_opened(empty_blender, watching):
    bpy.ops.wm.open_mainfile(filepath=str(OLD_FILE))
    assert not outdated_splats()
    plain, rich = (person.splats for person in all_people(bpy.context.scene))
    assert {tree.name for tree in splat_node_groups()} == {SPLAT_NODES, f"{SPLAT_NODES} SH2"}
    assert plain.active_material == rich.active_material
    assert plain.active_material.name == SPLAT_MATERIAL
    inputs = get_inputs(splat_modifier(rich))
    assert inputs[INPUT_FOOTPRINT] > 0 and inputs[INPUT_DEPTH_SORT]
    assert inputs[INPUT_MIN_SIZE] == 0
    assert ROTATION in plain.data.attributes
    colours = read_attribute(evaluated(rich), COLOUR)
    assert np.abs(colours - read_attribute(rich.data, COLOUR)).max() > 0.02


def test_the_upgrade_moves_nothing(empty_blender):
    bpy.ops.wm.open_mainfile(filepath=str(OLD_FILE))
    splats = [person.splats for person in all_people(bpy.context.scene)]
    assert set(outdated_splats()) == set(splats)
    before = centres(splats[0])
    assert upgrade_splats() == 2
    assert upgrade_splats() == 0
    np.testing.assert_allclose(centres(splats[0]), before, atol=1e-4)


@pytest.mark.parametrize("kind", ["nodes", "groups"])
def test_a_file_of_another_blender_plays_on(empty_blender, scene_folder, kind):
    """Some Blenders' nodes read bones and some do not; either opens files of the other."""
    splats = import_scene(scene_folder).people[0].splats
    if kind == "groups":
        weights_to_groups(splats)
    bpy.context.view_layer.update()
    before = centres(splats)
    for tree in splat_node_groups():
        tree[SKINS_KEY] = not tree[SKINS_KEY]
    assert splats in outdated_splats()
    assert upgrade_splats() == 2
    assert not outdated_splats()
    np.testing.assert_allclose(centres(splats), before, atol=1e-5)


def test_no_timer_runs_without_a_window(empty_blender, watching):
    assert not bpy.app.timers.is_registered(viewport._tick)
    assert viewport.follow() > 0


def test_a_saved_file_renders_without_the_addon(empty_blender, tmp_path):
    folder = write_scene(tmp_path / "out", [make_avatar(600, degree=1)], make_camera(96, 72))
    import_scene(folder)
    scene = bpy.context.scene
    scene.cycles.samples = 1
    scene.render.image_settings.file_format = "PNG"
    scene.render.image_settings.color_mode = "RGBA"
    scene.render.filepath = str(tmp_path / "with.png")
    bpy.ops.render.render(write_still=True)
    save_blend(tmp_path / "crowd.blend")
    alone = tmp_path / "alone.png"
    arguments = ["-c", RENDER_ALONE, str(tmp_path / "crowd.blend"), str(alone)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True,
                          text=True, timeout=120, cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    ours, theirs = read_picture(tmp_path / "with.png"), read_picture(alone)
    assert (ours[..., 3] > 0.5).mean() > 0.02
    np.testing.assert_allclose(theirs, ours, atol=2 / 255)
