# SPDX-License-Identifier: Apache-2.0
"""What the command line says of a result and of the time that is left."""

import io
import json

import pytest
from _support.stand_ins import Script, write_photo
from crowdgaussian.cli import console
from crowdgaussian.cli import main as cli
from crowdgaussian.cli.console import ConsoleReport, TimeLeft, print_checks
from crowdgaussian.core.progress import Progress, silent
from crowdgaussian.pipeline import checkpoint
from crowdgaussian.pipeline.reconstruct import reconstruct
from crowdgaussian_shared.scene.folder import SceneFolder
from rich.console import Console


@pytest.fixture
def scene(tmp_path, monkeypatch, capsys):
    """A scene folder that the command line made with stand-in stages, and what it said."""
    monkeypatch.setattr(checkpoint, "files_for", lambda config: [])
    monkeypatch.setattr(reconstruct, "__defaults__", (silent, Script().stages))
    photo, out = write_photo(tmp_path / "a.png"), tmp_path / "scene"
    assert cli.main(["reconstruct", str(photo), "-o", str(out)]) == 0
    return out, capsys.readouterr().out


def inspected(capsys, out, *options):
    assert cli.main(["inspect", str(out), *options]) == 0
    return capsys.readouterr().out


def test_the_last_lines_say_what_to_check(scene, capsys):
    out, said = scene
    lines = said.splitlines()
    assert lines[-1] == str(out / "scene.json")
    first = lines.index("Check these:")
    sentences = [line.removeprefix("- ") for line in lines[first + 1 : -1]]
    assert sentences == SceneFolder.open(out).info.checks and len(sentences) == 3
    assert all(sentence.endswith(".") for sentence in sentences)
    table = inspected(capsys, out).splitlines()
    assert table[-4:] == ["Check these:", *(f"- {one}" for one in sentences)]
    report = json.loads(inspected(capsys, out, "--json"))
    assert [one["code"] for one in report["warnings"]] == ["floor", "focal"]
    assert [one["code"] for one in report["people"][2]["warnings"]] == ["height"]


def test_a_scene_with_nothing_to_check_says_nothing(scene, capsys):
    folder = SceneFolder.open(scene[0])
    folder.update(warnings=())
    folder.update_person(2, warnings=())
    print_checks(folder.info)
    assert capsys.readouterr().out == ""
    assert "Check these" not in inspected(capsys, scene[0])


def told(fractions, every=1.0, stage="avatars"):
    """What TimeLeft says at each of these fractions, so many seconds apart."""
    left = TimeLeft()
    return [
        left.words(Progress(stage, fraction), 100.0 + every * number)
        for number, fraction in enumerate(fractions)
    ]


def test_the_time_left_of_steady_work():
    words = told([k / 100 for k in range(101)])
    assert words[:10] == [""] * 10, "too early to tell"
    assert words[10] == "about 90 s left" or words[10] == "about 2 min left"
    assert words[50] == "about 50 s left" and words[80] == "about 20 s left"
    assert words[95] == words[100] == "", "it is over in a moment"


def test_work_that_goes_on_from_the_middle_counts_from_there():
    assert told([0.5 + k / 100 for k in range(41)])[20] == "about 30 s left"


def test_unsteady_work_says_nothing():
    slower = [1 - 0.93**k for k in range(80)]  # each step takes longer than the one before
    assert not any(told(slower)[:40])
    assert not any(told([0.0] * 100)), "it stands"
    assert not any(told([0.1, 0.9], every=5.0)), "too short"


def test_another_round_begins_anew():
    left = TimeLeft()
    for k in range(60):
        left.words(Progress("people", k / 100), float(k))
    assert left.words(Progress("people", 0.6), 60.0) == "about 40 s left"
    assert left.words(Progress("people", 0.1), 61.0) == ""
    assert left.words(Progress("masks", 0.2), 62.0) == ""


def test_lines_tell_the_time_left_once_each(monkeypatch):
    out = io.StringIO()
    report = ConsoleReport(Console(file=out, width=200))
    clock = iter(range(1000))
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock) / 2)
    for k in range(101):
        report(Progress("avatars", k / 100))
    lines = out.getvalue().splitlines()
    assert len(lines) < 15 and sum("left" in line for line in lines) >= 5
    assert all(line.count("left") <= 1 for line in lines)
    assert lines[-1] == "Building avatars: 100%"


def test_bars_tell_the_time_left():
    out = io.StringIO()
    terminal = Console(file=out, width=120, force_terminal=True)
    with ConsoleReport(terminal) as report:
        report._left.words = lambda step, now: "about 40 s left"
        report(Progress("avatars", 0.5))
    assert "about 40 s left" in out.getvalue()
