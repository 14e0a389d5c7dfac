# SPDX-License-Identifier: Apache-2.0
"""Scene folder -> .blend and previews, by the add-on's own importer in a Blender of its own.

Backend and Blender never share a process: their numpy pins differ.
"""

import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import crowdgaussian_shared
from crowdgaussian_shared.errors import InputError, MissingFileError, ResourceError

from ..core.progress import Progress, Report

BLENDER_VARIABLE = "CROWDGAUSSIAN_BLENDER"
ENTRY = "crowdgaussian_addon.blend"
ENVIRONMENTS = ("blender-4.5", "blender-5.2")  # under .venv, the first one there is used
MODULE_NAMES = ("python", "python3")  # a Blender that is a Python with bpy
OWN_SENTENCE = 2  # exit code of the add-on when its last line is meant for the user
TICK = 0.25  # seconds; how soon a stop is noticed while Blender is busy
KEPT_LINES = 20  # of Blender's own output, to explain a failure


@dataclass(frozen=True)
class BlendJob:
    """What to make of one scene folder."""

    out: Path
    previews: bool = True
    blender: Path | None = None  # a Blender, or a Python with bpy; None: find one

    @property
    def blend_file(self) -> Path:
        return self.out / "crowd.blend"


def blend_scene(job: BlendJob, report: Report) -> list[Path]:
    """Runs Blender and returns the files: scene.json, the .blend file, the previews.

    Raises:
        CrowdGaussianError: no finished person, no Blender, or Blender failed.
    """
    from crowdgaussian_shared.scene.folder import SceneFolder  # numpy, which `doctor` may miss

    folder = SceneFolder.open(job.out)
    if not any(person.state == "done" for person in folder.info.people):
        raise InputError(
            f"{job.out} has no finished person; run `crowdgaussian reconstruct` to the end first."
        )
    with tempfile.TemporaryDirectory() as resources:
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(_shared()), str(_addon()))),
            "BLENDER_USER_RESOURCES": resources,
        }
        _run(_command(find_blender(job.blender), job), environment, report)
    if not job.blend_file.is_file():
        raise ResourceError(f"Blender ended without writing {job.blend_file}; try again.")
    previews = SceneFolder.open(job.out).info.previews
    return [job.out / "scene.json", job.blend_file, *(job.out / name for name in previews)]


def find_blender(given: Path | None = None) -> Path:
    """The Blender to use: the given one, $CROWDGAUSSIAN_BLENDER, .venv/blender-*, or on PATH.

    Raises:
        MissingFileError: the given one does not exist, or there is none anywhere.
    """
    named = given or (os.environ.get(BLENDER_VARIABLE) or None)
    if named:
        found = shutil.which(str(named)) or shutil.which(str(Path(named).resolve()))
        if found is None:
            raise MissingFileError(
                f"{named} is no program that can be run; give the path of a Blender with --blender."
            )
        return Path(found)
    blenders = _blenders_here()
    if not blenders:
        raise MissingFileError(
            "No Blender was found; run `make setup`, or give one with --blender PATH or "
            f"{BLENDER_VARIABLE}."
        )
    return blenders[0]


def find_blenders() -> list[Path]:
    """Every Blender that find_blender might return, the one it does first."""
    try:
        return list(dict.fromkeys([find_blender(), *_blenders_here()]))
    except MissingFileError:
        return _blenders_here()


def _blenders_here() -> list[Path]:
    homes = [_root() / ".venv" / environment for environment in ENVIRONMENTS]
    found = [home / "bin" / "python" for home in homes if (home / ".setup-stamp").is_file()]
    on_path = shutil.which("blender")
    return [path for path in [*found, *([Path(on_path)] if on_path else [])] if path.exists()]


def _root() -> Path:
    """The repository this package lies in."""
    return Path(__file__).resolve().parents[3]


def _addon() -> Path:
    addon = _root() / "addon"
    if not (addon / "crowdgaussian_addon").is_dir():
        raise MissingFileError(f"The add-on is not at {addon}; run from a clone of the repository.")
    return addon


def _shared() -> Path:
    return Path(crowdgaussian_shared.__file__).resolve().parents[1]


def _command(blender: Path, job: BlendJob) -> list[str]:
    arguments = [str(job.out), "--save", str(job.blend_file)]
    if job.previews:
        arguments.append("--previews")
    if blender.name.startswith(MODULE_NAMES):
        return [str(blender), "-m", ENTRY, *arguments]
    script = _addon() / "crowdgaussian_addon" / "blend.py"
    return [
        str(blender),
        "--background",
        "--factory-startup",
        "--python-exit-code",
        "1",
        "--python",
        str(script),
        "--",
        *arguments,
    ]


def _run(command: list[str], environment: dict[str, str], report: Report) -> None:
    """Follows Blender's output: lines of JSON are progress, the last other lines explain."""
    said: list[str] = []
    step = Progress("blend", 0.0, message="Starting Blender")
    with subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",  # a driver or an add-on may print in another encoding
        start_new_session=True,  # Ctrl-C reaches us first, then we end Blender
    ) as process:
        assert process.stdout is not None  # it is a pipe
        try:
            for line in _lines_or_ticks(process.stdout):
                told = _progress_of(line)
                if told is None and line.strip():
                    said = [*said, line.strip()][-KEPT_LINES:]
                step = told or step
                report(step)
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        raise ResourceError(_sentence(said, process.returncode))


def _lines_or_ticks(stream: IO[str]) -> Iterator[str]:
    """The lines of a pipe as they come, and "" every TICK seconds while nothing comes."""
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def read() -> None:
        for line in stream:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=TICK)
        except queue.Empty:
            yield ""
            continue
        if line is None:
            return
        yield line


def _progress_of(line: str) -> Progress | None:
    if not line.startswith("{"):
        return None
    try:
        record = json.loads(line)
        return Progress(
            stage=str(record["stage"]),
            fraction=float(record["fraction"]),
            person=record.get("person"),
            people=record.get("people"),
            message=str(record.get("message", "")),
        )
    except (ValueError, KeyError, TypeError):
        return None


def _sentence(said: list[str], code: int) -> str:
    """The add-on's own sentence where it gave one, else the last thing Blender said."""
    last = said[-1] if said else "it said nothing"
    if code == OWN_SENTENCE:
        return last
    return f"Blender failed with code {code}: {last.rstrip('.')}."
