# SPDX-License-Identifier: Apache-2.0
"""Corrections of a finished scene with stand-in stages: who is built anew, who is not touched."""

import json
from dataclasses import replace

import numpy as np
import pytest
from _support.stand_ins import HEIGHT, WIDTH, Script, make_person, write_photo
from crowdgaussian.cli import main as cli
from crowdgaussian.core.progress import silent
from crowdgaussian.pipeline import checkpoint
from crowdgaussian.pipeline.config import Config, with_setting
from crowdgaussian.pipeline.reconstruct import Job, reconstruct
from crowdgaussian_shared.errors import Cancelled, CrowdGaussianError
from crowdgaussian_shared.scene.edit import PoseEdit, SceneEdit, SceneEdits
from crowdgaussian_shared.scene.folder import SceneFolder
from crowdgaussian_shared.scene.schema import CORRECTED, LEFT_OUT

pytestmark = pytest.mark.usefixtures("no_model_files")

BOX = (100.0, 10.0, 130.0, 110.0)


def pose_edit(angle=0.5, x=0.3):
    pose = np.zeros((55, 3))
    pose[16, 2] = angle
    return PoseEdit(pose, np.array([x, 0.9, -4.0]))


def edits(*steps):
    return SceneEdits(steps)


CORRECT_1 = SceneEdit(corrected={1: pose_edit()})


@pytest.fixture
def job(tmp_path):
    return Job(write_photo(tmp_path / "a.png"), tmp_path / "base", Config())


@pytest.fixture
def base(job):
    """A finished scene, its camera a metre and a half above the floor."""
    folder = run(job, Script())
    viewmat = np.diag([1.0, -1, -1, 1])
    viewmat[1, 3] = 1.5
    folder.update(camera=replace(folder.info.camera, viewmat=viewmat))
    return folder


def run(job, script, report=lambda step: None):
    return reconstruct(job, report, script.stages)


def corrected(job, base, *steps):
    return replace(job, out=job.out.parent / "out", base=base.path, edits=edits(*steps))


def files_of(folder, person):
    return {p.name: p.read_bytes() for p in (folder / f"people/{person:03d}").iterdir()}


def test_only_the_corrected_person_is_built_anew(job, base):
    script = Script()
    folder = run(corrected(job, base, CORRECT_1), script)
    assert script.diary == ["load", "masks", "avatar 1"]
    for person in (0, 2):
        assert files_of(base.path, person) == files_of(folder.path, person)
        assert folder.info.people[person] == base.info.people[person]
    avatar = folder.read_avatar(1)
    np.testing.assert_allclose(avatar.pose, pose_edit().pose, atol=1e-6)
    np.testing.assert_allclose(avatar.transl, [0.3, 0.9, -4.0], atol=1e-6)
    entry = folder.info.people[1]
    assert entry.state == "done" and CORRECTED in entry.flags and "small" in entry.flags
    assert entry.on_ground, "the soles are on the floor"
    assert SceneFolder.open(base.path).info.people == base.info.people, "the base is left alone"


def test_a_further_step_builds_only_whom_it_names(job, base):
    first = run(corrected(job, base, CORRECT_1), Script())
    script = Script()
    step = SceneEdit(corrected={2: pose_edit(0.1)})
    later = replace(corrected(job, first, CORRECT_1, step), out=job.out.parent / "later")
    folder = run(later, script)
    assert script.diary == ["load", "masks", "avatar 2"]
    assert files_of(first.path, 1) == files_of(folder.path, 1)
    whole = replace(corrected(job, base, CORRECT_1, step), out=job.out.parent / "whole")
    for person in range(3):
        assert files_of(run(whole, Script()).path, person) == files_of(folder.path, person)


def test_leaving_out_and_bringing_back(job, base):
    script, seen = Script(), []
    out = SceneEdit(excluded=(1,))
    folder = run(corrected(job, base, out), script)
    assert script.diary == [], "nothing is loaded to leave somebody out"
    entry = folder.info.people[1]
    assert entry.state == "failed" and entry.error == "Left out on request."
    assert LEFT_OUT in entry.flags and entry.settled and set(entry.files) == {"fit"}
    assert {p.name for p in (folder.path / "people/001").iterdir()} == {"fit.npz"}
    back = replace(
        corrected(job, folder, out, SceneEdit(included=(1,))), out=job.out.parent / "back"
    )
    script = Script(watch_masks=lambda crowd: seen.append(len(crowd.people)))
    folder = run(back, script)
    assert script.diary == ["load", "masks", "avatar 1"] and seen == [3]
    assert folder.info.people[1].state == "done" and LEFT_OUT not in folder.info.people[1].flags
    assert files_of(folder.path, 1) == files_of(base.path, 1)


def test_landmarks_that_a_correction_contradicts_follow_the_body(job, base):
    seen = []
    script = Script(watch_masks=lambda crowd: seen.extend(p.keypoints.xy for p in crowd.people))
    run(corrected(job, base, CORRECT_1), script)
    np.testing.assert_allclose(seen[1], np.tile([95.0, 90.0], (33, 1)), atol=1e-3)
    np.testing.assert_allclose(seen[0][0], make_person(0, 3, (HEIGHT, WIDTH)).keypoints.xy[0])


def test_people_left_out_take_no_pixels_from_others(job, base):
    seen = []
    script = Script(watch_masks=lambda crowd: seen.append([p.betas[0] for p in crowd.people]))
    run(corrected(job, base, SceneEdit({2: pose_edit()}, excluded=(0,))), script)
    assert seen == [[1.0, 2.0]]


def test_a_box_adds_somebody_at_the_end(job, base):
    script = Script()
    folder = run(corrected(job, base, SceneEdit(boxes=(BOX,))), script)
    assert script.diary == ["load", "box 100,10,130,110", "masks", "avatar 3"]
    assert [p.state for p in folder.info.people] == ["done"] * 4
    for person in range(3):
        assert files_of(base.path, person) == files_of(folder.path, person)
    person, avatar = folder.info.people[3], folder.read_avatar(3)
    assert person.box == BOX and person.on_ground
    # the stand-in camera is one metre above the found person's floor and 1.5 above the scene's
    assert avatar.scale == pytest.approx(1.5, rel=1e-5), "the feet decide size and distance"
    np.testing.assert_allclose(avatar.transl, [0, 1.5, -6], atol=1e-5)


def test_all_steps_in_one_give_the_same_people(job, base):
    steps = (
        SceneEdit(boxes=(BOX,)),
        SceneEdit({3: pose_edit()}),
        SceneEdit({1: pose_edit(0.3)}),
        SceneEdit(boxes=((40.0, 10, 70, 110),)),
        SceneEdit(excluded=(0, 4)),
    )
    one_by_one = run(corrected(job, base, *steps), Script())
    script = Script()
    merged = replace(
        corrected(job, base), edits=SceneEdits(steps).merged(), out=job.out.parent / "merged"
    )
    at_once = run(merged, script)
    assert script.diary[-3:] == ["masks", "avatar 1", "avatar 3"]
    states = [[(p.state, p.flags) for p in f.info.people] for f in (one_by_one, at_once)]
    assert states[0] == states[1]
    for person in (1, 3):
        np.testing.assert_allclose(
            at_once.read_avatar(person).pose, one_by_one.read_avatar(person).pose
        )
    back = replace(
        merged,
        base=at_once.path,
        out=job.out.parent / "back",
        edits=SceneEdits((*merged.edits.steps, SceneEdit(included=(4,)))),
    )
    assert [p.state for p in run(back, Script()).info.people] == ["failed", *["done"] * 4]


def test_interrupted_corrections_go_on(job, base):
    def stop(step):
        if step.stage == "avatars" and step.person == 2:
            raise Cancelled

    step = SceneEdit({1: pose_edit(), 2: pose_edit(0.2)})
    edited = corrected(job, base, step)
    with pytest.raises(Cancelled):
        run(edited, Script(), stop)
    states = [p.state for p in SceneFolder.open(edited.out).info.people]
    assert states == ["done", "done", "masked"]
    before = files_of(edited.out, 1)
    script = Script()
    folder = run(edited, script)
    assert script.diary == ["load", "masks", "avatar 2"]
    assert files_of(edited.out, 1) == before
    again = Script()
    run(edited, again)
    assert again.diary == [] and [p.state for p in folder.info.people] == ["done"] * 3


def test_interrupted_copying_starts_over(job, base, monkeypatch):
    import shutil

    real = shutil.copyfile

    def full(source, target):
        if "002" in str(target):
            raise OSError(28, "No space left on device")
        return real(source, target)

    monkeypatch.setattr(shutil, "copyfile", full)
    edited = corrected(job, base, CORRECT_1)
    with pytest.raises(CrowdGaussianError, match="could not be copied"):
        run(edited, Script())
    assert SceneFolder.open(edited.out).info.people == ()
    monkeypatch.undo()
    monkeypatch.setattr(checkpoint, "files_for", lambda config: [])
    assert [p.state for p in run(edited, Script()).info.people] == ["done"] * 3


def test_without_a_base_the_photo_is_reconstructed_first(job):
    base, script = run(job, Script()), Script()
    folder = run(replace(corrected(job, base, CORRECT_1), base=None), script)
    assert script.diary == [
        "load",
        "people",
        "masks",
        "avatar 0",
        "avatar 1",
        "avatar 2",
        "masks",
        "avatar 1",
    ]
    made = run(replace(corrected(job, base, CORRECT_1), out=job.out.parent / "c"), Script())
    for person in range(3):
        assert files_of(folder.path, person) == files_of(made.path, person)


@pytest.mark.parametrize(
    "step, sentence",
    [
        (SceneEdit({7: pose_edit()}), "There is no person 7 to correct; the scene has 3 people."),
        (SceneEdit(boxes=((500.0, 10, 600, 90),)), "less than 8 pixels inside the photo"),
        (SceneEdit(excluded=(0, 1, 2)), "keep at least one person"),
        (SceneEdit(boxes=((10.0, 10, 40, 110),)), "in the crowd already, as person 0"),
    ],
)
def test_what_cannot_be_is_one_sentence_and_changes_nothing(job, base, step, sentence):
    edited = corrected(job, base, step)
    with pytest.raises(CrowdGaussianError, match=sentence) as error:
        run(edited, Script())
    assert "\n" not in str(error.value)
    assert SceneFolder.open(edited.out).info.people == base.info.people


def test_stages_that_take_no_boxes_say_so(job, base):
    config = with_setting(job.config, "stages.people", "results")
    edited = corrected(replace(job, config=config), base, SceneEdit(boxes=(BOX,)))
    with pytest.raises(CrowdGaussianError, match="'results' cannot look into boxes"):
        run(edited, Script())


def test_other_corrections_and_unfinished_scenes_are_refused(job, base):
    edited = corrected(job, base, CORRECT_1)
    run(edited, Script())
    other = replace(edited, edits=edits(SceneEdit(excluded=(0,))))
    with pytest.raises(CrowdGaussianError, match="holds other corrections"):
        run(other, Script())
    assert LEFT_OUT in run(replace(other, overwrite=True), Script()).info.people[0].flags
    base.update_person(2, state="masked")
    with pytest.raises(CrowdGaussianError, match="is not finished"):
        run(replace(edited, out=job.out.parent / "x"), Script())


def test_the_command(job, base, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reconstruct, "__defaults__", (silent, Script().stages))
    file = tmp_path / "edit.json"
    file.write_text(edits(CORRECT_1).to_json())
    assert cli.main(["edit", str(base.path), str(file), "-o", str(tmp_path / "one")]) == 0
    assert capsys.readouterr().out.strip().endswith("one/scene.json")
    file.write_text(json.dumps({"edits": [{"excluded": [0]}]}, indent=2))
    assert cli.main(["edit", str(tmp_path / "one"), str(file), "-o", str(tmp_path / "two")]) == 0
    two = SceneFolder.open(tmp_path / "two").info
    assert CORRECTED in two.people[1].flags and LEFT_OUT in two.people[0].flags
    assert cli.main(["edit", str(base.path), str(file), "-o", str(base.path)]) == 2
    (base.path / "people/000/fit.npz").unlink()  # as in a folder that a client mirrored
    file.write_text(edits(CORRECT_1).to_json())
    assert cli.main(["edit", str(base.path), str(file), "-o", str(tmp_path / "three")]) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert "the scene itself" in errors[-2] and "could not be copied" in errors[-1]
