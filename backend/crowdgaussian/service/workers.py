# SPDX-License-Identifier: Apache-2.0
"""The broker's side of its workers: starting, listening, stopping, killing, starting again."""

import json
import logging
import os
import platform
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import zmq
from crowdgaussian_shared.protocol.messages import Device

from ..core.progress import available_cores, gpu_indices
from .settings import ServiceSettings

# What this machine computes on


def describe_device(look_for_gpu: bool) -> Device:
    """The GPU that torch would use, or the CPU.

    Args:
        look_for_gpu: imports torch, which takes seconds; never in the broker.
    """
    if look_for_gpu:
        import torch

        from ..core.device import choose_device

        if choose_device().type == "cuda":
            free, total = torch.cuda.mem_get_info()
            return Device("cuda", torch.cuda.get_device_name(), total, free)
    total, free = _main_memory()
    name = platform.processor() or platform.machine()
    return Device("cpu", f"{name}, {available_cores()} cores", total, free)


def _main_memory() -> tuple[int, int]:
    """Bytes in all and free; zeros where the system does not tell."""
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        return os.sysconf("SC_PHYS_PAGES") * page, os.sysconf("SC_AVPHYS_PAGES") * page
    except (AttributeError, ValueError, OSError):
        return 0, 0


# What the broker tells a worker


@dataclass(frozen=True)
class Start:
    """What the broker writes on standard input, as one line of JSON."""

    endpoint: str
    name: str  # random: who does not know it is no worker of this broker
    beat_seconds: float
    pipeline: str  # module:function


@dataclass(frozen=True)
class Task:
    """One job as the broker hands it over."""

    job: str
    photo: str
    photo_name: str
    photo_blake2b: str  # as announced: another photo is not worked on
    scene: str
    objects: str
    preset: str
    settings: dict[str, str]
    known: dict[str, str]  # hash by artefact name, of what was announced before
    edit: str = ""  # corrections, as in SUBMIT
    base: str = ""  # scene folder of the result that has the most of them; empty: none is here


log = logging.getLogger(__name__)
MISSES = 5  # beats without which a worker counts as dead
FIRST_BEAT = 60.0  # seconds from the start to the first beat
LONGEST_PAUSE = 32.0  # seconds before another start of a worker that keeps dying


def socket_folder(data: Path) -> "tempfile.TemporaryDirectory[str]":
    """A folder with a short path, mode 0700; that of a service that was killed is removed.

    Args:
        data: of the service, which this process holds; there the folder is noted down.
    """
    note, prefix = data / "sockets", "crowdgaussian-"
    with suppress(OSError):
        old = Path(note.read_text())
        if old.parent == Path(tempfile.gettempdir()) and old.name.startswith(prefix):
            shutil.rmtree(old, ignore_errors=True)
    folder = tempfile.TemporaryDirectory(prefix=prefix)
    with suppress(OSError):  # on a full disk it stays after a kill
        note.write_text(folder.name)
    return folder


@dataclass
class Worker:
    """One worker process as the broker sees it."""

    gpu: str | None
    name: str = ""
    process: subprocess.Popen | None = None
    ready: bool = False
    deadline: float = 0.0  # when it counts as dead
    job: str = ""
    news: float = 0.0  # when its job last reported progress
    kill_at: float | None = None  # when a cancel that was not obeyed becomes a kill
    killed: str = ""  # why, until the system has taken down the process
    pause: float = 0.0
    start_at: float = 0.0


@dataclass(frozen=True)
class Lost:
    """A worker that died or was killed, with the job it had."""

    job: str
    why: str  # "died", "frozen", "cancel" or "silent"


@dataclass
class WorkerPool:
    """All workers and the socket they talk to."""

    context: zmq.Context
    settings: ServiceSettings
    socket: zmq.Socket = field(init=False)
    workers: list[Worker] = field(init=False)
    device: Device | None = None  # of the newest worker that said it is ready

    def __post_init__(self) -> None:
        self.socket = self.context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._folder = socket_folder(self.settings.data)
        if zmq.has("ipc"):
            self._endpoint = f"ipc://{Path(self._folder.name) / 'workers'}"
            self.socket.bind(self._endpoint)
        else:
            port = self.socket.bind_to_random_port("tcp://127.0.0.1")
            self._endpoint = f"tcp://127.0.0.1:{port}"
        gpus: list[str | None] = [*gpu_indices()] or [None]
        count = self.settings.workers or len(gpus)
        self.workers = [Worker(gpus[i % len(gpus)]) for i in range(count)]

    def messages(self) -> Iterator[tuple[Worker, str, dict[str, Any]]]:
        """Everything the workers have said since the last call."""
        known = {w.name.encode(): w for w in self.workers if w.process is not None}
        while True:
            try:
                name, *frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            worker = known.get(name)
            if worker is None or len(frames) != 2:
                continue
            now = time.monotonic()
            worker.deadline = now + MISSES * self.settings.beat_seconds
            kind, body = frames[0].decode(), json.loads(frames[1])
            if kind == "ready":
                worker.ready, worker.pause, self.device = True, 0.0, Device(**body["device"])
            elif kind in ("progress", "ended"):
                worker.news = now
                yield worker, kind, body

    def idle(self) -> list[Worker]:
        """Workers that wait for a job."""
        alive = (w for w in self.workers if w.process is not None and not w.killed)
        return [worker for worker in alive if worker.ready and not worker.job]

    def of_job(self, job: str) -> Worker | None:
        return next((w for w in self.workers if w.job == job), None)

    def run(self, worker: Worker, task: Task) -> bool:
        """Hands over a job -> False when the worker is gone."""
        worker.job, worker.news, worker.kill_at = task.job, time.monotonic(), None
        return self._send(worker, "run", asdict(task))

    def release(self, worker: Worker) -> None:
        """The worker's job is over."""
        worker.job, worker.kill_at = "", None

    def cancel(self, job: str) -> None:
        """Asks the worker to stop; it is killed if it does not."""
        worker = self.of_job(job)
        if worker is not None and worker.kill_at is None:
            worker.kill_at = time.monotonic() + self.settings.cancel_seconds
            self._send(worker, "cancel", {})

    def supervise(self) -> list[Lost]:
        """Starts workers that are due, kills those that hang -> the jobs that were lost.

        A job is lost when its worker is gone, which takes a while where it had much memory; nobody
        waits for that here.
        """
        now, lost = time.monotonic(), []
        for worker in self.workers:
            if worker.process is None:
                if now >= worker.start_at:
                    self._start(worker)
                continue
            why = worker.killed or self._trouble(worker, now)
            if why and worker.process.poll() is None:
                worker.killed = why
                worker.process.kill()
            elif why:
                lost.append(Lost(worker.job, "cancel" if worker.kill_at is not None else why))
                self._bury(worker, why)
        return lost

    def close(self) -> None:
        """Stops every worker, kindly at first."""
        for worker in self.workers:
            if worker.process is not None:
                self._send(worker, "cancel", {})
                self._send(worker, "stop", {})
        patience = time.monotonic() + 1.0
        for worker in self.workers:
            if worker.process is not None:
                self._wait_or_kill(worker.process, max(0.0, patience - time.monotonic()))
        self.socket.close()
        self._folder.cleanup()

    def _trouble(self, worker: Worker, now: float) -> str:
        if worker.process is None or worker.process.poll() is not None:
            return "died"
        if now > worker.deadline:
            return "frozen"
        if worker.kill_at is not None and now > worker.kill_at:
            return "cancel"
        if worker.job and now > worker.news + self.settings.silence_seconds:
            return "silent"
        return ""

    def _start(self, worker: Worker) -> None:
        environment = dict(os.environ)
        if worker.gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = worker.gpu
        worker.name = secrets.token_hex(16)
        worker.process = process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.worker"],
            stdin=subprocess.PIPE,
            stdout=sys.stderr,
            env=environment,
        )
        start = Start(
            self._endpoint, worker.name, self.settings.beat_seconds, self.settings.pipeline
        )
        try:
            if process.stdin is not None:
                process.stdin.write(json.dumps(asdict(start)).encode() + b"\n")
                process.stdin.flush()
        except OSError:
            log.warning("worker %d ended while it started", process.pid)
        worker.ready = False
        worker.deadline = time.monotonic() + FIRST_BEAT
        log.info("worker %d started", process.pid)

    def _bury(self, worker: Worker, why: str) -> None:
        """It is dead; plans its successor."""
        if worker.process is not None:
            log.warning("worker %d lost (%s)", worker.process.pid, why)
            self._wait_or_kill(worker.process, 0.0)
        if not worker.ready:
            worker.pause = min(LONGEST_PAUSE, 2 * worker.pause or 1.0)
        worker.start_at = time.monotonic() + worker.pause
        worker.process, worker.ready, worker.killed = None, False, ""
        self.release(worker)

    @staticmethod
    def _wait_or_kill(process: subprocess.Popen, seconds: float) -> None:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin is not None:
            process.stdin.close()

    def _send(self, worker: Worker, kind: str, body: dict[str, Any]) -> bool:
        frames = [worker.name.encode(), kind.encode(), json.dumps(body).encode()]
        try:
            self.socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.ZMQError:
            return False
        return True
