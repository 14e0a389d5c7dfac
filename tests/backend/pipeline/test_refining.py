# SPDX-License-Identifier: Apache-2.0
"""Refinement as a stage of the pipeline: what it writes, resumes, survives and never loses."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from _support.refining_running import (
    cancel_in_cluster,
    files_of,
    plain,
    refinements,
    refining_job,
    run,
)
from _support.stand_ins import Script
from crowdgaussian.avatar.quality import measure
from crowdgaussian.pipeline import stages
from crowdgaussian.pipeline.config import with_setting
from crowdgaussian.refiner import stage as refinement_stage
from crowdgaussian.refiner.networks.small_unet import SmallRefiner
from crowdgaussian_shared.errors import Cancelled, CrowdGaussianError
from crowdgaussian_shared.formats.npz import read_npz, write_npz
from crowdgaussian_shared.scene.edit import PoseEdit, SceneEdit, SceneEdits
from crowdgaussian_shared.scene.folder import SceneFolder

pytestmark = pytest.mark.usefixtures("no_model_files")


@pytest.fixture
def job(tmp_path, weights):
    return refining_job(tmp_path, weights)


def test_every_person_is_refined(job):
    script, steps = Script(), []
    folder = run(job, script, steps.append)
    assert refinements(folder) == ["refined"] * 3
    coarse = run(plain(job, out=job.out.parent / "coarse"))
    for index in range(3):
        before, after = files_of(coarse, index), files_of(folder, index)
        assert before.keys() == after.keys(), "nothing is left beside"
        assert {name for name in after if after[name] != before[name]} == {
            "avatar.npz",
            "splats.ply",
        }
        entry = folder.info.people[index]
        assert entry.state == "done" and entry.quality["coarse_psnr_db"] == 30.0
        assert folder.timings.of_person(index)["refine"] > 0
    timings = folder.timings
    assert timings.stages["refine"] == pytest.approx(
        sum(timings.of_person(i)["refine"] for i in range(3))
    )
    assert timings.stages["avatars"] == pytest.approx(
        sum(timings.of_person(i)[step] for i in range(3) for step in ("avatar", "measure"))
    )
    told = [step.fraction for step in steps if step.stage == "refine"]
    assert told == sorted(told) and told[0] == 0.0 and told[-1] == 1.0
    assert steps[-1].stage == "refine"
    again = Script()
    run(job, again)
    assert again.diary == [], "a refined crowd is finished"


def test_a_scene_without_refinement_is_refined_later(job):
    first = run(plain(job))
    before = [files_of(first, index) for index in range(3)]
    script = Script()
    folder = run(job, script)
    assert script.diary == ["load"] and refinements(folder) == ["refined"] * 3
    assert all(files_of(folder, index) != before[index] for index in range(3))
    with pytest.raises(CrowdGaussianError, match=r"other settings \(stages.refiner\)"):
        run(plain(job))


def test_cancel_then_resume_refines_the_rest_and_nobody_twice(job):
    whole = run(replace(job, out=job.out.parent / "whole"))
    with pytest.raises(Cancelled):
        run(job, report=cancel_in_cluster(2))
    folder = SceneFolder.open(job.out)
    assert refinements(folder) == ["refined", "", ""]
    assert [person.state for person in folder.info.people] == ["done"] * 3
    stopped = (job.out / "people/000/avatar.npz").stat().st_mtime_ns
    steps = []
    run(job, report=steps.append)
    assert (job.out / "people/000/avatar.npz").stat().st_mtime_ns == stopped
    assert [files_of(folder, i) for i in range(3)] == [files_of(whole, i) for i in range(3)]
    assert {step.message[-8:] for step in steps if "group" in step.message} == {"1 person"}
    assert any("of 2" in step.message for step in steps), "one group was done already"


@pytest.mark.parametrize("kept", [False, True])
def test_a_crash_between_two_files_refines_nobody_twice(job, monkeypatch, kept):
    whole = run(plain(job, out=job.out.parent / "whole"))
    if not kept:
        whole = run(replace(job, out=job.out.parent / "whole"))
    real = SceneFolder.write_splats

    def die(folder, index, gaussians=None):
        if (folder.path / "people/001/coarse.npz").exists():
            raise KeyboardInterrupt
        return real(folder, index, gaussians)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(SceneFolder, "write_splats", die)
        run(job)
    assert refinements(SceneFolder(job.out, None)) == ["refined", "", ""]
    folder = run(job, measure=lambda *_: {"psnr_db": 1.0}) if kept else run(job)
    assert refinements(folder)[1:] == ["kept" if kept else "refined"] * 2
    assert files_of(folder, 1) == files_of(whole, 1), "and no file is left beside"


def spoil(folder, index, **arrays):
    """Changes arrays of an avatar behind the back of every check."""
    path = folder.path / f"people/{index:03d}/avatar.npz"
    write_npz(path, {**read_npz(path), **arrays})


@pytest.mark.parametrize(
    "arrays, words",
    [
        ({"means": np.full((50, 3), np.nan, np.float32)}, "means must be finite"),
        ({"transl": np.array([0, 0.9, 4], np.float32)}, "behind the photo's camera"),
    ],
)
def test_who_cannot_be_refined_keeps_the_first_avatar(job, arrays, words):
    first = run(plain(job))
    spoil(first, 1, **arrays)
    before = files_of(first, 1)
    folder = run(job)
    assert refinements(folder) == ["refined", "failed", "refined"]
    entry = folder.info.people[1]
    assert entry.state == "done" and words in entry.refinement_note
    assert entry.refinement_note.count(".") >= 1 and "\n" not in entry.refinement_note
    assert files_of(folder, 1) == before
    assert not entry.settled, "it is tried again"


class Wrapped:
    """A network that gets or does something else."""

    def __init__(self, network, wrong):
        self._refine, self._wrong = network.refine, wrong

    def refine(self, images, normals):
        return self._wrong(self._refine, images, normals)


def wrapped(config, wrong):
    """The refinement stage with such a network."""
    stage = stages.load_refiner(config)
    stage.refiner = Wrapped(stage.refiner, wrong)
    return stage


def starve(*_):
    raise torch.OutOfMemoryError("no")


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda refine, images, normals: refine(images, None), "needs the normal map"),
        (lambda refine, images, normals: refine(images, normals[..., :-1]), "The normal map has"),
        (lambda refine, images, normals: images[..., :-1], "another size"),
        (lambda refine, images, normals: images * float("nan"), "not finite"),
        (lambda refine, images, normals: 1 // 0, "An unexpected ZeroDivisionError"),
        (starve, "not enough memory"),
    ],
)
def test_a_refinement_that_fails_loses_nothing(job, wrong, words):
    first = run(plain(job))
    before = [files_of(first, index) for index in range(3)]
    folder = run(job, refiner=wrapped(job.config, wrong))
    assert refinements(folder) == ["failed"] * 3
    assert all(
        words in person.refinement_note and person.state == "done" for person in folder.info.people
    )
    assert [files_of(folder, index) for index in range(3)] == before
    assert refinements(run(job)) == ["refined"] * 3, "running again tries again"


def test_memory_that_is_short_makes_the_tiles_smaller(job, monkeypatch):
    sizes, real = [], SmallRefiner.forward

    def forward(self, images, normals):
        sizes.append(images.shape[-1])
        if sizes[-1] > 200:
            starve()
        return real(self, images, normals)

    monkeypatch.setattr(SmallRefiner, "forward", forward)
    config = with_setting(job.config, "refine.distil.size", "256")
    folder = run(replace(job, config=config), Script(people=1))
    assert refinements(folder) == ["refined"]
    assert sizes[0] == 256 and sizes[-1] == 192


def test_the_diffusion_network_refines_through_the_same_seam(job, tmp_path):
    from _support.refiner_made_up import WIDTH, small_networks
    from crowdgaussian.refiner.networks.sd_checkpoint import save_refiner
    from crowdgaussian.refiner.networks.sd_turbo import TurboConfig, TurboRefiner, add_decoder_lora

    vae, unet = small_networks()
    config = TurboConfig(rank=2)
    add_decoder_lora(vae, config)
    prompt = torch.zeros(1, 77, WIDTH)
    save_refiner(TurboRefiner(vae, unet, prompt, config), tmp_path / "refiner")
    config = with_setting(job.config, "stages.refiner", "turbo")
    config = with_setting(config, "refine.weights", str(tmp_path / "refiner"))
    named = replace(job, config=config)
    extras = tmp_path / "refiner/extras.safetensors"
    whole = extras.read_bytes()
    extras.write_bytes(whole[:-9])
    folder = run(named, Script(people=1))
    assert refinements(folder) == ["failed"] and folder.info.people[0].state == "done"
    assert "damaged" in folder.info.people[0].refinement_note
    extras.unlink()
    with pytest.raises(CrowdGaussianError, match="extras.safetensors is missing"):
        run(named, Script(people=1))
    extras.write_bytes(whole)
    assert refinements(run(named, Script(people=1))) == ["refined"]


def test_a_view_of_the_photo_that_gets_worse_keeps_the_first_avatar(job):
    first = run(plain(job))
    before = files_of(first, 1)
    worse = [30.0, 29.9, 30.0]
    folder = run(job, measure=lambda avatar, view, index: {"psnr_db": worse[index]})
    assert refinements(folder) == ["refined", "kept", "refined"]
    entry = folder.info.people[1]
    assert "29.9 dB instead of 30.0 dB" in entry.refinement_note
    assert entry.quality["psnr_db"] == 30.0 and entry.settled and files_of(folder, 1) == before
    again = Script()
    run(job, again)
    assert again.diary == []


def test_the_photo_s_view_is_not_worse_as_the_avatar_s_quality_measures_it(job):
    steps = with_setting(job.config, "refine.distil.steps", "12")
    folder = run(replace(job, config=steps), measure=measure)
    for person in folder.info.people:
        if person.refinement == "refined" and "coarse_psnr_db" in person.quality:
            assert person.quality["psnr_db"] >= person.quality["coarse_psnr_db"] - 0.01
    assert "refined" in refinements(folder)


def test_an_edit_refines_whom_it_touches_and_nobody_else(job):
    base = run(job)
    viewmat = np.diag([1.0, -1, -1, 1])
    viewmat[1, 3] = 1.5
    base.update(camera=replace(base.info.camera, viewmat=viewmat))
    pose = np.zeros((55, 3))
    pose[16, 2] = 0.5
    step = SceneEdit(corrected={1: PoseEdit(pose, np.array([0.3, 0.9, -4.0]))})
    edited = replace(job, out=job.out.parent / "edited", base=base.path, edits=SceneEdits((step,)))
    script, steps = Script(), []
    folder = run(edited, script, steps.append)
    assert script.diary == ["load", "masks", "avatar 1"]
    for person in (0, 2):
        assert files_of(folder, person) == files_of(base, person)
        assert folder.info.people[person] == base.info.people[person]
    assert refinements(folder) == ["refined"] * 3
    assert any("group 1 of 1, 1 person" == step.message for step in steps)
    again = Script()
    run(edited, again)
    assert again.diary == []
    left_out = replace(
        job,
        out=job.out.parent / "less",
        base=base.path,
        edits=SceneEdits((SceneEdit(excluded=(2,)),)),
    )
    assert refinements(run(left_out)) == ["refined", "refined", ""]


def test_an_edit_that_was_cancelled_while_refining_goes_on(job):
    base = run(job)
    step = SceneEdit(corrected={1: PoseEdit(np.zeros((55, 3)), np.array([0.3, 0.9, -4.0]))})
    edited = replace(job, out=job.out.parent / "edited", base=base.path, edits=SceneEdits((step,)))
    with pytest.raises(Cancelled):
        run(edited, report=cancel_in_cluster(1))
    assert refinements(SceneFolder.open(edited.out)) == ["refined", "", "refined"]
    script = Script()
    assert refinements(run(edited, script)) == ["refined"] * 3
    assert script.diary == ["load"]


def test_a_photo_with_corrections_that_was_cancelled_while_refining_goes_on(job):
    step = SceneEdit(excluded=(2,))
    edited = replace(job, edits=SceneEdits((step,)))
    whole = run(replace(edited, out=job.out.parent / "whole"))
    with pytest.raises(Cancelled):
        run(edited, report=cancel_in_cluster(2))
    assert refinements(SceneFolder.open(job.out)) == ["refined", "", ""]
    folder = run(edited)
    assert refinements(folder) == refinements(whole) == ["refined", "refined", ""]
    assert [files_of(folder, i) for i in range(3)] == [files_of(whole, i) for i in range(3)]


def test_a_wrong_map_of_a_whole_cluster(job, monkeypatch):
    real = refinement_stage.cluster_views
    monkeypatch.setattr(
        refinement_stage,
        "cluster_views",
        lambda *given: replace(real(*given), normals=real(*given).normals[:, :3]),
    )
    folder = run(job)
    assert refinements(folder) == ["failed"] * 3
    assert "normal map" in folder.info.people[0].refinement_note
