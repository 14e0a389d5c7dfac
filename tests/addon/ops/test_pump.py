# SPDX-License-Identifier: Apache-2.0
"""How finished people get from the job table into the scene, without any server."""

import bpy
import crowdgaussian_addon
import numpy as np
import pytest
from _support.blender.blender_people import make_avatar
from crowdgaussian_addon.jobs.session import Session
from crowdgaussian_addon.jobs.table import JobRow
from crowdgaussian_addon.ops import state
from crowdgaussian_addon.ops import timer as pump
from crowdgaussian_addon.scene.corrections import people_in
from crowdgaussian_addon.scene.importer import SOURCE
from crowdgaussian_addon.scene.incremental import JOB, find_crowd, people_of, refined_in
from crowdgaussian_addon.scene.render.viewport import largest_view
from crowdgaussian_addon.scene.splats.build import read_gaussians


@pytest.fixture
def row(tmp_path, scene_folder):
    """A job with two finished people, started in this file."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    state.close_session()
    crowdgaussian_addon.register()
    state._session = Session(tmp_path / "cache", "test")
    made = JobRow(
        "job-id",
        "/p/party.jpg",
        str(scene_folder.path),
        "x",
        state="running",
        people_done=2,
        people_found=2,
    )
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


def refine(row, scene_folder, index):
    """The job refines somebody, as the pipeline writes it -> the new Gaussians."""
    old = scene_folder.read_avatar(index)
    gaussians = make_avatar(len(old.gaussians), seed=70 + index).gaussians
    fields = {**vars(old), "gaussians": gaussians}
    scene_folder.write_avatar(index, type(old)(**fields))
    scene_folder.update_person(index, refinement="refined")
    row.count_people()
    pump._due.add(row.job)
    return gaussians


def shown(row, index):
    """What the scene has of somebody."""
    person = people_in(find_crowd(row.job), bpy.context.scene)[index]
    return person, read_gaussians(person.splats)


def settle():
    while pump.pump():
        pass


def test_who_is_refined_later_gets_other_splats_in_the_same_objects(row, scene_folder):
    settle()
    person, _ = shown(row, 1)
    _, other = shown(row, 0)
    person.rig.name, person.rig.location.x = "Anna", 3.0
    keys = [block.session_uid for block in (person.rig, person.splats, person.body)]
    wanted = refine(row, scene_folder, 1)
    settle()
    person, now = shown(row, 1)
    np.testing.assert_allclose(now.means, wanted.means, atol=1e-4)
    np.testing.assert_allclose(now.opacities, wanted.opacities, atol=5e-4)
    assert [b.session_uid for b in (person.rig, person.splats, person.body)] == keys
    assert person.rig.name == "Anna" and person.rig.location.x == pytest.approx(3.0)
    np.testing.assert_array_equal(shown(row, 0)[1].means, other.means)
    assert row.renewed == (1,) and refined_in(find_crowd(row.job)) == (1,)
    before = person.splats.data.session_uid
    pump._due.add(row.job)
    settle()
    assert shown(row, 1)[0].splats.data.session_uid == before, "once is enough"


def test_who_comes_in_refined_is_not_built_twice(row, scene_folder):
    wanted = refine(row, scene_folder, 0)
    settle()
    assert row.imported == (0, 1) and row.renewed == (0,)
    np.testing.assert_allclose(shown(row, 0)[1].means, wanted.means, atol=1e-4)


def test_a_refinement_that_was_undone_does_not_come_back(row, scene_folder):
    settle()
    _, before = shown(row, 1)
    refine(row, scene_folder, 1)
    settle()
    bpy.ops.ed.undo()
    pump._due.add(row.job)
    settle()
    np.testing.assert_allclose(shown(row, 1)[1].means, before.means, atol=1e-6)


def test_an_older_file_gets_the_refined_avatars_it_lacks(row, scene_folder, tmp_path):
    settle()
    blend = str(tmp_path / "coarse.blend")
    bpy.ops.wm.save_as_mainfile(filepath=blend)
    wanted = refine(row, scene_folder, 1)
    settle()
    bpy.ops.wm.open_mainfile(filepath=blend)
    settle()
    np.testing.assert_allclose(shown(row, 1)[1].means, wanted.means, atol=1e-4)


def test_a_corrected_crowd_and_removed_people_are_left_alone(row, scene_folder):
    settle()
    _, before = shown(row, 1)
    refine(row, scene_folder, 1)
    find_crowd(row.job)[SOURCE] = "/another/folder"
    settle()
    np.testing.assert_array_equal(shown(row, 1)[1].means, before.means)
    find_crowd(row.job)[SOURCE] = str(scene_folder.path.resolve())
    bpy.data.objects.remove(shown(row, 0)[0].rig)
    refine(row, scene_folder, 0)
    settle()
    assert row.renewed == (1, 0) and not row.note


def test_the_first_person_of_a_new_shot_is_seen_in_colour(row):
    view = largest_view(bpy.context.window_manager)
    settle()
    assert state.first_look == "ASKED" and view.shading.color_type == "VERTEX"
    bpy.ops.crowdgaussian.first_look(action="BACK")
    pump._due.add(row.job)
    settle()
    assert state.first_look == "" and view.shading.color_type != "VERTEX"


def test_a_job_that_was_stopped_before_anybody_was_found_has_no_noise(row, tmp_path):
    row.folder, row.state, row.finished = str(tmp_path / "nothing"), "cancelled", True
    pump.pump()
    assert row.note == ""
    row.state = "done"
    pump._due.add(row.job)
    pump.pump()
    assert "is not a scene folder" in row.note


def test_two_jobs_of_one_photo_have_two_names():
    titles = [JobRow("a", "/p/party.jpg", f"/c/{name}", "x").title for name in
              ("party", "party-2", "party-10", "elsewhere", "party-late")]  # fmt: skip
    assert titles == ["party.jpg", "party.jpg (2)", "party.jpg (10)", "party.jpg", "party.jpg"]


def test_nothing_is_left_after_disabling(row):
    crowdgaussian_addon.unregister()
    handlers = (*bpy.app.handlers.load_post, *bpy.app.handlers.save_post)
    assert not [h for h in handlers if "crowdgaussian" in h.__module__]
    assert not bpy.app.timers.is_registered(pump._tick)
    assert not hasattr(bpy.types.Scene, "crowdgaussian")
    crowdgaussian_addon.register()
