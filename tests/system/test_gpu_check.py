# SPDX-License-Identifier: Apache-2.0
"""scripts/gpu_check.py: every step at a small size on the CPU, and what becomes of a bad one."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def check():
    before = list(sys.path)
    sys.path.insert(0, str(ROOT / "scripts"))
    yield importlib.import_module("gpu_check")
    sys.path[:] = before


@pytest.fixture
def machine(check):
    return check.Machine("cpu", True)


def test_a_dry_run_does_every_step_and_reports_it(check, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    inside = [step.name for step in check.STEPS if step.name != "tests"]  # that runs pytest itself
    words = ["gpu_check.py", "--dry-run", "-o", str(tmp_path), "--only", *inside]
    monkeypatch.setattr(sys, "argv", words)
    assert check.main() == 0, capsys.readouterr().out
    told = json.loads((tmp_path / "gpu_check.json").read_text())
    assert {step["name"]: step["state"] for step in told["steps"]} == dict.fromkeys(inside, "ok")
    figures = {step["name"]: {f["what"]: f for f in step["figures"]} for step in told["steps"]}
    assert all(figures.values())
    oracle = figures["rasteriser"]["covariances, color: difference from the oracle"]
    assert oracle["good"] and 0 < oracle["value"] < 1e-4
    assert "76 on an A100" in (tmp_path / "gpu_check.md").read_text()
    assert {name[:1] for name in figures["turbo"]} >= {"1", "2"}  # both batches
    assert any("attention" in name for name in figures["lorm"])
    assert told["machine"]["device"].startswith("CPU, a dry run")


def test_without_a_gpu_it_says_so_and_measures_nothing(check, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "-o", str(tmp_path / "out")])
    assert check.main() == 2 and "--dry-run" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_step_without_its_packages_is_skipped_and_names_them(check):
    step = check.Step("a", "A", lambda machine: [], ("no_such_package",))
    outcome = check.run(step, check.Machine("cpu", True))
    assert outcome.state == "skipped" and "lacks no_such_package" in outcome.note
    drawn = check.Step("b", "B", lambda machine: [], ("gsplat",))
    assert check.run(drawn, check.Machine("cpu", True)).state == "ok"  # a CPU needs none


def test_a_step_that_fails_or_finds_something_wrong_is_said(check, machine):
    def broken(machine):
        raise RuntimeError("CUDA error:\nan illegal memory access")

    outcome = check.run(check.Step("a", "A", broken), machine)
    assert outcome.state == "failed"
    assert outcome.note == "RuntimeError: CUDA error: an illegal memory access"
    figure = check.Figure("apart", 2.0, "", "< 1", False)
    wrong = check.run(check.Step("a", "A", lambda machine: [figure]), machine)
    assert wrong.state == "failed" and "apart" in wrong.note
    assert "| apart | 2 | < 1 (NO) |" in check.markdown({}, [wrong])
    assert check.Outcome.from_dict(json.loads(json.dumps(wrong.as_dict()))) == wrong
    assert check.run_apart(check.STEPS[0], 0.0).state == "stopped"  # no time is left
