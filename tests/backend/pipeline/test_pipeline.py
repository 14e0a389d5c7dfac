# SPDX-License-Identifier: Apache-2.0
"""The pipeline with stand-in stages: what it writes, resumes, survives and refuses."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from _support.stand_ins import HEIGHT, WIDTH, Script, make_person, write_photo
from crowdgaussian.pipeline import checkpoint
from crowdgaussian.pipeline.config import Config, with_setting
from crowdgaussian.pipeline.reconstruct import Job, reconstruct
from crowdgaussian_shared.errors import BusyError, Cancelled, CrowdGaussianError, DiskFullError
from crowdgaussian_shared.scene.folder import SceneFolder

pytestmark = pytest.mark.usefixtures("no_model_files")


@pytest.fixture
def job(tmp_path):
    return Job(write_photo(tmp_path / "a.png"), tmp_path / "out", Config())


def run(job, script, report=lambda step: None):
    return reconstruct(job, report, script.stages)


def states(folder):
    return [person.state for person in folder.info.people]


def test_a_whole_run(job):
    script, steps = Script(), []
    folder = run(job, script, steps.append)
    assert script.diary == ["load", "people", "masks", "avatar 0", "avatar 1", "avatar 2"]
    read = SceneFolder.open(job.out)
    assert states(read) == states(folder) == ["done"] * 3
    assert read.info.photo.name == "a.png"
    assert (read.info.photo.width, read.info.photo.height) == (WIDTH, HEIGHT)
    person = read.info.people[1]
    assert person.flags == ("small", "cut") and not person.on_ground and person.occlusion == 0.25
    assert person.quality["iou"] == 0.95 and person.quality["reprojection_px"] == 1.5
    assert set(read.timings.of_person(1)) == {"avatar", "measure"}
    assert set(read.timings.stages) == {"people", "masks", "avatars"}
    assert read.info.settings["avatar.gaussians"] == Config().avatar.gaussians
    assert len(read.read_avatar(2).gaussians) == 50
    assert (job.out / "people/001/splats.ply").is_file()
    by_stage = {}
    for step in steps:
        assert step.fraction >= by_stage.get(step.stage, 0.0), "progress must not go back"
        by_stage[step.stage] = step.fraction
    assert by_stage == {"people": 1.0, "masks": 0.0, "avatars": 1.0}


def test_feet_spread_counts_those_who_stand(job):
    folder = run(job, Script())
    # the stand-in bodies reach 0.9 m below a pelvis at 0.9 m
    assert folder.info.ground.spread == pytest.approx(0.0, abs=1e-6)
    assert folder.info.people[0].quality["feet"] == pytest.approx(0.0, abs=1e-6)


def test_a_finished_run_is_not_done_again(job):
    run(job, Script())
    again = Script()
    run(job, again)
    assert again.diary == []


def cancel_at(stage, person):
    def report(step):
        if step.stage == stage and step.person == person:
            raise Cancelled

    return report


def test_cancel_then_resume_keeps_what_was_done(job):
    first, second = Script(), Script()
    with pytest.raises(Cancelled):
        run(job, first, cancel_at("avatars", 1))
    assert states(SceneFolder.open(job.out)) == ["done", "masked", "masked"]
    before = (job.out / "people/000/avatar.npz").stat().st_mtime_ns
    folder = run(job, second)
    assert second.diary == ["load", "avatar 1", "avatar 2"]
    assert states(folder) == ["done"] * 3
    assert (job.out / "people/000/avatar.npz").stat().st_mtime_ns == before
    assert folder.info.people[0].quality["iou"] == 0.95


def test_resume_gives_the_stages_the_same_people_and_masks(job):
    with pytest.raises(Cancelled):
        run(job, Script(), cancel_at("avatars", 0))
    folder = SceneFolder.open(job.out)
    crowd, masks = checkpoint.load_crowd(folder), checkpoint.load_masks(folder)
    assert crowd.on_ground == (True, False, True) and crowd.focal_source == "default"
    np.testing.assert_array_equal(crowd.camera.viewmat, np.diag([1.0, -1, -1, 1]))
    for place, person in enumerate(crowd.people):
        expected = make_person(place, 3, (HEIGHT, WIDTH))
        for name in ("betas", "pose", "transl", "box", "person_mask"):
            np.testing.assert_array_equal(getattr(person, name), getattr(expected, name))
        np.testing.assert_array_equal(person.keypoints.xy, expected.keypoints.xy)
        assert (person.scale, person.score, person.flags, person.reprojection_px) == (
            expected.scale,
            expected.score,
            expected.flags,
            expected.reprojection_px,
        )
        assert masks[place].occlusion == 0.25 and masks[place].visible.sum() == 80 * 8


def test_a_disk_that_was_full_for_a_moment_costs_no_preview(job, monkeypatch):
    """A run stopped between the people and the ground's picture went on without the picture."""

    def full(*_):
        raise DiskFullError("The disk is full.")

    with monkeypatch.context() as patched:
        patched.setattr(SceneFolder, "write_preview", full)
        with pytest.raises(DiskFullError):
            run(job, Script())
    assert run(job, Script()).info.previews == ("previews/ground.png",)
    assert (job.out / "previews/ground.png").is_file()


def test_a_damaged_fit_makes_the_people_stage_run_again(job):
    with pytest.raises(Cancelled):
        run(job, Script(), cancel_at("avatars", 1))
    (job.out / "people/002/fit.npz").write_bytes(b"PK\x03\x04 nonsense")
    again = Script()
    run(job, again)
    assert again.diary[:3] == ["load", "people", "masks"]


@pytest.mark.parametrize(
    "error, text",
    [
        (
            CrowdGaussianError("The sleeve is missing; wear one."),
            "The sleeve is missing; wear one.",
        ),
        (ZeroDivisionError("division"), "An unexpected ZeroDivisionError"),
    ],
)
def test_one_failed_person_does_not_stop_the_others(job, error, text):
    folder = run(job, Script(fail={1: error}))
    assert states(folder) == ["done", "failed", "done"]
    assert text in folder.info.people[1].error and "\n" not in folder.info.people[1].error
    again = Script()
    assert states(run(job, again)) == ["done"] * 3
    assert again.diary == ["load", "avatar 1"]
    assert SceneFolder.open(job.out).info.people[1].error == ""


def test_all_failed_is_an_error(job):
    script = Script(fail={i: CrowdGaussianError("No.") for i in range(3)})
    with pytest.raises(CrowdGaussianError, match="Nobody could be reconstructed"):
        run(job, script)
    assert states(SceneFolder.open(job.out)) == ["failed"] * 3


def test_a_full_disk_ends_the_run_and_leaves_a_valid_folder(job, monkeypatch):
    real = os.replace

    def replace_or_full(source, target):
        if str(target).endswith("001/avatar.npz"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(source, target)

    monkeypatch.setattr(os, "replace", replace_or_full)
    with pytest.raises(DiskFullError, match="disk is full"):
        run(job, Script())
    assert states(SceneFolder.open(job.out)) == ["done", "masked", "masked"]
    assert not [path for path in job.out.rglob("*") if ".tmp" in path.name]


def test_nobody_in_the_photo_leaves_nothing(job):
    with pytest.raises(CrowdGaussianError, match="No person was found"):
        run(job, Script(people=0))
    assert not job.out.exists()


def test_another_photo_or_setting_is_refused_unless_overwritten(job, tmp_path):
    run(job, Script())
    other_photo = replace(job, photo=write_photo(tmp_path / "b.png", seed=1))
    other_setting = replace(job, config=with_setting(job.config, "avatar.seed", "7"))
    with pytest.raises(CrowdGaussianError, match="another photo"):
        run(other_photo, Script())
    with pytest.raises(CrowdGaussianError, match=r"other settings \(avatar.seed\)"):
        run(other_setting, Script())
    (job.out / "notes.txt").write_text("mine")
    folder = run(replace(other_photo, overwrite=True), Script(people=2))
    assert states(folder) == ["done"] * 2
    assert not (job.out / "people/002").exists() or not any((job.out / "people/002").iterdir())
    assert (job.out / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_something_else_is_refused(job, overwrite):
    job.out.mkdir()
    (job.out / "thesis.txt").write_text("years of work")
    with pytest.raises(CrowdGaussianError, match="holds no scene"):
        run(replace(job, overwrite=overwrite), Script())
    assert [path.name for path in job.out.iterdir()] == ["thesis.txt"]


def test_out_is_a_file(job):
    job.out.write_text("x")
    with pytest.raises(CrowdGaussianError, match="is a file"):
        run(job, Script())
    with pytest.raises(CrowdGaussianError, match="is a file|Nothing can be written"):
        run(replace(job, out=job.out / "below"), Script())


def test_focal_option_is_in_pixels_of_the_file(job):
    config = with_setting(job.config, "photo.focal", "300")
    config = with_setting(config, "photo.max_side", "80")
    script = Script()
    folder = run(replace(job, config=config), script)
    assert script.focal == pytest.approx(150)
    assert folder.info.camera.focal_source == "option"
    assert folder.info.photo.width == 80


SLOW_RUN = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from crowdgaussian.cli import main as cli
from crowdgaussian.core.progress import silent
from crowdgaussian.pipeline import checkpoint
from crowdgaussian.pipeline.reconstruct import reconstruct
from _support.stand_ins import Script
script = Script(seconds=1.0)
checkpoint.files_for = lambda config: []
reconstruct.__defaults__ = (silent, script.stages)
sys.exit(cli.main(["reconstruct", {photo!r}, "-o", {out!r}]))
"""


def test_ctrl_c_leaves_a_valid_folder_and_running_again_resumes(job):
    code = SLOW_RUN.format(
        tests=str(Path(__file__).parents[2]), photo=str(job.photo), out=str(job.out)
    )
    command = [sys.executable, "-c", code]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (job.out / "people/000/avatar.npz").exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr.count("\n") == 1 and "Traceback" not in stderr, stderr
    stopped = states(SceneFolder.open(job.out))
    assert stopped[0] == "done" and "masked" in stopped
    again = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert again.returncode == 0, again.stderr
    assert states(SceneFolder.open(job.out)) == ["done"] * 3
    assert json.loads((job.out / "scene.json").read_text())["writer"].startswith("crowdgaussian")


def test_a_second_run_in_the_same_folder_is_turned_away(job):
    """Two runs of one photo at once used to compute everything twice, or to lose an update."""
    second = Script()

    def meanwhile(step):
        if step.stage == "avatars" and step.person == 1:
            with pytest.raises(BusyError, match="is being written by process"):
                run(job, second)

    folder = run(job, Script(), meanwhile)
    assert states(folder) == ["done"] * 3 and second.diary == []
    assert states(run(job, second)) == ["done"] * 3 and second.diary == []
    assert not list(job.out.glob(".*"))


def test_a_photo_without_people_leaves_no_folder(job):
    with pytest.raises(CrowdGaussianError, match="No person"):
        run(job, Script(people=0))
    assert not job.out.exists()


def test_what_a_killed_run_has_half_written_goes_with_the_next(job):
    with pytest.raises(Cancelled):
        run(job, Script(), cancel_at("avatars", 1))
    left = [job.out / ".photo.jpg.6ff3c9bc.tmp", job.out / "people/001/.avatar.npz.0123abcd.tmp"]
    for path in (*left, job.out / ".notes.tmp"):
        path.write_bytes(b"half")
    run(job, Script())
    assert not any(path.exists() for path in left) and (job.out / ".notes.tmp").exists()
