# SPDX-License-Identifier: Apache-2.0
"""Corrections in Blender: what is sent, and that a result changes nobody but whom it names."""

from pathlib import Path
from types import SimpleNamespace

import bpy
import crowdgaussian_addon
import numpy as np
import pytest
from _support.blender.blender_people import make_avatar
from _support.blender.fake_layout import FakeLayout
from crowdgaussian_addon.jobs.session import Session
from crowdgaussian_addon.jobs.table import JobRow, take_files
from crowdgaussian_addon.ops import state
from crowdgaussian_addon.ops import timer as pump
from crowdgaussian_addon.ops.add_person import CROWDGAUSSIAN_OT_add_person as AddPerson
from crowdgaussian_addon.ops.corrections import CROWDGAUSSIAN_OT_refit as Refit
from crowdgaussian_addon.scene.corrections import is_changed, left_out, people_in
from crowdgaussian_addon.scene.importer import GONE, SOURCE, import_scene
from crowdgaussian_addon.scene.people import photo_pose, read_pose
from crowdgaussian_addon.scene.render.camera import pixel_of_direction
from crowdgaussian_addon.ui.people import CROWDGAUSSIAN_PT_corrections as Panel
from crowdgaussian_shared.scene.edit import SceneEdits
from crowdgaussian_shared.scene.folder import SceneFolder
from crowdgaussian_shared.scene.schema import LEFT_OUT, PersonEntry, hash_file


class Server:
    """Takes jobs as a session does, and does them when told to."""

    def __init__(self, session):
        self.session, self.requests = session, []
        session.submit = self.submit

    def submit(self, target, request, source=None):
        self.requests.append(request)
        row = JobRow(
            f"job {len(self.requests)}",
            str(request.photo),
            str(request.folder),
            "x",
            request.preset,
            dict(request.settings),
            state="running",
            edit=request.edit,
        )
        self.session.table.add(row)
        return row

    @property
    def step(self):
        return SceneEdits.from_json(self.requests[-1].edit).steps[-1]

    def finish(self, base, touched=(), fail=None):
        """Writes the result -> whether the pump is through."""
        row, info = self.session.rows[0], base.info
        people = [*info.people, *(PersonEntry() for _ in self.step.boxes)]
        for index in self.step.excluded:
            people[index] = PersonEntry(state="failed", error="Left out.", flags=(LEFT_OUT,))
        take_files(base.path, Path(row.folder))
        folder = SceneFolder.create(row.folder, base.photo_path.read_bytes(), ".png", info)
        folder.update(people=tuple(people), settings={**info.settings, "edit": row.edit})
        for index in touched:
            avatar = make_avatar(900, seed=50 + index)
            if index in self.step.corrected:
                edit = self.step.corrected[index]
                placed = {"pose": edit.pose, "transl": edit.transl}
                avatar = avatar.with_params(**{k: v.astype(np.float32) for k, v in placed.items()})
            folder.write_avatar(index, avatar)
            folder.update_person(index, state="done", error="", flags=())
        row.state, row.finished = "done", True
        row.count_people()
        pump._due.add(row.job)
        return not pump.pump()


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "party.png"
    path.write_bytes(b"the original")
    return path


@pytest.fixture
def crowd(tmp_path, scene_folder, photo, monkeypatch):
    """An imported crowd of two and a server."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    state.close_session()
    settings = {"photo.blake2b": hash_file(photo), "avatar.gaussians": 900}
    settings |= {"stages.people": "keypoint_fit", "people.vitpose": "/secret"}
    scene_folder.update(settings=settings)
    crowdgaussian_addon.register()
    session = state._session = Session(tmp_path / "cache", "test")
    monkeypatch.setattr(state, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(state, "preferences", lambda: SimpleNamespace(place="HERE", backend="b"))
    monkeypatch.setattr(state, "find_target", lambda: SimpleNamespace(label="x"))
    result = import_scene(scene_folder)
    bpy.ops.ed.undo_push(message="imported")
    yield SimpleNamespace(
        **vars(result),
        server=Server(session),
        photo=str(photo),
        folder=scene_folder,
        session=session,
    )
    crowdgaussian_addon.unregister()
    state._session = None


def people(crowd):
    found = next(c for c in bpy.data.collections if SOURCE in c)
    return people_in(found, bpy.context.scene)


def raise_arm(person, angle=0.6):
    bone = person.rig.pose.bones["left_shoulder"]
    bone.rotation_mode = "XYZ"
    bone.rotation_euler = (0.0, 0.0, angle)
    bpy.context.view_layer.update()


def select(*objects):
    for obj in list(bpy.context.view_layer.objects):
        obj.select_set(False)
    for obj in objects:
        obj.select_set(True)


def uids(person):
    rig, splats, body = person.rig, person.splats, person.body
    blocks = [rig, rig.data, splats, splats.data, body, body.data, rig.animation_data.action]
    blocks.append(person.collection)
    return [block.session_uid for block in blocks]


def fails(operator, words, **options):
    with pytest.raises(RuntimeError) as error:
        operator(**options)
    lines = str(error.value).strip().splitlines()
    assert len(lines) == 1 and words in lines[0], lines


def refit(crowd, **options):
    assert bpy.ops.crowdgaussian.refit(filepath=crowd.photo, **options) == {"FINISHED"}


def test_the_pose_as_seen_is_what_is_sent(crowd):
    person = crowd.people[1]
    raise_arm(person)
    person.rig.location.x += 0.25
    bpy.context.view_layer.update()
    wanted = read_pose(person.rig)
    refit(crowd)
    (request,) = crowd.server.requests
    assert set(crowd.server.step.corrected) == {1}
    sent = crowd.server.step.corrected[1]
    np.testing.assert_allclose(sent.pose, wanted[0], atol=1e-6)
    np.testing.assert_allclose(sent.transl, wanted[1], atol=1e-6)
    before = photo_pose(person.rig)
    assert sent.transl[0] - before[1][0] == pytest.approx(0.25, abs=1e-4)
    assert request.settings == {"avatar.gaussians": "900", "stages.people": "keypoint_fit"}
    assert crowd.session.rows[0].title == "party.png: Refit Person 001"


def test_only_the_corrected_person_changes(crowd):
    anna, ben = crowd.people[0], crowd.people[1]
    ben.collection.name = "Ben"
    raise_arm(ben)
    smooth = ben.splats.modifiers.new("Mine", "SMOOTH")
    select(ben.rig)
    bpy.context.view_layer.objects.active = ben.rig
    place = ben.rig.location.copy()
    wanted = read_pose(ben.rig)
    theirs, his = uids(anna), uids(ben)
    count = len(bpy.data.meshes), len(bpy.data.objects), len(bpy.data.armatures)
    refit(crowd)
    assert crowd.server.finish(crowd.folder, [1])
    assert uids(anna) == theirs
    now = uids(ben)
    assert [a == b for a, b in zip(now, his)] == [True, True, True, False, True, False, True, True]
    assert (len(bpy.data.meshes), len(bpy.data.objects), len(bpy.data.armatures)) == count
    assert len(ben.splats.data.polygons) == 900 and ben.splats.data.name.endswith("splats")
    assert ben.splats.modifiers.get("Mine") == smooth and ben.collection.name == "Ben"
    assert bpy.context.selected_objects == [ben.rig] and ben.rig.location == place
    np.testing.assert_allclose(photo_pose(ben.rig)[0], wanted[0], atol=1e-5)
    for frame in (5, 1):  # the keyed pose of the photo is the corrected one
        bpy.context.scene.frame_set(frame)
        np.testing.assert_allclose(read_pose(ben.rig)[0], wanted[0], atol=1e-4)
    assert not is_changed(ben.rig)
    assert crowd.collection[SOURCE] == crowd.session.rows[0].folder
    evaluated = ben.splats.evaluated_get(bpy.context.evaluated_depsgraph_get())
    assert len(evaluated.data.polygons) > 0


def test_a_result_is_one_step_of_undo(crowd):
    name = crowd.people[1].splats.name
    raise_arm(crowd.people[1])
    bpy.ops.ed.undo_push(message="posed")
    refit(crowd)
    crowd.server.finish(crowd.folder, [1])
    counts = [len(bpy.data.objects[name].data.polygons)]
    for step in (bpy.ops.ed.undo, bpy.ops.ed.redo):
        step()
        counts.append(len(bpy.data.objects[name].data.polygons))
    assert counts == [900, 1500, 900]
    bpy.ops.ed.undo()
    source = next(c for c in bpy.data.collections if SOURCE in c)[SOURCE]
    assert source == str(crowd.folder.path.resolve()), "further corrections start from here"


def test_motions_of_the_artist_stay(crowd):
    rig = crowd.people[1].rig
    rig.animation_data.action = action = bpy.data.actions.new("dance")
    for frame, angle in ((1, 0.0), (20, 1.0)):
        bone = rig.pose.bones["right_elbow"]
        bone.rotation_mode = "QUATERNION"
        bone.rotation_quaternion = (np.cos(angle / 2), np.sin(angle / 2), 0, 0)
        bone.keyframe_insert("rotation_quaternion", frame=frame)
    bpy.context.scene.frame_set(20)
    wanted = read_pose(rig)
    refit(crowd)
    bpy.context.scene.frame_set(1)
    elsewhere = read_pose(rig)
    crowd.server.finish(crowd.folder, [1])
    assert rig.animation_data.action == action
    np.testing.assert_allclose(read_pose(rig)[0], elsewhere[0], atol=1e-6)
    np.testing.assert_allclose(photo_pose(rig)[0], wanted[0], atol=1e-5)


def test_leaving_out_and_bringing_back(crowd):
    other = uids(crowd.people[0])
    hat = bpy.data.objects.new("hat", None)
    crowd.people[1].collection.objects.link(hat)
    select(crowd.people[1].splats)
    assert bpy.ops.crowdgaussian.leave_out(filepath=crowd.photo) == {"FINISHED"}
    assert crowd.server.step.excluded == (1,)
    crowd.server.finish(crowd.folder)
    assert set(people(crowd)) == {0} and uids(crowd.people[0]) == other
    assert hat.name in crowd.collection.objects, "an artist's own objects stay"
    assert left_out(crowd.collection) == [1] and crowd.session.rows[0].people_failed == 0
    folder = SceneFolder.open(crowd.collection[SOURCE])
    fails(bpy.ops.crowdgaussian.bring_back, "was not left out", person=0, filepath=crowd.photo)
    assert bpy.ops.crowdgaussian.bring_back(person=1, filepath=crowd.photo) == {"FINISHED"}
    assert len(SceneEdits.from_json(crowd.server.requests[-1].edit).steps) == 2
    crowd.server.finish(folder, [1])
    assert set(people_in(crowd.collection, bpy.context.scene)) == {0, 1}
    assert left_out(crowd.collection) == []
    again = import_scene(folder)
    assert again.skipped == (), "nobody is told of what they asked for"
    assert left_out(again.collection) == [1], "who can be brought back here too"


def test_a_box_brings_somebody_in(crowd):
    others = [uids(person) for person in crowd.people]
    bpy.ops.crowdgaussian.add_person(x0=50, y0=90, x1=10, y1=-5, filepath=crowd.photo)
    assert crowd.server.step.boxes == ((10, 0, 50, 90),)
    crowd.server.finish(crowd.folder, [2])
    assert set(people(crowd)) == {0, 1, 2}
    assert [uids(person) for person in crowd.people] == others


def test_drawing_a_box_by_hand(crowd, monkeypatch):
    """The modal part with a viewport that looks exactly through the photo's camera."""
    import crowdgaussian_addon.ops.add_person as module

    info = crowd.folder.info.camera
    turn = np.array(crowd.camera.matrix_world)[:3, :3]

    def ray(region, view, place):
        x, y = place[0], info.height - place[1]
        return turn @ np.diag([1, -1, -1]) @ np.linalg.inv(info.K) @ (x, y, 1.0)

    monkeypatch.setattr(module, "region_2d_to_vector_3d", ray)
    monkeypatch.setattr(module, "window_region", lambda area: SimpleNamespace(x=100, y=40))
    said = SimpleNamespace(
        status_text_set=lambda text: None,
        cursor_modal_restore=lambda: None,
        tag_redraw=lambda: None,
        spaces=SimpleNamespace(active=SimpleNamespace(region_3d=None)),
    )
    context = SimpleNamespace(area=said, workspace=said, window=said)
    drawn = SimpleNamespace(_corners=[], _drawn=None, _camera=info, _seen=turn, sent=False)
    drawn.cancel = lambda context: None
    drawn._take = lambda *a: AddPerson._take(drawn, *a)
    event = lambda kind, value, x, y: SimpleNamespace(  # noqa: E731
        type=kind, value=value, mouse_x=100 + x, mouse_y=40 + y
    )
    assert AddPerson.modal(drawn, context, event("ESC", "PRESS", 0, 0)) == {"CANCELLED"}
    AddPerson.modal(drawn, context, event("LEFTMOUSE", "PRESS", 20, info.height - 10))
    AddPerson.modal(drawn, context, event("MOUSEMOVE", "NOTHING", 60, 50))
    assert drawn._corners == [(20, info.height - 10), (60, 50)]
    AddPerson._take(drawn, context, None)
    np.testing.assert_allclose(
        (drawn.x0, drawn.y0, drawn.x1, drawn.y1), (20, 10, 60, info.height - 50), atol=1e-3
    )


def test_pixels_of_directions(crowd):
    info, turn = crowd.folder.info.camera, np.array(crowd.camera.matrix_world)[:3, :3]
    np.testing.assert_allclose(
        pixel_of_direction(info, turn, turn @ (0, 0, -3)), info.K[:2, 2], atol=1e-9
    )
    right = pixel_of_direction(info, turn, turn @ (0.1, 0.2, -1))
    np.testing.assert_allclose(
        right - info.K[:2, 2], [0.1 * info.K[0, 0], -0.2 * info.K[1, 1]], rtol=1e-6
    )


def test_buttons_are_grey_for_a_reason(crowd, monkeypatch):
    select(crowd.people[1].rig)
    bpy.context.view_layer.update()
    context = bpy.context
    assert "stands as in the photo; move or pose them first" in Refit.unavailable(context)
    raise_arm(crowd.people[1])
    assert Refit.unavailable(context) == ""
    refit(crowd)
    assert "is under way" in Refit.unavailable(context)
    assert "is under way" in AddPerson.unavailable(context)
    crowd.server.finish(crowd.folder, [1])
    raise_arm(crowd.people[1], 0.9)
    assert Refit.unavailable(context) == ""
    monkeypatch.setattr(state, "preferences", lambda: SimpleNamespace(place="HERE", backend=""))
    assert "No backend is named" in Refit.unavailable(context)
    monkeypatch.setattr(state, "preferences", lambda: None)
    assert "Enable the CrowdGaussian extension" in Refit.unavailable(context)
    del crowd.collection[SOURCE]
    assert "did not come" in Refit.unavailable(context) or "no crowd" in Refit.unavailable(context)


def test_what_cannot_be_is_one_sentence(crowd, tmp_path):
    operators = bpy.ops.crowdgaussian
    fails(operators.refit, "stand as in the photo", filepath=crowd.photo)
    raise_arm(crowd.people[1])
    fails(operators.refit, "is not at an unknown place any more; press Find Photo")
    other = tmp_path / "other.jpg"
    other.write_bytes(b"something else")
    fails(operators.refit, "is not the photo of Crowd", filepath=str(other))
    fails(operators.find_photo, "is not the photo of Crowd", filepath=str(other))
    fails(
        operators.add_person, "less than 8 pixels", x0=-50, y0=0, x1=-5, y1=90, filepath=crowd.photo
    )
    crowd.people[1].rig.scale = (1.2, 1.2, 1.2)
    bpy.context.view_layer.update()
    fails(operators.refit, "is scaled", filepath=crowd.photo)
    crowd.folder.update_person(0, state="masked")
    crowd.people[1].rig.scale = (1, 1, 1)
    bpy.context.view_layer.update()
    fails(operators.refit, "still being built", filepath=crowd.photo)
    assert crowd.server.requests == []


def test_a_rig_that_was_deleted_meanwhile(crowd):
    raise_arm(crowd.people[1])
    refit(crowd)
    bpy.data.objects.remove(crowd.people[1].rig)
    crowd.server.finish(crowd.folder, [1])
    assert crowd.session.rows[0].note == (
        "Person 1 is not in the crowd any more; Import Again has them."
    )
    assert set(people(crowd)) == {0}


def test_an_undo_while_the_job_runs_loses_nothing(crowd):
    raise_arm(crowd.people[1])
    bpy.ops.ed.undo_push(message="posed")
    refit(crowd)
    bpy.ops.ed.undo()  # takes the pose back; the result brings it again
    crowd.server.finish(crowd.folder, [1])
    person = people(crowd)[1]
    assert len(person.splats.data.polygons) == 900 and not is_changed(person.rig)


def test_a_crowd_that_is_gone_is_told(crowd):
    raise_arm(crowd.people[1])
    refit(crowd)
    for collection in list(bpy.data.collections):
        bpy.data.collections.remove(collection)
    crowd.server.finish(crowd.folder, [1])
    assert "is not in this file; Import Again" in crowd.session.rows[0].note


def test_the_panel_draws(crowd):
    layout = FakeLayout()
    crowd.collection[GONE] = [7]
    Panel.draw_people(SimpleNamespace(layout=layout), bpy.context)
    assert "Bring Back Person 007" in layout.texts()
    assert {
        f"crowdgaussian.{name}"
        for name in ("find_photo", "refit", "leave_out", "add_person", "bring_back")
    } == set(layout.buttons())
    bpy.ops.crowdgaussian.find_photo(filepath=crowd.photo)
    layout = FakeLayout()
    Panel.draw_people(SimpleNamespace(layout=layout), bpy.context)
    assert "crowdgaussian.find_photo" not in layout.buttons()
    raise_arm(crowd.people[0])
    assert bpy.ops.crowdgaussian.refit() == {"FINISHED"}, "the photo is known from here on"
