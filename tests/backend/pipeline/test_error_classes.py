# SPDX-License-Identifier: Apache-2.0
"""Which branch of the error tree the backend raises, and whom an error concerns."""

import pytest
from _support.stand_ins import Script, write_photo
from crowdgaussian.cli.main import main
from crowdgaussian.cli.options import read_changes
from crowdgaussian.pipeline import checkpoint
from crowdgaussian.pipeline.config import Config, with_setting
from crowdgaussian.pipeline.photo import load_photo
from crowdgaussian.pipeline.reconstruct import Job, reconstruct
from crowdgaussian.weights.local import require
from crowdgaussian.weights.table import find
from crowdgaussian_shared import errors


def test_a_photo_that_cannot_be_used(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"not a photo")
    with pytest.raises(errors.InputError, match="not an image"):
        load_photo(tmp_path / "a.jpg")
    with pytest.raises(errors.MissingFileError, match="no such file"):
        load_photo(tmp_path / "b.jpg")
    whole = write_photo(tmp_path / "c.png").read_bytes()
    (tmp_path / "c.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(errors.DamagedFileError, match="cut off"):
        load_photo(tmp_path / "c.png")


def test_missing_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("CROWDGAUSSIAN_WEIGHTS", str(tmp_path))
    with pytest.raises(errors.MissingFileError, match="not on this machine"):
        require("smplx")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: read_changes(["avatar.seed"]),
        lambda: with_setting(Config(), "avatar.seeed", "1"),
        lambda: with_setting(Config(), "avatar.seed", "one"),
        lambda: find("nothing"),
    ],
)
def test_a_setting_that_is_none(wrong):
    with pytest.raises(errors.SettingError):
        wrong()


def test_every_branch_ends_the_command_line_alike(tmp_path, capsys):
    assert main(["inspect", str(tmp_path)]) == 2
    assert main(["inspect"]) == 2
    said = capsys.readouterr().err
    assert said.count("crowdgaussian: ") == 2 and "Traceback" not in said


@pytest.fixture
def job(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "files_for", lambda config: [])
    return Job(write_photo(tmp_path / "a.png"), tmp_path / "out", Config())


def run(job, error):
    return reconstruct(job, make_stages=Script(fail={1: error}).stages)


@pytest.mark.parametrize(
    "theirs",
    [
        errors.InputError,
        errors.DamagedFileError,
        errors.SettingError,
        errors.OutOfMemoryError,
        errors.RemoteError,
    ],
)
def test_an_error_is_one_person_s(job, theirs):
    folder = run(job, theirs("Not this one."))
    assert [p.state for p in folder.info.people] == ["done", "failed", "done"]
    assert folder.info.people[1].error == "Not this one."


@pytest.mark.parametrize(
    "of_all", [errors.DiskFullError, errors.ResourceError, errors.MissingFileError]
)
def test_what_the_disk_refuses_concerns_everybody(job, of_all):
    with pytest.raises(of_all, match="No room"):
        run(job, of_all("No room."))
