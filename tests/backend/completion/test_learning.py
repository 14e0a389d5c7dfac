# SPDX-License-Identifier: Apache-2.0
"""The completion network learns, goes on where it stopped, and is told what is wrong with data."""

import numpy as np
import pytest
import torch
from _support.dressed_lessons import write_people
from crowdgaussian.cli import main as cli
from crowdgaussian.completion import training as learning
from crowdgaussian.completion.config import read_facts
from crowdgaussian.completion.layout import open_sheet
from crowdgaussian.completion.model import CompletionConfig, CompletionNet
from crowdgaussian.completion.training import CompletionTrainer, CompletionTraining, DressedPeople
from crowdgaussian_shared.errors import CrowdGaussianError

SHEET = open_sheet()
TINY = CompletionConfig(widths=(8, 8), heads=1, keys=4)


@pytest.fixture(autouse=True)
def few_are_watched(monkeypatch):
    monkeypatch.setattr(learning, "_WATCHED", 1)
    monkeypatch.setattr(learning, "_SHOWN", 1)


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    return write_people(tmp_path_factory.mktemp("people"), 3)


def trainer(people, out, **changes):
    config = CompletionTraining(**{"steps": 4, "batch": 1, "warmup": 1, **changes})
    torch.manual_seed(0)
    return CompletionTrainer(CompletionNet(SHEET, TINY), SHEET, people, out, config)


def weights(training):
    return {name: value.detach().clone() for name, value in training.parameters.items()}


def test_unseen_places_become_better(people, tmp_path):
    training = trainer(people, tmp_path, lr=2e-2)
    before = training.unseen_psnr()
    training.run()
    assert training.unseen_psnr() > before + 0.1
    assert (tmp_path / "samples" / "step_000004.png").is_file()


def test_a_stopped_training_goes_on_as_if_it_had_not(people, tmp_path):
    whole = trainer(people, tmp_path / "whole", steps=2)
    whole.run()
    first = trainer(people, tmp_path / "parts", steps=2)
    first.iterate()
    first.save()
    second = trainer(people, tmp_path / "parts", steps=2)
    assert second.step == 1
    second.run()
    kept = weights(second)
    assert all(torch.equal(value, kept[name]) for name, value in weights(whole).items())


def test_each_drawing_hides_and_turns_without_losing_places(people):
    data, rng = DressedPeople(people, SHEET), np.random.default_rng(1)
    plain = data.batch(4, rng, changed=False)
    changed = data.batch(16, rng)
    assert (plain.truth - plain.observed.colours).abs()[plain.observed.seen > 0].max() < 0.01
    share = (changed.observed.seen > 0).float().mean(1)
    assert share.min() > 0.05 and share.std() > 0.02
    assert (changed.observed.colours[changed.observed.seen == 0] == 0).all()


def test_the_command_trains_and_writes_weights_and_card(people, tmp_path, capsys):
    words = ["train", "completion", str(people), "-o", str(tmp_path), "--steps", "1"]
    assert cli.main([*words, "--batch", "1"]) == 0
    path = tmp_path / "completion.safetensors"
    assert str(path) in capsys.readouterr().out
    assert read_facts(path)["licence"] == "Apache-2.0" and path.stat().st_size < 6e6
    assert "train completion" in (tmp_path / "completion_card.md").read_text(encoding="utf-8")


def test_what_is_wrong_with_the_data_is_told(people, tmp_path):
    with pytest.raises(CrowdGaussianError, match="too few people"):
        DressedPeople(tmp_path, SHEET)
    write_people(tmp_path, 2)
    np.savez(tmp_path / "people_00001.npz", valid=np.ones(3))
    with pytest.raises(CrowdGaussianError, match="lacks albedo"):
        DressedPeople(tmp_path, SHEET).batch(1, np.random.default_rng(0))
