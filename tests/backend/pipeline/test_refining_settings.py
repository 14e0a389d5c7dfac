# SPDX-License-Identifier: Apache-2.0
"""Refinement's settings, weights, licences, and what is said about it."""

import json
from dataclasses import replace

import pytest
import torch
from _support.refining_running import files_of, plain, refinements, refining_job, run
from _support.stand_ins import Script
from crowdgaussian.cli import main as cli
from crowdgaussian.cli.inspect import inspect_scene
from crowdgaussian.pipeline import refinement as refining
from crowdgaussian.pipeline import stages
from crowdgaussian.pipeline.config import Config, is_local, with_setting
from crowdgaussian.pipeline.stages import files_for
from crowdgaussian.refiner import types as used_files
from crowdgaussian.refiner.networks.small_unet import SmallConfig, SmallRefiner, save_small
from crowdgaussian.weights import find
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.scene.folder import SceneFolder
from safetensors.torch import save_file

pytestmark = pytest.mark.usefixtures("no_model_files")


@pytest.fixture
def job(tmp_path, weights):
    return refining_job(tmp_path, weights)


def test_weights_that_do_not_fit_are_told_before_the_work(job, tmp_path, monkeypatch):
    other = tmp_path / "other.safetensors"
    save_file({"unet.conv": torch.zeros(2)}, other)
    script = Script()
    named = replace(job, config=with_setting(job.config, "refine.weights", str(other)))
    with pytest.raises(CrowdGaussianError, match="another architecture"):
        run(named, script)
    first = run(plain(job))
    before = [files_of(first, index) for index in range(3)]
    for text, words in ((str(other), "another architecture"), ("gone", "no file"), ("", "ships")):
        monkeypatch.setattr(
            used_files, "OPEN_REFINER", replace(used_files.OPEN_REFINER, file="absent.safetensors")
        )
        config = with_setting(job.config, "refine.weights", text)
        with pytest.raises(CrowdGaussianError, match=words) as error:
            run(replace(job, config=config))
        assert "\n" not in str(error.value)
    assert [files_of(SceneFolder.open(job.out), index) for index in range(3)] == before


def test_the_report_says_who_was_refined_by_what(job, monkeypatch, capsys):
    small = [file for file in files_for(job.config) if file.stage == "refiner"]
    run(plain(job))
    monkeypatch.setattr(refining, "files_for", lambda config: small)
    worse = [30.0, 29.0, 30.0]
    folder = run(job, measure=lambda avatar, view, index: {"psnr_db": worse[index]})
    report = inspect_scene(folder.path)
    (model,) = report["models"]
    assert model["stage"] == "refiner" and model["licence"] == "Apache-2.0" and model["commercial"]
    assert model["file"] == "tiny.safetensors" and len(model["blake2b"]) == 64
    assert [person["refinement"] for person in report["people"]] == ["refined", "kept", "refined"]
    assert cli.main(["inspect", str(folder.path)]) == 0
    told = capsys.readouterr().out
    assert "unrefined" in told
    assert "person 1 is not refined: Refined, this person matches the photo at 29.0 dB" in told


def test_nobody_is_refined_by_a_model_that_refined_nobody(job, monkeypatch):
    run(plain(job))
    monkeypatch.setattr(refining, "files_for", files_for)
    folder = run(job, measure=lambda *_: {"psnr_db": 1.0})
    assert refinements(folder) == ["kept"] * 3 and folder.info.models == ()


def test_what_settings_and_clients_may_say(weights):
    config = Config()
    assert is_local(config, "refine.weights") and not is_local(config, "stages.refiner")
    assert not is_local(config, "refine.distil.steps")
    for name, text in (
        ("refine.distil.size", "8"),
        ("refine.distil.steps", "100000"),
        ("refine.most_people", "0"),
        ("refine.distil.photo_share", "1.5"),
        ("refine.reach", "0"),
        ("refine.reach", "inf"),
    ):
        with pytest.raises(CrowdGaussianError, match="must be from"):
            with_setting(config, name, text)
    with pytest.raises(CrowdGaussianError, match="no refiner stage 'sharp'; use one of: none, sm"):
        stages.load_refiner(with_setting(config, "stages.refiner", "sharp"))


def test_licences_of_a_user_s_refiners(tmp_path, weights):
    config = with_setting(Config(), "stages.refiner", "small")
    unknown = tmp_path / "mine.safetensors"
    save_small(SmallRefiner(SmallConfig(widths=(4, 8))), unknown)
    for path, commercial in ((weights, True), (unknown, False)):
        (file,) = used_files.small_files(with_setting(config, "refine.weights", str(path)).refine)
        assert file.provenance().commercial is commercial
    turbo, base = (used_files.derivative(name, find(name).licence) for name in used_files.BASES)
    for licence, commercial in (
        (turbo, False),
        (None, False),
        (base, True),
        (f"{base}; trained on scans (THuman2.1), whose terms hold", False),
        (f"{base}; coarse views made by lorm, whose terms hold", False),
        (used_files.derivative("sd-2.1-base", "that of the network in the folder"), False),
    ):
        folder = tmp_path / str(commercial) / "refiner"
        for name in (
            "unet/diffusion_pytorch_model.safetensors",
            "extras.safetensors",
            "vae/diffusion_pytorch_model.safetensors",
        ):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(b"x")
        facts = {"facts": {"licence": licence}} if licence else {}
        (folder / "refiner.json").write_text(json.dumps(facts))
        files = used_files.turbo_files(with_setting(config, "refine.weights", str(folder)).refine)
        assert [file.commercial for file in files] == [commercial] * 3
        assert {file.stage for file in files} == {"refiner"}
    with pytest.raises(CrowdGaussianError, match="holds no refiner"):
        used_files.turbo_path(with_setting(config, "refine.weights", str(tmp_path)).refine)
