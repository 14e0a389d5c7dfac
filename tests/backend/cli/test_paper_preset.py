# SPDX-License-Identifier: Apache-2.0
"""`--preset`: the paper's numbers, who has the last word, and files that are none."""

import argparse
from pathlib import Path

import pytest
from crowdgaussian.cli.main import main
from crowdgaussian.cli.options import add_preset, with_preset
from crowdgaussian.cli.weights import paper_parts
from crowdgaussian.pipeline.config import configured, preset
from crowdgaussian.refiner.training.dataset import ScenesConfig
from crowdgaussian.weights import TABLE
from crowdgaussian_shared.errors import SettingError


def parsed(command, *given):
    """What a command with a few options becomes with the preset."""
    parser = argparse.ArgumentParser()
    add_preset(parser, command)
    for option in ("--scenes", "--views", "--size", "--test", "--steps", "--batch", "--crop"):
        parser.add_argument(option, type=int)
    for option in ("--lr", "--l2", "--decoder-alpha", "--base", "--meshes"):
        parser.add_argument(option)
    parser.add_argument("--skips", action="store_true")
    parser.add_argument("--coarse", action="append")
    parser.add_argument("--set", action="append", default=[], dest="changes")
    arguments = parser.parse_args(given)
    with_preset(arguments)
    return arguments


SCANS = ("--meshes", "scans", "--set", "lorm.adapters=a.safetensors")


def test_the_paper_s_scenes_are_114_of_which_23_are_for_testing():
    given = parsed("data.crowd-scenes", "--preset", "paper", *SCANS)
    config = ScenesConfig(given.scenes, given.views, given.size, test=given.test)
    tested = [index for index in range(config.scenes) if config.is_test(index)]
    assert (len(tested), config.scenes - len(tested)) == (23, 91)
    assert len(tested) * config.views == 2898  # the paper counts 2,622 pairs, 23 x 114
    assert max(b - a for a, b in zip(tested, tested[1:])) == 5  # spread evenly
    assert sum(ScenesConfig().is_test(index) for index in range(114)) == 22


def test_a_command_line_goes_before_the_preset_even_with_zero():
    given = parsed("data.crowd-scenes", "--preset", "paper", *SCANS, "--test", "0", "--views", "6")
    assert (given.test, given.views, given.scenes, given.coarse) == (0, 6, 114, ["lorm"])
    damaged = parsed("data.crowd-scenes", "--preset", "paper", *SCANS, "--coarse", "damage")
    assert damaged.coarse == ["damage"]
    training = parsed("train.refiner", "--preset", "paper")
    assert (training.base, training.steps, training.batch, training.crop) == (
        ("sd-turbo", 10_000, 2, 512)
    )
    assert training.skips is True and training.decoder_alpha == 8 and training.l2 == 4
    assert parsed("train.refiner").base is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[train.refiner]\nwings = 2\n", "unknown option wings"),
        ("[data.crowd-scenes]\nviews = 2\n", "no preset .* with options for train refiner"),
        ("[train.refiner\n", "no preset"),
        ("train = 3\n", "no preset"),
        (None, "no preset"),
    ],
)
def test_a_file_that_is_no_preset_is_told(tmp_path, text, words):
    path = tmp_path / "mine.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SettingError, match=words):
        parsed("train.refiner", "--preset", str(path))


def test_a_preset_of_one_s_own_serves(tmp_path, capsys):
    (tmp_path / "mine.toml").write_text("[data.crowd-scenes]\nscenes = 0\n")
    out = str(tmp_path / "out")
    assert main(["data", "crowd-scenes", out, "--preset", str(tmp_path / "mine.toml")]) == 2
    assert "at least one scene" in capsys.readouterr().err and not Path(out).exists()


def test_people_are_prompthmr_s_where_it_is_configured(monkeypatch):
    monkeypatch.delenv("CROWDGAUSSIAN_PROMPTHMR", raising=False)
    assert preset("paper").stages.people == "multihmr"
    monkeypatch.setenv("CROWDGAUSSIAN_PROMPTHMR", "phmr {photo} {out}")
    found = preset("paper")
    assert (found.stages.people, found.people.command) == ("command", "phmr {photo} {out}")
    assert found.people.program == "prompthmr" and found.stages.avatar == "lorm"
    assert configured("paper", {"stages.people": "multihmr"}).stages.people == "multihmr"
    assert preset("open").people.command == ""


def test_what_the_paper_s_preset_lacks_is_said_licence_by_licence(tmp_path, monkeypatch):
    monkeypatch.setenv("CROWDGAUSSIAN_WEIGHTS", str(tmp_path))
    monkeypatch.delenv("CROWDGAUSSIAN_PROMPTHMR", raising=False)
    parts = {part.name: part for part in paper_parts()}
    assert not any(part.there for part in parts.values())
    assert all(part.remedy.endswith(".") for part in parts.values())
    assert "NAVER" in parts["people"].found and "Meshcapade" in parts["the paper's people"].found
    assert "not for commercial use" in parts["appearance"].found
    assert "commercial" not in parts["masks"].found
    (tmp_path / "sd-2.1-base").mkdir()
    for file in TABLE["sd-2.1-base"].files:
        (tmp_path / "sd-2.1-base" / file.name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sd-2.1-base" / file.name).touch()
    monkeypatch.setenv("CROWDGAUSSIAN_PROMPTHMR", "phmr {photo} {out}")
    parts = {part.name: part for part in paper_parts()}
    assert parts["people"].there and "Meshcapade" in parts["people"].found
    assert parts["refiner's base"].there and "OpenRAIL" in parts["refiner's base"].found
