# SPDX-License-Identifier: Apache-2.0
"""The whole job on the bundled sample, as `make demo` runs it, at reduced quality."""

import pytest
from _support.running import QUICK, SAMPLE, crowdgaussian
from crowdgaussian.cli.blend import MODULE_NAMES, find_blender
from crowdgaussian.synthetic.sample import load_ground_truth
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.formats.splat_ply import read_splat_ply
from PIL import Image

pytestmark = pytest.mark.slow


def test_everybody_is_found_and_finished(sample_run):
    people = sample_run.report["people"]
    assert len(people) == len(load_ground_truth().people)
    assert [person["state"] for person in people] == ["done"] * len(people)
    assert f"{len(people)} of {len(people)} people done" in sample_run.stdout
    assert sample_run.stdout.endswith("scene.json")


def test_report_is_complete(sample_run):
    """Plausible numbers everywhere; how good they must be is test_sample_accuracy's matter."""
    report = sample_run.report
    for person in report["people"]:
        assert person["gaussians"] > 5000
        assert 0 <= person["occlusion"] < 1
        assert person["reprojection_px"] > 0
        assert person["iou"] > 0.7 and person["psnr_db"] > 10 and person["coverage"] > 0.95
        assert person["distance"] > 1 and 0.8 < person["body_height"] < 2.2
        assert set(person["seconds"]) == {"avatar", "measure", "refine"}
    assert set(report["timings"]) == {"people", "masks", "avatars", "refine"}
    assert report["commercial_use"] is True
    stages = {model["stage"] for model in report["models"]}
    assert stages == {"body", "people", "refiner"}
    assert all(model["blake2b"] and model["licence"] for model in report["models"])


def test_refinement_costs_nobody_the_photo_s_view(sample_run):
    people = sample_run.report["people"]
    assert {person["refinement"] for person in people} <= {"refined", "kept"}
    refined = [person for person in people if person["refinement"] == "refined"]
    assert len(refined) >= len(people) / 2
    assert all(person["psnr_db"] >= person["coarse_psnr_db"] - 0.01 for person in refined)


def test_folder_holds_what_the_design_promises(sample_run):
    report = sample_run.report
    with Image.open(sample_run.out / "photo.jpg") as photo:
        size = photo.size
    assert size == (report["photo"]["width"], report["photo"]["height"])
    for person in report["people"]:
        home = sample_run.out / f"people/{person['index']:03d}"
        assert {path.name for path in home.iterdir()} >= {
            "avatar.npz",
            "splats.ply",
            "mask.png",
            "amodal.png",
            "fit.npz",
        }
        assert len(read_splat_ply(home / "splats.ply")) == person["gaussians"]
        with Image.open(home / "mask.png") as mask:
            assert mask.size == size


def test_running_again_does_nothing(sample_run):
    before = {p: p.stat().st_mtime_ns for p in sample_run.out.rglob("*") if p.is_file()}
    again = crowdgaussian("reconstruct", SAMPLE, "-o", sample_run.out, *QUICK)
    assert again.returncode == 0, again.stderr
    after = {p: p.stat().st_mtime_ns for p in sample_run.out.rglob("*") if p.is_file()}
    assert after == before


def test_other_settings_are_refused(sample_run):
    other = crowdgaussian("reconstruct", SAMPLE, "-o", sample_run.out, "--gaussians", "9000")
    assert other.returncode == 2
    assert "avatar.gaussians" in other.stderr and "--overwrite" in other.stderr


def test_nobody_in_a_real_photo(tmp_path):
    """The real people stage on a picture without people."""
    Image.linear_gradient("L").resize((200, 150)).convert("RGB").save(tmp_path / "sky.jpg")
    done = crowdgaussian("reconstruct", tmp_path / "sky.jpg", "-o", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "No person was found" in done.stderr, done.stderr
    assert not (tmp_path / "out").exists()


def test_blend_makes_a_file_and_previews(sample_run, tmp_path):
    try:
        blender = find_blender()
    except CrowdGaussianError as error:
        pytest.skip(str(error))
    if not blender.name.startswith(MODULE_NAMES):
        pytest.skip(f"{blender} is a whole Blender: the bpy module of `make setup` is missing")
    small = tmp_path / "python"  # the same Blender; its previews are a quarter as wide
    small.write_text(f'#!/bin/sh\nexec "{blender}" "$@" --size 128\n')
    small.chmod(0o755)
    done = crowdgaussian("blend", sample_run.out, "--blender", small)
    assert done.returncode == 0, done.stderr
    files = done.stdout.split()
    assert str(sample_run.out / "scene.json") in files
    assert (sample_run.out / "crowd.blend").stat().st_size > 1_000_000
    pictures = [name for name in files if name.endswith(".png")]
    assert pictures
    for name in pictures:
        with Image.open(name) as picture:
            low, high = picture.convert("L").getextrema()
            assert high - low > 100, f"{name} shows nothing"
