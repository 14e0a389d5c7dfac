# SPDX-License-Identifier: Apache-2.0
"""Running somebody's estimator as a process of its own, in an environment of its own."""

import shlex
import subprocess
import tempfile
import time
from pathlib import Path

from crowdgaussian_shared.errors import CrowdGaussianError

from ..progress import Progress, Report

PHOTO, OUT = "{photo}", "{out}"
_TICK = 0.2  # seconds between looks at the process and at Cancel
_GRACE = 5.0  # seconds that a stopped process has to end by itself
_KEPT = 300  # characters of its last words


def check_command(command: str) -> list[str]:
    """The command's words.

    Raises:
        CrowdGaussianError: it cannot be split, or says nothing about {photo} and {out}.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise CrowdGaussianError(f"The people command cannot be read ({error}).") from error
    if not words or PHOTO not in command or OUT not in command:
        raise CrowdGaussianError(
            "The people command must name {photo} and {out}, as in "
            '--people-command "python my_estimator.py {photo} {out}".')
    return words


def run_estimator(command: str, photo: Path, out: Path, seconds: float, report: Report) -> None:
    """Runs the command and waits; the process is ended when the run is stopped.

    Args:
        command: with {photo} and {out}; no shell is involved.
        photo: the picture it reads.
        out: the empty folder it writes to.
        seconds: after which it is given up.
        report: called while waiting; raises to stop.

    Raises:
        CrowdGaussianError: it cannot be started, fails, or takes too long.
    """
    words = [word.replace(PHOTO, str(photo)).replace(OUT, str(out))
             for word in check_command(command)]
    with tempfile.TemporaryFile() as log:
        try:
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log,
                                       stderr=subprocess.STDOUT, start_new_session=True)
        except OSError as error:
            raise CrowdGaussianError(
                f"The people command cannot be started: {words[0]} ({error.strerror})."
            ) from error
        try:
            _wait(process, seconds, words[0], report)
        finally:
            _end(process)
        if process.returncode != 0:
            log.seek(max(0, log.tell() - 20 * _KEPT))
            lines = log.read().decode("utf-8", "replace").strip().splitlines()
            said = lines[-1].strip()[-_KEPT:] if lines else "it said nothing"
            raise CrowdGaussianError(
                f"The people command ended with code {process.returncode}: {said}")


def _wait(process: subprocess.Popen, seconds: float, name: str, report: Report) -> None:
    started = time.monotonic()
    while process.poll() is None:
        passed = time.monotonic() - started
        if passed > seconds:
            raise CrowdGaussianError(
                f"The people command took longer than {seconds:.0f} s; set people.command_seconds "
                "higher or use a smaller photo.")
        report(Progress("people", 0.0, message=f"{Path(name).name} looks at the photo"))
        time.sleep(_TICK)


def _end(process: subprocess.Popen) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
