# SPDX-License-Identifier: Apache-2.0
"""The extension as users get it: built, installed into a clean profile, used by a script."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SCENARIOS = ROOT / "tests/addon/scenarios"
FAST_BACKEND = Path(__file__).parent / "fast_backend.sh"
WHEELS = ROOT / "dist/wheels"
SAMPLE = ROOT / "backend/crowdgaussian/synthetic/sample_data/sample.jpg"


def backend_python() -> Path:
    """The backend's Python: $CROWDGAUSSIAN_BACKEND or .venv/backend."""
    named = os.environ.get("CROWDGAUSSIAN_BACKEND")
    python = Path(named) if named else ROOT / ".venv/backend/bin/python"
    if not python.is_file():
        pytest.skip("the backend is missing; run scripts/setup.sh or set CROWDGAUSSIAN_BACKEND")
    return python


def clean_environment(profile: Path) -> dict[str, str]:
    """Nothing of the repository, and a Blender profile of our own."""
    hidden = ("PYTHONPATH", "BLENDER_USER_RESOURCES")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    return environment | {
        "BLENDER_USER_RESOURCES": str(profile),
        "OMP_NUM_THREADS": "2",
        "PYTHONFAULTHANDLER": "1",  # where Blender stood when it crashed
    }


def install_addon(profile: Path, out: Path, *options: str) -> subprocess.CompletedProcess:
    """Runs install_addon.py; by default for the Blender module of this Python."""
    command = [
        sys.executable,
        "-S",
        str(ROOT / "install_addon.py"),
        "--out",
        str(out),
        "--wheels",
        str(WHEELS),
        *(options or ("--blender", sys.executable)),
    ]
    if not all(any(WHEELS.glob(f"*/{name}-*.whl")) for name in ("pyzmq", "plyfile")):
        command.remove("-S")  # pip is needed for the first download
    return subprocess.run(
        command, capture_output=True, text=True, env=clean_environment(profile), timeout=300
    )


def run_scenario(name: str, profile: Path, **given: object) -> dict:
    """A script of tests/addon/scenarios in a fresh Blender -> the JSON that it prints last."""
    environment = clean_environment(profile) | {"CROWDGAUSSIAN_BACKEND": str(backend_python())}
    given = {"backend": str(FAST_BACKEND)} | given
    done = subprocess.run(
        [sys.executable, str(SCENARIOS / f"{name}.py"), json.dumps(given, default=str)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=590,
    )
    assert done.returncode == 0, f"{done.returncode}: {done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return json.loads(done.stdout.strip().splitlines()[-1])


class serving:
    """A `crowdgaussian serve` started by hand -> its port."""

    def __init__(self, data, *options, stand_ins=True):
        environment = os.environ | {"PYTHONPATH": str(ROOT / "tests")}
        stages = ["--pipeline", "_support.service_pipeline:run"] if stand_ins else []
        bind = [] if "--bind" in options else ["--bind", "tcp://127.0.0.1:0"]
        self._process = subprocess.Popen(
            [
                backend_python(),
                "-m",
                "crowdgaussian",
                "serve",
                "--data",
                data,
                *bind,
                *options,
                *stages,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )

    def __enter__(self):
        line = self._process.stdout.readline()
        return int(line.split(",")[0].rpartition(":")[2])

    def __exit__(self, *_):
        self._process.terminate()
        self._process.communicate(timeout=30)
