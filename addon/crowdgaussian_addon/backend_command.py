# SPDX-License-Identifier: GPL-3.0-or-later
"""One command of the backend, run in its own environment: what does not belong inside Blender."""

import subprocess
import tempfile
from collections.abc import Iterator, Sequence

from crowdgaussian_shared.errors import CrowdGaussianError

from .local_server import environment, find_backend_python, own_group

_LOOK = 0.05  # seconds between two looks
_OWN = "crowdgaussian: "  # how the command line begins its sentences


def run_backend(backend: str, arguments: Sequence[str]) -> Iterator[None]:
    """Run `crowdgaussian ARGUMENTS`; yields while it works, and ends it when closed early.

    Args:
        backend: the choice in the preferences, see find_backend_python.
        arguments: of the command line.

    Raises:
        CrowdGaussianError: no backend is chosen, it cannot be run, or it said what is wrong.
    """
    python = find_backend_python(backend)
    with tempfile.TemporaryFile() as said:
        try:
            process = subprocess.Popen(
                [str(python), "-m", "crowdgaussian", *arguments], stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=said, env=environment(), **own_group(),
            )  # fmt: skip
        except OSError as error:
            raise CrowdGaussianError(
                f"{python} cannot be run ({error.strerror or error}); choose the backend again in "
                "the add-on's preferences."
            ) from error
        try:
            while not _ended(process):
                yield
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if process.returncode:
            said.seek(0)
            raise CrowdGaussianError(_why(said.read().decode("utf-8", "replace")))


def _ended(process: subprocess.Popen) -> bool:
    try:
        process.wait(_LOOK)
    except subprocess.TimeoutExpired:
        return False
    return True


def _why(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = lines[-1] if lines else "it said nothing"
    if last.startswith(_OWN):
        return last.removeprefix(_OWN)
    if "invalid choice" in last or "No module named" in last:
        return "The backend in the preferences is older than this add-on; update it."
    return f"The backend failed ({last[:200]}); update it, or export as PLY."
