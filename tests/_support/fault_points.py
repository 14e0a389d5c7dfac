# SPDX-License-Identifier: Apache-2.0
"""A job of the service with a fault at its n-th write: a full disk, or all processes killed.

    python tests/_support/fault_points.py [RUNS]    so many faults by a seed; without: all there are

Broker and worker run here one after the other, without their sockets; the pipeline has stand-in
stages. A point is an fsync, a rename, a link or a commit. Prints what went wrong, and how many ran.
"""

import contextlib
import errno
import json
import logging
import os
import random
import shutil
import sqlite3
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parents[1]))

from crowdgaussian.service import worker  # noqa: E402
from crowdgaussian.service.broker import Broker  # noqa: E402
from crowdgaussian.service.settings import ServiceSettings, parse_address  # noqa: E402
from crowdgaussian.service.submit import code_version, new_row  # noqa: E402
from crowdgaussian_shared.protocol import messages as m  # noqa: E402
from crowdgaussian_shared.scene.folder import SceneFolder  # noqa: E402
from crowdgaussian_shared.scene.schema import hash_bytes, hash_file  # noqa: E402

from _support.service_pipeline import run  # noqa: E402
from _support.stand_ins import write_photo  # noqa: E402

SEED = 17
TURNS = 12  # of the broker, in which a job has to end
KINDS = ("full", "kill")
WRITES = ("fsync", "replace", "link")
KILLED = 9
BEFORE, JOB = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"
FAILS = (OSError, sqlite3.Error)  # what a full disk raises


class Points(contextlib.ExitStack):
    """Counts the writes, and has one of them fail."""

    def __init__(self, at: int, kind: str) -> None:
        super().__init__()
        self.count, self._at, self._kind = 0, at, kind
        for name in WRITES:
            self.enter_context(patch.object(os, name, self._before(getattr(os, name))))
        points, connect = self, sqlite3.connect

        class Connection(sqlite3.Connection):
            def __exit__(self, kind, value, trace):
                if kind is None:
                    try:
                        points.pass_one(sqlite3.OperationalError("database or disk is full"))
                    except sqlite3.OperationalError:
                        self.rollback()
                        raise
                return super().__exit__(kind, value, trace)

        self.enter_context(
            patch.object(sqlite3, "connect", lambda *a, **k: connect(*a, factory=Connection, **k))
        )

    def pass_one(self, error: Exception) -> None:
        """One write is about to happen."""
        self.count += 1
        if self.count == self._at:
            if self._kind == "kill":
                os._exit(KILLED)
            raise error

    def _before(self, function):
        def wrapped(*args, **more):
            self.pass_one(OSError(errno.ENOSPC, "No space left on device"))
            return function(*args, **more)

        return wrapped


class Service:
    """A broker with one worker, neither in a process of its own."""

    def __init__(self, data: Path) -> None:
        address = parse_address("tcp://127.0.0.1:0")
        self.broker = Broker(ServiceSettings(data, bind=address, workers=1))
        self.jobs = self.broker._jobs
        (self._worker,) = self.broker._pool.workers
        self._task = None
        self.broker._pool.idle = lambda: [] if self._worker.job else [self._worker]
        self.broker._pool.run = self._hand_over

    def submit(self, job: str, photo: bytes) -> None:
        """As a client that asks again whatever went wrong."""
        row = self.jobs.store.get(job)
        if row is None or row.state in ("failed", "cancelled"):
            said = m.Submit(1, job, "people1.png", len(photo), hash_bytes(photo))
            self.jobs.accept(row or new_row(said, "local:me", self.jobs.settings))
        if self.jobs.store.get(job).state == "uploading":
            self.jobs.folders.upload(job).write_bytes(photo)
            self.broker._due.append(lambda: self.jobs.photo_arrived(job))

    def finish(self, job: str):
        """Turns of the broker until a job has ended -> its row."""
        for _ in range(TURNS):
            row = self.jobs.store.get(job)
            if row is not None and row.ended and not self.broker._due:
                break
            for step in (self._store_due, self.broker._dispatch, self._work, self._store_due):
                self.again_later(step)
            self.again_later(self.broker._sweep)
        return self.jobs.store.get(job)

    @staticmethod
    def again_later(step) -> None:
        """What a full disk ends is tried again in the next turn, as in Broker.run."""
        with contextlib.suppress(*FAILS):
            step()

    def _store_due(self) -> None:
        self.broker._store_again = 0.0
        self.broker._store_due()

    def _hand_over(self, worker_, task) -> None:
        worker_.job, self._task = task.job, task

    def _work(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            self._hear("ended", {"job": task.job} | worker._run(task, run, self, threading.Event()))
            self._worker.job = ""

    def send_multipart(self, frames) -> None:
        """What the worker says while it works."""
        self._hear(frames[0].decode(), json.loads(frames[1]))

    def _hear(self, kind: str, body) -> None:
        take = self.jobs.ended if kind == "ended" else self.jobs.progress
        self.broker._due.append(lambda: take(body["job"], body))


def faults_of(service: Service, job: str) -> list[str]:
    """What is not as it should be about a job that is done."""
    row = service.jobs.store.get(job)
    if row is None or row.state != "done":
        return [f"{job[-1]} is {row and row.state}: {row and row.error}"]
    results, newest = service.jobs.folders.results, service.jobs.store.newest(job)
    found = [a.name for a in newest if not results.path(row.key, a).is_file()]
    found += [a.name for a in newest if hash_file(results.path(row.key, a)) != a.blake2b]
    folder = SceneFolder.open(results.scene(row.key))
    names = {a.name for a in newest}
    wanted = {a.name for a in service.jobs.store.newest(BEFORE)}
    if names != wanted or not all(person.settled for person in folder.info.people):
        found.append(f"only {sorted(names)}")
    events = service.jobs.store.events(job, 0, 10_000)
    if [event.seq for event in events] != list(range(1, len(events) + 1)):
        found.append("events are missing")
    return found + [str(path) for path in folder.path.rglob("*.tmp")]


def suffer(data: Path, photo: bytes, at: int, kind: str) -> str:
    """A job with one fault -> what went wrong; the number of points is written beside the data."""
    with Points(at, kind) as points:
        service = Service(data)
        service.again_later(lambda: service.submit(JOB, photo))
        service.again_later(lambda: service.submit(JOB, photo))
        row = service.finish(JOB)
        data.with_suffix(".points").write_text(str(points.count))
    return "" if row is not None and row.ended else f"without an end: {row and row.state}"


def recover(data: Path, photo: bytes) -> str:
    """The next start of the service: the job comes to its end, and nothing was lost."""
    service = Service(data)
    service.jobs.recover()
    service.submit(JOB, photo)
    service.finish(JOB)
    return "; ".join(faults_of(service, JOB) + faults_of(service, BEFORE))


def apart(call, *arguments) -> str:
    """In a process of its own -> what it returned; empty when it was killed on purpose."""
    end, start = os.pipe()
    child = os.fork()
    if child == 0:
        said = ""
        try:
            said = call(*arguments)
        finally:
            if sys.exc_info()[0] is not None:
                said = traceback.format_exc()
            os.write(start, said[-4000:].encode())
            os._exit(0)
    os.close(start)
    with open(end, "rb") as stream:
        said = stream.read().decode()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return said or ("" if code in (0, KILLED) else f"ended with {code}")


def main(runs: int) -> int:
    """Every point and both kinds, or so many of them -> 1 when something went wrong."""
    wrong = 0
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        photos = [write_photo(place / f"{k}.png", seed=k).read_bytes() for k in range(2)]
        code_version()  # once, for all children
        apart(first, place / "first", photos[0])
        said = apart(trial, place, photos[1], 0, "")
        count = int((place / "data.points").read_text())
        cases = [(at, kind) for at in range(1, count + 1) for kind in KINDS]
        if runs:
            cases = random.Random(SEED).sample(cases, runs)
        for at, kind in cases:
            said = trial(place, photos[1], at, kind)
            wrong += bool(said)
            if said:
                print(f"{kind} at {at}: {said}")
    print(f"{len(cases)} faults at {count} points, {wrong} did harm")
    return int(wrong > 0)


def first(data: Path, photo: bytes) -> str:
    """A job that is finished before anything goes wrong."""
    service = Service(data)
    service.submit(BEFORE, photo)
    return str(service.finish(BEFORE).state)


def trial(place: Path, photo: bytes, at: int, kind: str) -> str:
    """One fault in a fresh copy -> what went wrong."""
    data = place / "data"
    shutil.rmtree(data, ignore_errors=True)
    shutil.copytree(place / "first", data)
    return apart(suffer, data, photo, at, kind) or apart(recover, data, photo)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
