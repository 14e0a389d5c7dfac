# SPDX-License-Identifier: GPL-3.0-or-later
"""The reconstruction server on this computer: a `crowdgaussian serve` process of our own."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from crowdgaussian_shared.errors import MissingFileError, ResourceError, SettingError

_READY = re.compile(rb"ready on (tcp://\S+:\d+), data port \d+")
_STOP_SECONDS = 5.0
_LOG_BYTES = 64 << 10  # of the log's end that are looked at
_PLACES = (".venv/backend", ".venv", "")  # of an environment inside a project folder
_NO_BACKEND = (
    "Choose the backend in the add-on's preferences: the CrowdGaussian project folder after "
    "`make setup`, or the Python of its environment."
)


def find_backend_python(path: str) -> Path:
    """The Python that runs the backend.

    Args:
        path: what the user chose: a Python, an environment, or the project folder.

    Raises:
        CrowdGaussianError: nothing was chosen, or there is no Python.
    """
    if not path.strip():
        raise SettingError(f"No backend is chosen. {_NO_BACKEND}")
    chosen = Path(path.strip()).expanduser()
    if chosen.is_file():
        return chosen.absolute()
    names = ("Scripts/python.exe",) if os.name == "nt" else ("bin/python", "bin/python3")
    for place in _PLACES:
        for name in names:
            if (chosen / place / name).is_file():
                return (chosen / place / name).absolute()
    raise MissingFileError(f"{chosen} has no Python environment. {_NO_BACKEND}")


class LocalServer:
    """One server process; it ends with this one, even when this one crashes.

    Args:
        folder: for its data and its log.

    Attributes:
        address: where it listens, once it is ready.
        failure: one sentence when it ended by itself: why, and what to do.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "server.log"
        self.address = ""
        self.failure = ""
        self._process: subprocess.Popen | None = None

    @property
    def running(self) -> bool:
        """Whether the process lives, ready or not."""
        return self._process is not None

    @property
    def process_id(self) -> int:
        """0 while nothing runs."""
        return self._process.pid if self._process else 0

    def start(self, backend: str) -> None:
        """Starts it on a free port; poll() tells when it is ready.

        Args:
            backend: as for find_backend_python.

        Raises:
            CrowdGaussianError: no backend there, or it cannot be run.
        """
        if self.running:
            return
        python = find_backend_python(backend)
        self.address, self.failure = "", ""
        command = [
            str(python),
            "-m",
            "crowdgaussian",
            "serve",
            "--bind",
            "tcp://127.0.0.1:0",
            "--data",
            str(self.folder / "data"),
            "--stop-with-parent",
        ]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self.log.open("wb") as log:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=environment(),
                    cwd=self.folder,
                    **own_group(),
                )
        except OSError as error:
            raise ResourceError(
                f"{python} cannot be run ({error.strerror or error}). {_NO_BACKEND}"
            ) from error

    def poll(self) -> None:
        """Looks whether it has become ready or has ended."""
        if self._process is None:
            return
        code = self._process.poll()
        if code is not None:
            _close_input(self._process)
            self._process = None
            self.failure = self._why(code)
            self.address = ""
        elif not self.address:
            match = _READY.search(self._tail())
            self.address = match[1].decode() if match else ""

    def stop(self) -> None:
        """Ends it; jobs that are not finished go on after the next start."""
        process, self._process = self._process, None
        self.address = ""
        if process is None:
            return
        try:
            _close_input(process)
        except BrokenPipeError:
            process.poll()  # it was gone already
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_STOP_SECONDS)

    def _tail(self) -> bytes:
        try:
            with self.log.open("rb") as stream:
                stream.seek(max(0, self.log.stat().st_size - _LOG_BYTES))
                return stream.read()
        except OSError:
            return b""

    def _why(self, code: int) -> str:
        lines = [line.strip() for line in self._tail().decode("utf-8", "replace").splitlines()]
        last = next((line for line in reversed(lines) if line), "")
        if last.startswith("crowdgaussian: "):
            return last.removeprefix("crowdgaussian: ")
        if "No module named" in last:
            return f"There is no backend in this environment ({last}). {_NO_BACKEND}"
        how = f"was killed (signal {-code})" if code < 0 else f"ended with exit code {code}"
        said = f" after '{last[:120]}'" if last and code > 0 else ""
        return f"The server {how}{said}; start it again, or look into {self.log}."


def environment() -> dict[str, str]:
    """Ours without what belongs to Blender's own Python."""
    mine = ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "__PYVENV_LAUNCHER__")
    return {name: value for name, value in os.environ.items() if name not in mine}


def _close_input(process: subprocess.Popen) -> None:
    if process.stdin is not None:
        process.stdin.close()


def own_group() -> dict[str, Any]:
    """Ctrl-C in Blender's terminal is not meant for the server."""
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
        return {"creationflags": flags}
    return {"start_new_session": True}


# One command of the backend, run in its own environment: what does not belong inside Blender

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
            raise ResourceError(
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
            raise ResourceError(_why(said.read().decode("utf-8", "replace")))


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
