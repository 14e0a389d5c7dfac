# SPDX-License-Identifier: Apache-2.0
"""A worker process: the pipeline in the main thread, signs of life in another.

The broker starts it, tells it on standard input where to connect, and keeps that pipe open: when
the broker dies, however it dies, the pipe ends and so does the worker.
"""

import contextlib
import json
import logging
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import zmq
from crowdgaussian_shared.errors import Cancelled, CrowdGaussianError, InputError
from crowdgaussian_shared.protocol.messages import Artifact
from crowdgaussian_shared.scene.edit import SceneEdits
from crowdgaussian_shared.scene.folder import SCENE_FILE, SceneFolder
from crowdgaussian_shared.scene.schema import hash_file

from ..core.progress import Progress, prepare_process
from ..pipeline.config import Job, configured
from .settings import PIPELINE
from .workers import Start, Task, describe_device

# Which files of a scene folder are new, seen from the worker between two steps of the pipeline

PERSON_FILES = ("avatar", "splats", "mask", "amodal")  # fit.npz is the backend's own
Stamp = tuple[int, int, int]  # what changes when a file is replaced


class Announcer:
    """Watches one scene folder.

    Args:
        scene: the folder, which need not exist yet.
        objects: where the links go.
        known: hash by name of what was announced by an earlier run of the same job.
    """

    def __init__(self, scene: Path, objects: Path, known: dict[str, str]) -> None:
        self.artifacts: dict[str, Artifact] = {}
        self._scene = scene
        self._objects = objects
        self._known = dict(known)
        self._stamps: dict[str, Stamp] = {}

    def changes(self) -> list[Artifact]:
        """The artefacts that are new or changed since the last call."""
        scene_file = self._scene / SCENE_FILE
        if not scene_file.is_file() or _stamp(scene_file) == self._stamps.get(SCENE_FILE):
            return []
        info = SceneFolder.open(self._scene).info
        names = [info.photo.file, *info.previews]
        for person in info.people:
            names += [person.files[kind] for kind in PERSON_FILES if kind in person.files]
        found = [self._look(name) for name in (*names, SCENE_FILE)]
        return [artifact for artifact in found if artifact is not None]

    def _look(self, name: str) -> Artifact | None:
        """The artefact if it has to be announced."""
        path = self._scene / name
        stamp = _stamp(path)
        if stamp == self._stamps.get(name):
            return None
        artifact = Artifact(name, stamp[1], hash_file(path))
        _link(path, self._objects / artifact.blake2b)
        self._stamps[name] = stamp
        self.artifacts[name] = artifact
        if self._known.get(name) == artifact.blake2b:
            return None
        self._known[name] = artifact.blake2b
        return artifact


def _stamp(path: Path) -> Stamp:
    info = path.stat()
    return info.st_mtime_ns, info.st_size, info.st_ino


def _link(path: Path, target: Path) -> None:
    """A second name for the same bytes; a copy where the file system knows no links."""
    with contextlib.suppress(FileExistsError):
        try:
            os.link(path, target)
        except FileExistsError:
            raise
        except OSError:
            beside = target.with_suffix(".part")
            shutil.copyfile(path, beside)
            os.replace(beside, target)


log = logging.getLogger(__name__)
REPORT_EVERY = 0.4  # seconds between reports of mere progress
LINK = "inproc://pipeline"


def main() -> None:
    """Runs until the broker says stop or is gone."""
    prepare_process()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal is the broker's affair
    logging.basicConfig(level=logging.INFO, format="worker %(process)d: %(message)s")
    start = Start(**json.loads(sys.stdin.readline()))
    threading.Thread(target=_end_with_broker, daemon=True).start()
    context = zmq.Context()
    link = context.socket(zmq.PAIR)
    link.bind(LINK)
    line = _Line(context, start)
    line.start()
    _work(start, link, line.cancelled)
    line.join(2.0)
    os._exit(0)  # native libraries' own threads may hang at a normal exit


def _end_with_broker() -> None:
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(1)


def _work(start: Start, link: zmq.Socket, cancelled: threading.Event) -> None:
    """The main thread: one task after the other."""
    module, function = start.pipeline.split(":")
    pipeline = getattr(import_module(module), function)
    while True:
        device = describe_device(look_for_gpu=start.pipeline == PIPELINE)
        _tell(link, "ready", device=asdict(device))
        kind, body = link.recv_multipart()
        if kind == b"stop":
            return
        task = Task(**json.loads(body))
        _tell(link, "ended", job=task.job, **_run(task, pipeline, link, cancelled))


def _run(
    task: Task, pipeline: Callable[..., SceneFolder], link: zmq.Socket, cancelled: threading.Event
) -> dict[str, Any]:
    """Runs one task -> how it ended."""
    report = _WorkerReport(task, link, cancelled)
    try:
        _check_photo(task)
        _use_photo_name(task)
        folder = pipeline(_job(task), report)
        report.send(report.last)
        complete = all(person.settled for person in folder.info.people)
        artifacts = [asdict(a) for a in report.announcer.artifacts.values()]
        return {"state": "done", "error": "", "complete": complete, "artifacts": artifacts}
    except Cancelled:
        report.send(report.last)
        return {"state": "cancelled", "error": ""}
    except CrowdGaussianError as error:
        sentence = str(error).replace(task.photo, task.photo_name)
        for place in filter(None, (task.scene, task.base)):
            sentence = sentence.replace(place, "the scene")
        return {"state": "failed", "error": sentence}
    except Exception as error:
        log.exception("job %s failed", task.job)
        return {
            "state": "failed",
            "error": f"An unexpected {type(error).__name__} ended the job; "
            "submit it again, and report it if it happens again.",
        }


def _job(task: Task) -> Job:
    return Job(
        Path(task.photo),
        Path(task.scene),
        configured(task.preset, task.settings),
        photo_name=task.photo_name,
        base=Path(task.base) if task.base else None,
        edits=SceneEdits.from_json(task.edit) if task.edit else None,
    )


def _check_photo(task: Task) -> None:
    """The result is kept under the photo's hash, so no other photo may make it."""
    if hash_file(Path(task.photo)) != task.photo_blake2b:
        raise InputError("The photo is not the one that was announced; submit it again.")


def _use_photo_name(task: Task) -> None:
    """An unfinished scene of the same photo may have been started under another name."""
    scene = Path(task.scene)
    if SceneFolder.exists(scene):
        folder = SceneFolder.open(scene)
        if folder.info.photo.name != task.photo_name:
            folder.update(photo=replace(folder.info.photo, name=task.photo_name))


class _WorkerReport:
    """The pipeline's Report: tells the broker what is new, and stops when told to."""

    def __init__(self, task: Task, link: zmq.Socket, cancelled: threading.Event) -> None:
        self.announcer = Announcer(Path(task.scene), Path(task.objects), task.known)
        self.last = Progress("", 0.0)
        self._job = task.job
        self._link = link
        self._cancelled = cancelled
        self._sent = 0.0

    def __call__(self, step: Progress) -> None:
        if self._cancelled.is_set():
            raise Cancelled
        same = (step.stage, step.person) == (self.last.stage, self.last.person)
        self.last = step
        if not same or time.monotonic() - self._sent >= REPORT_EVERY:
            self.send(step)

    def send(self, step: Progress) -> None:
        """Tells the broker, with the files that are new."""
        self._sent = time.monotonic()
        changes = [asdict(a) for a in self.announcer.changes()]
        _tell(
            self._link,
            "progress",
            job=self._job,
            artifacts=changes,
            progress={
                "stage": step.stage,
                "fraction": min(max(float(step.fraction), 0.0), 1.0),
                "person": step.person,
                "people": step.people,
                "message": step.message[:500],
            },
        )


class _Line(threading.Thread):
    """The connection to the broker, and a sign of life each second whatever the pipeline does."""

    def __init__(self, context: zmq.Context, start: Start) -> None:
        super().__init__(daemon=True)
        self.cancelled = threading.Event()
        self._start = start
        self._link = context.socket(zmq.PAIR)
        self._link.connect(LINK)
        self._broker = context.socket(zmq.DEALER)
        self._broker.setsockopt(zmq.IDENTITY, start.name.encode())
        self._broker.setsockopt(zmq.LINGER, 1000)
        self._broker.connect(start.endpoint)

    def run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._link, zmq.POLLIN)
        poller.register(self._broker, zmq.POLLIN)
        next_beat = 0.0
        while True:
            if time.monotonic() >= next_beat:
                next_beat = time.monotonic() + self._start.beat_seconds
                self._broker.send_multipart([b"beat", b"{}"])
            wait = max(0.0, next_beat - time.monotonic())
            ready = dict(poller.poll(int(wait * 1000)))
            if self._link in ready:
                self._broker.send_multipart(self._link.recv_multipart())
            if self._broker in ready and self._from_broker():
                return

    def _from_broker(self) -> bool:
        """One order from the broker -> whether to stop."""
        kind, body = self._broker.recv_multipart()
        if kind == b"cancel":
            self.cancelled.set()
            return False
        if kind == b"run":
            self.cancelled.clear()
        self._link.send_multipart([kind, body])
        return kind == b"stop"


def _tell(link: zmq.Socket, kind: str, **body: Any) -> None:
    link.send_multipart([kind.encode(), json.dumps(body).encode()])


if __name__ == "__main__":
    main()
