# SPDX-License-Identifier: Apache-2.0
"""How finished people get from the job table into the scene, without any server."""

import bpy
import crowdgaussian_addon
import pytest
from crowdgaussian_addon.jobs import JobRow
from crowdgaussian_addon.ops import pump, state
from crowdgaussian_addon.scene.growing import JOB, find_crowd, people_of
from crowdgaussian_addon.session import Session


@pytest.fixture
def row(tmp_path, scene_folder):
    """A job with two finished people, started in this file."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    state.close_session()
    crowdgaussian_addon.register()
    state._session = Session(tmp_path / "cache", "test")
    made = JobRow("job-id", "/p/party.jpg", str(scene_folder.path), "x", state="running",
                  people_done=2, people_found=2)
    state._session.table.add(made)
    pump.adopt(made)
    bpy.ops.ed.undo_push(message="before anybody came in")
    yield made
    crowdgaussian_addon.unregister()


def test_one_person_for_each_turn(row):
    assert pump.pump() and people_of(find_crowd(row.job)) == (0,)
    assert not pump.pump() and people_of(find_crowd(row.job)) == (0, 1)
    assert row.imported == (0, 1)
    pump.pump()
    assert len(bpy.data.armatures) == 2


def test_the_floor_widens_with_the_crowd(row):
    pump.pump()
    (ground,) = (obj for obj in find_crowd(row.job).objects if obj.type == "MESH")
    first = ground.dimensions.x
    pump.pump()
    bpy.context.view_layer.update()
    assert ground.dimensions.x > first + 0.5


def test_nobody_comes_in_while_a_mesh_is_edited(row):
    bpy.ops.mesh.primitive_cube_add()
    bpy.ops.object.mode_set(mode="EDIT")
    assert pump.pump() and find_crowd(row.job) is None
    assert "Object Mode" in row.obstacle
    bpy.ops.object.mode_set(mode="OBJECT")
    pump.pump()
    assert row.obstacle == "" and people_of(find_crowd(row.job)) == (0,)


def test_the_artist_s_selection_is_kept(row):
    bpy.ops.mesh.primitive_cube_add()
    cube = bpy.context.active_object
    pump.pump()
    assert bpy.context.active_object == cube and bpy.context.selected_objects == [cube]


def test_a_crowd_out_of_reach_waits(row):
    pump.pump()
    bpy.context.view_layer.layer_collection.children[find_crowd(row.job).name].exclude = True
    assert pump.pump() and "Import Again" in row.obstacle
    assert people_of(find_crowd(row.job)) == (0,)


def test_a_damaged_person_is_told_and_stops_nobody(row, scene_folder):
    scene_folder.person_file(0, "avatar").write_bytes(b"not an archive")
    while pump.pump():
        pass
    assert people_of(find_crowd(row.job)) == (1,)
    assert "Person 0 is left out" in row.note and "avatar.npz" in row.note


def test_a_person_who_was_undone_does_not_come_back(row):
    pump.pump()
    bpy.ops.ed.undo()
    pump.pump()
    crowd = find_crowd(row.job)
    assert people_of(crowd) == (1,) and bpy.context.scene.camera is not None


def test_import_again_makes_a_crowd_of_its_own(row):
    while pump.pump():
        pass
    first = find_crowd(row.job)
    assert bpy.ops.crowdgaussian.import_again(job=row.job) == {"FINISHED"}
    second = find_crowd(row.job)
    assert second != first and JOB not in first and people_of(second) == (0, 1)


def test_a_new_file_gets_nobody(row):
    pump.pump()
    bpy.ops.wm.read_homefile(use_empty=True)
    assert not pump.pump() and find_crowd(row.job) is None


def test_an_older_version_of_the_file_gets_who_it_lacks(row, tmp_path):
    blend = str(tmp_path / "home.blend")
    pump.pump()
    bpy.ops.wm.save_as_mainfile(filepath=blend)
    pump.pump()
    bpy.ops.wm.open_mainfile(filepath=blend)
    assert people_of(find_crowd(row.job)) == (0,)
    while pump.pump():
        pass
    assert people_of(find_crowd(row.job)) == (0, 1)


def test_nothing_is_left_after_disabling(row):
    crowdgaussian_addon.unregister()
    handlers = (*bpy.app.handlers.load_post, *bpy.app.handlers.save_post)
    assert not [h for h in handlers if "crowdgaussian" in h.__module__]
    assert not bpy.app.timers.is_registered(pump._tick)
    assert not hasattr(bpy.types.Scene, "crowdgaussian")
    crowdgaussian_addon.register()
