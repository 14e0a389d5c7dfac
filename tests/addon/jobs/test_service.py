# SPDX-License-Identifier: Apache-2.0
"""The installed extension against a real `crowdgaussian serve`, from click to crowd."""

import subprocess
import time
from pathlib import Path

import bpy
import numpy as np
import pytest
from _support.blender.extension import ROOT, SAMPLE, backend_python, run_scenario, serving
from crowdgaussian_shared.formats.png import encode_grey
from crowdgaussian_shared.scene.folder import SceneFolder

THREE = ["Person 000", "Person 001", "Person 002"]


@pytest.fixture
def photo(tmp_path):
    """Makes photos; the stand-in stages read from the name how they are to behave."""

    def make(name: str, seed: int = 0) -> Path:
        path = tmp_path / name
        noise = np.random.default_rng(seed).integers(0, 255, (120, 160), np.uint8)
        path.write_bytes(encode_grey(noise))
        return path

    return make


def test_operator_brings_everybody_in_refined(installed, photo):
    told = run_scenario("by_operator", installed, photo=photo("refined-people3.png"))
    assert told["result"] == ["FINISHED"] and told["people"] == THREE
    assert told["scene_camera"] == "Photo camera"
    assert all(path.startswith(str(installed)) for path in told["wheels"])
    assert told["top_level"] == [], "other add-ons could meet our modules"
    assert told["folder"].startswith(str(installed)), "results outside of the extension's folder"
    folder = SceneFolder.open(told["folder"])
    assert [person.refinement for person in folder.info.people] == ["refined"] * 3
    means = [folder.read_avatar(index).gaussians.means.tolist() for index in range(3)]
    np.testing.assert_allclose(told["means"], means, atol=1e-4)
    assert not is_running(told["server"]), "the server outlived Blender"


def test_each_person_is_one_undo_step(installed, photo, tmp_path):
    told = run_scenario(
        "by_operator",
        installed,
        photo=photo("people3.png"),
        cache=tmp_path,
        options={"refinement": "OFF"},
    )
    assert told["undo"] == [3, 2, 3]
    assert told["row"]["settings"] == {"stages.refiner": "none"}


def test_killed_backend_is_told_and_continued(installed, photo, tmp_path):
    told = run_scenario(
        "killed_backend", installed, photo=photo("slow-people3.png"), cache=tmp_path
    )
    assert told["seen"]["server"] == "stopped"
    assert 0 < told["seen"]["people"] < 3  # the second may have come with the first
    assert "killed (signal 9)" in told["seen"]["trouble"]
    assert "start it again" in told["seen"]["trouble"]
    assert told["restarted"] and told["state"] == "done", told["error"]
    assert told["people"] == THREE


def test_other_files_get_no_people(installed, photo, tmp_path):
    told = run_scenario(
        "file_load",
        installed,
        photo=photo("slow-people3.png"),
        cache=tmp_path,
        blend=tmp_path / "home.blend",
    )
    assert told["in_new_file"] == 0
    assert told["at_home"] == told["again"] == THREE
    assert len(set(told["handlers"])) == len(told["handlers"]), "handlers pile up"
    assert any("timer" in handler for handler in told["handlers"]), "the timer's handler was lost"


def test_closing_blender_loses_nothing(installed, photo, tmp_path):
    given = {"photo": photo("slow-people3.png"), "cache": tmp_path}
    first = run_scenario("restart", installed, closing=True, **given)
    assert not is_running(first["server"]), "the server outlived Blender"
    second = run_scenario("restart", installed, closing=False, **given)
    assert second["seen"]["state"] == "paused" and "Continue" in second["seen"]["trouble"]
    assert second["job"] == first["job"] and second["rows"] == 1
    assert second["state"] == "done" and second["people"] == THREE


def test_cancel_keeps_people_and_can_go_on(installed, photo, tmp_path):
    told = run_scenario("cancel", installed, photo=photo("slow-people3.png"), cache=tmp_path)
    assert told["cancelled"]["state"] == "cancelled"
    assert told["cancelled"]["people"] in (1, 2) and told["cancelled"]["seconds"] < 3.5
    assert told["state"] == "done" and told["people"] == THREE


def test_corrections_reach_whom_they_name(installed, photo, tmp_path):
    told = run_scenario("corrections", installed, photo=photo("people3.png"), cache=tmp_path)
    assert told["results"] == [["FINISHED"]] * 4, told["note"]
    assert told["changed"] == [1] and told["left"] == THREE[:2]
    assert told["people"] == [*THREE, "Person 003"]
    assert told["stored"] == pytest.approx(told["wanted"], abs=1e-5)
    differ = [name for name, value in told["first"].items() if told["second"][name] != value]
    assert differ == ["people/001/avatar.npz"]
    assert told["titles"][::-1][1:] == [
        "people3.png: " + what
        for what in (
            "Refit Person 001",
            "Leave out Person 002",
            "Bring back Person 002",
            "Add a person",
        )
    ]


def test_servers_elsewhere(installed, photo, tmp_path):
    data = tmp_path / "data"
    line = subprocess.run(
        [backend_python(), "-m", "crowdgaussian", "keys", "new", "blender", "--data", data],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    with serving(data, "--bind", "tcp://0.0.0.0:0") as port:
        told = run_scenario(
            "remote",
            installed,
            photo=photo("people2.png"),
            cache=tmp_path / "c",
            pairing=line,
            port=port,
            free_port=1,
        )
    assert told["online"] is False
    refused = told["refused"]
    assert "paste the pairing line" in refused["nothing"]
    assert "needs a pairing line" in refused["no pairing"]
    assert "Allow Online Access" in refused["offline"]
    assert "Nobody listens at tcp://127.0.0.1:1" in refused["nobody there"]
    assert "asks for a pairing line" in refused["keys wanted"]
    assert told["paired"] == "" and told["people"] == THREE[:2]


def test_batch_goes_past_a_broken_photo_and_resumes(installed, photo, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no photo")
    photos = [str(p) for p in (photo("people1.png", 1), broken, photo("people2.png", 2))]
    told = run_scenario(
        "batch", installed, photos=photos, out=tmp_path / "out", cache=tmp_path / "c"
    )
    for run in told["runs"]:
        assert [r["people"] for r in run["results"]] == [1, 0, 2]
        assert run["results"][1]["error"] and not run["results"][0]["error"]
        assert [Path(r["blend_file"]).is_file() for r in run["results"][::2]] == [True, True]
    assert told["people"] == ["Person 000"]
    assert any("broken.jpg" in sentence for sentence in told["said"])


def test_documented_script_runs_as_shown(installed, photo, tmp_path):
    text = (ROOT / "docs/scripting.md").read_text()
    script = tmp_path / "reconstruct_folder.py"
    script.write_text(text.split("`reconstruct_folder.py`:")[1].split("```")[1].partition("\n")[2])
    photo("people2.png")
    told = run_scenario(
        "documented",
        installed,
        script=script,
        photos=tmp_path,
        out=tmp_path / "out",
        cache=tmp_path / "c",
    )
    assert told["code"] == 0
    assert (tmp_path / "out/people2/crowd.blend").is_file()


@pytest.mark.slow
@pytest.mark.skipif(
    bpy.app.version < (5, 0),
    reason="one Blender is enough for the backend's whole pipeline; .venv/blender-5.2 runs this",
)
def test_real_pipeline_gives_what_the_command_line_gives(installed, tmp_path):
    if not SAMPLE.is_file():
        pytest.skip(f"the sample is missing; check out the whole project, with {SAMPLE}")
    python = backend_python()
    photo = two_of_the_sample(python, tmp_path / "two.png")
    told = run_scenario(
        "by_operator",
        installed,
        photo=photo,
        backend=python,
        cache=tmp_path,
        options={"quality": "DRAFT", "most_people": 2, "refinement": "OFF"},
    )
    assert told["people"] == THREE[:2]
    settings = [f"--set={name}={value}" for name, value in told["row"]["settings"].items()]
    subprocess.run(
        [python, "-m", "crowdgaussian", "reconstruct", photo, "-o", tmp_path / "cli", *settings],
        check=True,
        capture_output=True,
    )
    ours, theirs = artefacts(Path(told["folder"])), artefacts(tmp_path / "cli")
    assert ours == theirs


def two_of_the_sample(python, path):
    """The two people on the left, a third as large: less time than all six."""
    crop = "import sys; from PIL import Image; photo = Image.open(sys.argv[1]);"
    crop += " photo.crop((60, 150, 760, photo.height)).reduce(3).save(sys.argv[2])"
    subprocess.run([python, "-c", crop, SAMPLE, path], check=True)
    return path


def artefacts(folder):
    """The bytes of every file that scene.json names, except what the server keeps to itself."""
    info = SceneFolder.open(folder).info
    names = [info.photo.file, "scene.json"]
    names += [n for p in info.people for kind, n in p.files.items() if kind != "fit"]
    return {name: (folder / name).read_bytes() for name in names}


def is_running(process):
    """Whether a process is still there after a moment."""
    for _ in range(50):
        if not Path(f"/proc/{process}").exists():
            return False
        time.sleep(0.1)
    return True
