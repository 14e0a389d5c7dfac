# SPDX-License-Identifier: Apache-2.0
"""Running the command line as a user does, and measuring it."""

import io
import json
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
from crowdgaussian.cli.main import main

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
    seconds: float  # of one processor; waiting for other programs does not count
    peak_memory: int  # bytes


def crowdgaussian(*arguments) -> subprocess.CompletedProcess:
    """The command line, in this process: torch is here already, a new one loads it again."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


MEASURED = """
import resource, sys
from crowdgaussian.cli.main import main
code = main(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_SELF)
print(f"measured {used.ru_utime + used.ru_stime} {used.ru_maxrss * 1024}")
sys.exit(code)
"""


def reconstruct(photo, out, *options):
    """Runs `crowdgaussian reconstruct` in a process of its own, as a user does; and its report."""
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
        pytest.skip(f"a photo is missing; put it at {path}")
    return path
