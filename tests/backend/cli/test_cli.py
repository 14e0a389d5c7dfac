# SPDX-License-Identifier: Apache-2.0
"""The command line: bad input is one sentence and exit code 2, and leaves nothing half-written."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from _support.stand_ins import Script, write_photo
from crowdgaussian.cli import blend
from crowdgaussian.cli import main as cli
from crowdgaussian.core.progress import silent
from crowdgaussian.pipeline import checkpoint
from crowdgaussian.pipeline.reconstruct import reconstruct
from crowdgaussian.weights import CATALOGUE, POSE_DETECTOR
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.scene.folder import SceneFolder
from PIL import Image


@pytest.fixture
def stand_in(monkeypatch):
    """The CLI with stand-in stages; returns their script."""
    script = Script()
    monkeypatch.setattr(checkpoint, "files_for", lambda config: [])
    defaults = (silent, script.stages)
    monkeypatch.setattr(reconstruct, "__defaults__", defaults)
    return script


@pytest.fixture
def scene(tmp_path, stand_in, capsys):
    """A finished scene folder."""
    photo, out = write_photo(tmp_path / "a.png"), tmp_path / "scene"
    assert cli.main(["reconstruct", str(photo), "-o", str(out)]) == 0
    capsys.readouterr()
    return out


def run(capsys, *arguments):
    code = cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def refused(capsys, *arguments):
    """Runs a command that must fail like a user's mistake; returns the sentence."""
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert err.startswith("crowdgaussian: ") and err.endswith(".\n") and err.count("\n") == 1, err
    return err


def bad_photo(kind, path):
    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    if kind == "text":
        path.write_text("I am no photo")
    elif kind == "truncated":
        Image.fromarray(noise).save(path, "JPEG")
        path.write_bytes(path.read_bytes()[:20000])
    elif kind == "1x1":
        Image.new("RGB", (1, 1)).save(path, "PNG")
    elif kind == "20000 wide":
        Image.new("L", (20000, 100)).save(path, "PNG")
    elif kind == "folder":
        path.mkdir()


@pytest.mark.parametrize(
    "kind, word",
    [
        ("missing", "no such file"),
        ("folder", "not a file"),
        ("text", "not an image"),
        ("truncated", "cut off"),
        ("1x1", "1 x 1"),
        ("20000 wide", "20000 x 100"),
    ],
)
def test_bad_photos(tmp_path, capsys, kind, word):
    photo, out = tmp_path / "a.jpg", tmp_path / "out"
    bad_photo(kind, photo)
    assert word in refused(capsys, "reconstruct", photo, "-o", out)
    assert not out.exists()


def test_nobody_found(tmp_path, capsys, stand_in):
    stand_in.people = 0
    out = tmp_path / "out"
    photo = write_photo(tmp_path / "a.png")
    assert "No person was found" in refused(capsys, "reconstruct", photo, "-o", out)
    assert not out.exists()


@pytest.mark.parametrize(
    "options, word",
    [
        ((), "required: PHOTO, -o"),
        (("a.jpg",), "required: -o"),
        (("a.jpg", "-o", "o", "--frobnicate"), "--frobnicate"),
        (("a.jpg", "-o", "o", "--preset", "paper"), "weights fetch"),
        (("a.jpg", "-o", "o", "--preset", "magic"), "no preset 'magic'"),
        (("a.jpg", "-o", "o", "--max-people", "0"), "people.max_people is 0"),
        (("a.jpg", "-o", "o", "--max-people", "six"), "'six' is no value"),
        (("a.jpg", "-o", "o", "--gaussians", "1e9"), "no value for avatar.gaussians"),
        (("a.jpg", "-o", "o", "--set", "avatar.sleeves=2"), "no setting 'avatar.sleeves'"),
        (("a.jpg", "-o", "o", "--set", "avatar=2"), "no value for avatar"),
        (("a.jpg", "-o", "o", "--set", "avatar.seed"), "needs a value"),
        (("a.jpg", "-o", "o", "--set", "avatar.colour_rate=nan"), "must be from"),
    ],
)
def test_bad_options(tmp_path, capsys, monkeypatch, options, word):
    monkeypatch.chdir(tmp_path)
    write_photo(tmp_path / "a.jpg")
    assert word in refused(capsys, "reconstruct", *options)
    assert os.listdir(tmp_path) == ["a.jpg"]


def test_bad_focal(tmp_path, capsys, stand_in):
    photo = write_photo(tmp_path / "a.png")
    assert "focal length" in refused(
        capsys, "reconstruct", photo, "-o", tmp_path / "o", "--focal", "wide"
    )
    assert not (tmp_path / "o").exists()


def test_unknown_stage(tmp_path, capsys):
    photo = write_photo(tmp_path / "a.png")
    error = refused(
        capsys, "reconstruct", photo, "-o", tmp_path / "o", "--set", "stages.people=psychic"
    )
    assert "no people stage 'psychic'" in error


def test_no_command_and_unknown_command(capsys):
    assert "COMMAND" in refused(capsys)
    assert "dance" in refused(capsys, "dance")


def test_a_scene_of_a_newer_version(scene, capsys):
    record = json.loads((scene / "scene.json").read_text())
    (scene / "scene.json").write_text(json.dumps({**record, "version": 99}))
    for command in (("inspect", scene), ("blend", scene)):
        assert "newer" in refused(capsys, *command)
    again = ("reconstruct", scene.parent / "a.png", "-o", scene)
    assert "newer" in refused(capsys, *again)
    assert json.loads((scene / "scene.json").read_text())["version"] == 99


@pytest.mark.parametrize("damage", ["cut", "nonsense", "gone", "nan"])
def test_a_damaged_avatar(scene, capsys, damage):
    path = scene / "people/001/avatar.npz"
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "nan":
        with np.load(path) as archive:
            arrays = dict(archive)
        arrays["means"][3] = np.nan
        np.savez(path, **arrays)
    else:
        path.write_bytes(data[: len(data) // 2] if damage == "cut" else b"nonsense")
    error = refused(capsys, "inspect", scene, "--json")
    assert "avatar.npz" in error


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 1}', '{"version": "one"}'])
def test_a_damaged_scene_json(scene, capsys, text):
    (scene / "scene.json").write_text(text)
    assert "scene.json" in refused(capsys, "inspect", scene)
    assert "scene.json" in refused(capsys, "blend", scene)


def test_not_a_scene_folder(tmp_path, capsys):
    assert "not a scene folder" in refused(capsys, "inspect", tmp_path)
    assert "not a scene folder" in refused(capsys, "blend", tmp_path)


def test_inspect_json_and_table_say_the_same(scene, capsys):
    code, out, err = run(capsys, "inspect", scene, "--json")
    report = json.loads(out)
    assert (code, err) == (0, "")
    assert [person["state"] for person in report["people"]] == ["done"] * 3
    person = report["people"][1]
    assert person["iou"] == 0.95 and person["psnr_db"] == 30.0
    assert person["holes"] == pytest.approx(0.01)
    assert person["distance"] == pytest.approx(4.0) and person["occlusion"] == 0.25
    assert report["camera"]["focal_px"] == 200 and report["commercial_use"] is False
    code, out, err = run(capsys, "inspect", scene)
    assert code == 0 and "0.950" in out and "30.0" in out and "small cut" in out


def test_reconstruct_tells_about_a_failed_person(tmp_path, capsys, stand_in):
    stand_in.fail = {1: ValueError("too shy")}
    photo, out = write_photo(tmp_path / "a.png"), tmp_path / "out"
    code, said, err = run(capsys, "reconstruct", photo, "-o", out)
    assert code == 0 and err == ""
    assert "2 of 3 people done" in said and "person 1 failed" in said and "too shy" in said
    assert said.rstrip().endswith(str(out / "scene.json"))


def test_a_really_full_disk(tmp_path):
    """A file size limit makes the kernel refuse the bytes, as a full disk does."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from crowdgaussian.cli import main as cli\n"
        "from crowdgaussian.core.progress import silent\n"
        "from crowdgaussian.pipeline import checkpoint\n"
        "from crowdgaussian.pipeline.reconstruct import reconstruct\n"
        "from _support.stand_ins import Script\n"
        "checkpoint.files_for = lambda config: []\n"
        "reconstruct.__defaults__ = (silent, Script().stages)\n"
        "sys.exit(cli.main(['reconstruct', sys.argv[2], '-o', sys.argv[3]]))\n"
    )
    photo, out = write_photo(tmp_path / "a.png"), tmp_path / "out"
    limit = 16_000  # bytes: scene.json fits, photo.jpg does not
    done = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parents[2]), str(photo), str(out)],
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1 and "disk is full" in done.stderr
    assert not SceneFolder.exists(out)
    assert not [path for path in tmp_path.rglob("*") if ".tmp" in path.name]


def test_blend_without_a_blender(scene, capsys, monkeypatch):
    monkeypatch.setattr(blend, "ENVIRONMENTS", ())
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv(blend.BLENDER_VARIABLE, raising=False)
    assert "No Blender was found" in refused(capsys, "blend", scene)
    assert "/none/blender" in refused(capsys, "blend", scene, "--blender", "/none/blender")
    assert not (scene / "crowd.blend").exists()


def fake_blender(path, body):
    path.write_text(f"#!{sys.executable}\nimport json, sys\n{body}\n")
    path.chmod(0o755)
    return path


def test_blend_follows_progress_and_prints_the_files(scene, capsys, tmp_path):
    body = (
        "print('Blender says hello')\n"
        "print(json.dumps({'stage': 'blend', 'fraction': 0.5, 'person': 1, 'people': 3}))\n"
        "open(sys.argv[sys.argv.index('--save') + 1], 'w').write('blend')"
    )
    python = fake_blender(tmp_path / "python3", body)
    code, out, err = run(capsys, "blend", scene, "--blender", python)
    assert (code, err) == (0, "")
    assert "50% person 2 of 3" in out and "hello" not in out
    assert str(scene / "scene.json") in out and str(scene / "crowd.blend") in out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_blend_stops_blender(scene, tmp_path, number):
    pid_file = tmp_path / "pid"
    body = f"import os, time\nopen({str(pid_file)!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)"
    python = fake_blender(tmp_path / "python3", body)
    command = [sys.executable, "-m", "crowdgaussian", "blend", str(scene), "--blender", str(python)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (pid_file.exists() and pid_file.read_text()):
        time.sleep(0.05)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130 and stderr.count("\n") == 1, stderr
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


def test_blend_tells_why_blender_failed(scene, capsys, tmp_path):
    python = fake_blender(tmp_path / "python3", "print('No GPU, no cry'); sys.exit(3)")
    error = refused(capsys, "blend", scene, "--blender", python)
    assert "code 3" in error and "No GPU, no cry" in error


def test_a_blender_that_prints_in_another_encoding_does_not_hang(scene, capsys, tmp_path):
    body = "sys.stdout.buffer.write(b'Ger\\xe4t fehlt\\n'); sys.exit(3)"
    error = refused(capsys, "blend", scene, "--blender", fake_blender(tmp_path / "python3", body))
    assert "code 3" in error and "t fehlt" in error


def test_a_blender_may_be_named_from_here(tmp_path, monkeypatch):
    fake_blender(tmp_path / "blender", "")
    monkeypatch.chdir(tmp_path)
    assert blend.find_blender(Path("blender")) == tmp_path / "blender"


def test_help_is_fast_and_light():
    code = (
        "import sys; from crowdgaussian.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "heavy = {'torch', 'numba', 'numpy', 'cv2', 'mediapipe', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "reconstruct" in done.stdout and "inspect" in done.stdout


def test_settings_lists_every_setting(capsys):
    code, out, _ = run(capsys, "settings")
    assert code == 0
    assert "avatar.gaussians=" in out and "photo.max_side=" in out


@pytest.mark.parametrize(
    "file", [f for files in CATALOGUE.values() for f in files], ids=lambda file: file.name
)
def test_the_catalogue_describes_the_files_that_are_there(file):
    entry = file.provenance()
    assert entry.commercial and entry.licence and entry.blake2b


def test_a_model_file_that_is_another_one_is_refused():
    with pytest.raises(CrowdGaussianError, match="not the one this version was made for"):
        replace(POSE_DETECTOR, digest="00" * 32).provenance()
    with pytest.raises(CrowdGaussianError, match="not installed"):
        replace(POSE_DETECTOR, package="no_such_package_here").provenance()
    with pytest.raises(CrowdGaussianError, match="is missing; run .make setup"):
        replace(POSE_DETECTOR, file="no/such.file").provenance()
