# SPDX-License-Identifier: Apache-2.0
"""The doctor on a bare machine, on a whole one, and with each part broken."""

import json
import shutil
import socket
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from crowdgaussian.cli import blend, doctor
from crowdgaussian.cli import main as cli
from crowdgaussian.service import workers
from crowdgaussian.weights import hub
from crowdgaussian.weights.hub import Verdict
from crowdgaussian_shared.protocol.messages import Device

ROOT = Path(__file__).resolve().parents[3]
CPU = Device("cpu", "a processor, 8 cores", 32 << 30, 16 << 30)
GPU = Device("cuda", "a GPU", 24 << 30, 20 << 30)
REQUIRED = ["numpy>=2.2,<3", "torch==2.13.*", 'gsplat<1.6,>=1.5.3; extra == "cuda"']


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine on which all is well; tests break one part of it."""
    versions = {"crowdgaussian": "0.1.0", "numpy": "2.4.6", "torch": "2.13.0+cpu"}
    versions |= {"gsplat": "1.5.3", "mediapipe": "0.10.21"}

    def version(name):
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    blender = tmp_path / "blender"
    blender.write_text("#!/bin/sh\necho 'Blender 4.5.15'\n")
    blender.chmod(0o755)
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "CROWDGAUSSIAN_WEIGHTS"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setenv("CROWDGAUSSIAN_BLENDER", str(blender))
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setattr(blend, "ENVIRONMENTS", ())
    monkeypatch.setattr(hub, "verify_packaged", lambda file: Verdict(file.name, "ok"))
    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(metadata, "requires", lambda name: REQUIRED)
    monkeypatch.setattr(workers, "describe_device", lambda look_for_gpu: GPU)
    monkeypatch.setattr(workers, "gpu_indices", list)
    return versions


def verdict(capsys):
    """Exit code and checks, after a look at the sentences."""
    code = cli.main(["doctor", "--json"])
    captured = capsys.readouterr()
    told = json.loads(captured.out)
    assert told["exit_code"] == code
    for check in told["checks"]:
        assert check["found"].endswith(".") and "\n" not in check["found"], check
        assert bool(check["remedy"]) >= (check["state"] in ("warning", "fault")), check
    assert captured.err.count("\n") == (code > 0)
    return code, {check["name"]: check for check in told["checks"]}


def test_all_is_well(machine, capsys):
    code, checks = verdict(capsys)
    assert code == 0
    assert {check["state"] for check in checks.values()} <= {"ok", "note"}
    assert checks["GPU"]["found"] == "a GPU, 24.0 GiB of memory, 20.0 GiB free."
    assert cli.main(["doctor"]) == 0
    assert capsys.readouterr().out.endswith("All is well.\n")


@pytest.mark.parametrize(
    "name, version, code, word",
    [
        ("numpy", None, 2, "not installed"),
        ("numpy", "1.26.4", 2, "not >=2.2,<3"),
        ("torch", "2.12.1", 2, "not ==2.13.*"),
        ("mediapipe", "0.10.22", 2, "not ==0.10.21"),
        ("crowdgaussian", None, 1, "not installed"),
        ("gsplat", None, 0, "not installed"),
    ],
)
def test_packages(machine, capsys, name, version, code, word):
    machine[name] = version
    if version is None:
        del machine[name]
    found, checks = verdict(capsys)
    check = checks["extra cuda" if name == "gsplat" else name]
    assert found == code and word in check["found"] and "pip install" in check["remedy"]


def test_another_python(machine, capsys, monkeypatch):
    monkeypatch.setattr(doctor, "PYTHONS", ((3, 2), (3, 3)))
    code, checks = verdict(capsys)
    assert code == 2 and checks["Python"]["state"] == "fault"


@pytest.mark.parametrize("says", ["Blender 4.2.1", "nothing", None])
def test_blenders(machine, capsys, tmp_path, says):
    blender = tmp_path / "blender"
    blender.write_text(f"#!/bin/sh\necho '{says}'\n")
    if says is None:
        blender.unlink()
    code, checks = verdict(capsys)
    assert code == 1
    words = {"Blender 4.2.1": "4.2.1 is too old.", "nothing": "It does not say its version."}
    name = "Blender" if says is None else str(blender)
    assert checks[name]["found"] == words.get(says, "No Blender was found.")


def test_an_older_addon(machine, capsys, tmp_path):
    folder = tmp_path / "xdg_config_home/blender/4.5/extensions/user_default/crowdgaussian"
    folder.mkdir(parents=True)
    (folder / "blender_manifest.toml").write_text('schema_version = "1.0.0"\nversion = "0.0.9"\n')
    code, checks = verdict(capsys)
    assert code == 1 and "install_addon.py" in checks["add-on of Blender 4.5"]["remedy"]


def test_a_gpu_that_torch_does_not_see(machine, capsys, monkeypatch):
    monkeypatch.setattr(workers, "describe_device", lambda look_for_gpu: CPU)
    assert verdict(capsys)[0] == 0
    monkeypatch.setattr(workers, "gpu_indices", lambda: ["0"])
    code, checks = verdict(capsys)
    assert code == 1 and "torch does not see it" in checks["GPU"]["found"]


def test_little_memory(machine, capsys, monkeypatch):
    small = Device("cpu", "a processor, 1 cores", 2 << 30, 1 << 30)
    monkeypatch.setattr(workers, "describe_device", lambda look_for_gpu: small)
    code, checks = verdict(capsys)
    assert code == 1 and checks["memory"]["found"].endswith("1.0 GiB of 2.0 GiB free.")


def test_half_fetched_and_damaged_weights(machine, capsys, tmp_path, monkeypatch):
    folder = tmp_path / "crowdgaussian_weights" / "vitpose"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    code, checks = verdict(capsys)
    assert code == 1 and "weights fetch vitpose" in checks["vitpose"]["remedy"]
    for name in ("preprocessor_config.json", "model.safetensors"):
        (folder / name).write_text("{}")
    code, checks = verdict(capsys)
    assert code == 0 and checks["vitpose"]["found"] == "fetched; Apache-2.0."

    damaged = Verdict("a network", "wrong", "The model file is another one; run `make setup`.")
    monkeypatch.setattr(hub, "verify_packaged", lambda file: damaged)
    code, checks = verdict(capsys)
    assert code == 2 and checks[doctor.OPEN_REFINER.name]["found"].startswith("The model file")


def test_folders(machine, capsys, monkeypatch):
    monkeypatch.setattr(doctor.os, "access", lambda place, how: False)
    code, checks = verdict(capsys)
    assert code == 1 and "cannot be written" in checks["weights folder"]["found"]
    monkeypatch.undo()
    full = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda place: full)
    assert [check.state for check in doctor.check_folders()] == ["warning"] * 3


def test_ports(machine):
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 5555))
            taken.listen()
        except OSError:
            pass  # something else has it: as good
        first = next(doctor.check_ports())
    assert first.state == "note" and "--bind" in first.remedy


def test_a_check_that_cannot_be_made_is_a_fault(machine, capsys, monkeypatch):
    def broken(look_for_gpu):
        raise ImportError("libcudart.so: no such file")

    monkeypatch.setattr(workers, "describe_device", broken)
    code, checks = verdict(capsys)
    assert code == 2 and "libcudart.so" in checks["check"]["found"]


def test_a_bare_machine():
    """Python alone: no package, not even numpy or this one."""
    paths = [str(ROOT / "backend"), str(ROOT / "shared")]
    start = f"import sys; sys.path[:0] = {paths}; from crowdgaussian.cli.main import main; "
    done = subprocess.run(
        [sys.executable, "-S", "-c", start + "sys.exit(main(['doctor']))"],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": "", "HOME": "/nonexistent"},
    )
    assert done.returncode == 2, done.stderr
    assert "numpy is not installed" in done.stdout and "Traceback" not in done.stderr
    assert "\nblender\n" in done.stdout and done.stderr.startswith("crowdgaussian: ")


@pytest.mark.parametrize(
    "version, wanted, fits",
    [
        ("2.13.0+cpu", "==2.13.*", True),
        ("2.14.0", "==2.13.*", False),
        ("3", "<3,>=2.2", False),
        ("2.2", ">=2.2.0", True),
        ("5.23.4", ">=5.23,<5.24", True),
        ("1.0", "!=1.0", False),
        ("1.1", "", True),
    ],
)
def test_versions(version, wanted, fits):
    assert doctor.version_fits(version, wanted) == fits


def test_what_open_large_lacks_is_one_line_and_no_fault(machine, capsys):
    code, checks = verdict(capsys)
    line = checks["its networks"]
    assert code == 0 and line["state"] == "note"
    assert line["found"].startswith("lacks vitpose (344 MB), rt-detr") and "Apache" in line["found"]
    assert "weights fetch --preset open-large" in line["remedy"]
