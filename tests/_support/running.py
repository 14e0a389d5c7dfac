# SPDX-License-Identifier: Apache-2.0
"""Running the command line as a user does, and measuring it."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "backend/crowdgaussian/synthetic/sample_data/sample.jpg"
SECOND_SAMPLE = ROOT / "tests/data/second_sample"  # by scripts/render_sample.py --scene second
PHOTOS = ROOT.parent / "shared/photos"  # real photos that are not part of the project
QUICK = (
    "--gaussians",
    "8000",
    *("--set", "avatar.colour_steps=10"),
    *("--set", "avatar.max_crop_px=400"),
    *("--set", "refine.photo_px=320"),
    *("--set", "refine.distil.views=4"),
    *("--set", "refine.distil.size=128"),
    *("--set", "refine.distil.rounds=1"),
    *("--set", "refine.distil.steps=12"),
)


@dataclass(frozen=True)
class Run:
    """One finished `crowdgaussian reconstruct`."""

    out: Path
    stdout: str
    report: dict  # of `inspect --json`
    seconds: float
    peak_memory: int  # bytes of the process and its children


def crowdgaussian(*arguments, timeout=900):
    """Runs the command line as a user does."""
    command = [sys.executable, "-m", "crowdgaussian", *(str(a) for a in arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout)


MEASURED = """
import resource, sys, time
from crowdgaussian.cli.main import main
started = time.perf_counter()
code = main(sys.argv[1:])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(f"measured {time.perf_counter() - started} {peak}")
sys.exit(code)
"""


def reconstruct(photo, out, *options):
    """Runs `crowdgaussian reconstruct` in a process of its own and reads the report."""
    command = [sys.executable, "-c", MEASURED, "reconstruct", str(photo), "-o", str(out), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stderr + done.stdout
    *lines, measured = done.stdout.rstrip().splitlines()
    _, seconds, peak = measured.split()
    told = crowdgaussian("inspect", out, "--json")
    assert told.returncode == 0, told.stderr
    return Run(out, "\n".join(lines), json.loads(told.stdout), float(seconds), int(peak))


def photo_or_skip(name):
    path = PHOTOS / name
    if not path.is_file():
        pytest.skip(f"the test photo {path} is not on this machine")
    return path
