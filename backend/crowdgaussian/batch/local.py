# SPDX-License-Identifier: Apache-2.0
"""Workers of a batch: models are loaded once and kept; and the processes of this machine.

A worker is told on standard input what to do, and answers with a line of JSON a photo. When that
pipe ends, because the batch has or was killed, the worker ends with all that it has started.
"""

import json
import logging
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crowdgaussian_shared.errors import (
    BusyError,
    Cancelled,
    CrowdGaussianError,
    DiskFullError,
    ResourceError,
)

from ..core.progress import Progress, available_cores, gpu_indices, prepare_process
from ..pipeline.config import Job, configured
from .plan import Outcome, PhotoTask

if TYPE_CHECKING:
    from ..pipeline.stages import Stages
log = logging.getLogger(__name__)
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
STAGES = "crowdgaussian.pipeline.stages:build_stages"


@dataclass(frozen=True)
class Order:
    """What is done with every photo of a batch."""

    out: str  # absolute path
    preset: str
    changes: dict[str, str]
    overwrite: bool = False
    stages: str = STAGES  # module:function that loads the models


class PhotoWorker:
    """Reconstructs one photo after the other with models that are loaded once.

    Args:
        order: of the batch.
        cancelled: stops the photo at work at its next step, and all that follow.

    Raises:
        CrowdGaussianError: a setting is impossible, or a model file missing or damaged.
    """

    def __init__(self, order: Order, cancelled: threading.Event) -> None:
        from ..pipeline.reconstruct import reconstruct  # with torch, which the batch needs not

        self._order = order
        self._config = configured(order.preset, order.changes)
        self._reconstruct = reconstruct
        self._cancelled = cancelled
        self._worked = False
        module, function = order.stages.split(":")
        self._stages: Stages = getattr(import_module(module), function)(self._config)

    def run(self, task: PhotoTask, photo: Path | None = None) -> Outcome:
        """One photo -> how it ended; nothing but a lost process is an exception.

        Args:
            task: the photo.
            photo: where it lies on this machine, if elsewhere.
        """
        started, self._worked = time.perf_counter(), False
        outcome = self._tried(task, photo or Path(task.photo))
        seconds = time.perf_counter() - started
        return replace(outcome, seconds=seconds, worked=self._worked, host=socket.gethostname())

    def _tried(self, task: PhotoTask, photo: Path) -> Outcome:
        out = Path(self._order.out) / task.folder
        name = Path(task.photo).name
        job = Job(photo, out, self._config, self._order.overwrite, name)
        try:
            info = self._reconstruct(job, self._report, lambda config: self._stages).info
        except Cancelled:
            return Outcome("cancelled")
        except BusyError as error:
            return Outcome("busy", sentence=str(error))
        except CrowdGaussianError as error:
            state = "unusable" if isinstance(error, DiskFullError) else "failed"
            return Outcome(state, sentence=str(error).replace(str(photo), task.photo))
        except Exception as error:
            log.exception("%s failed", task.photo)
            words = f"An unexpected {type(error).__name__} ended the photo ({error}); report it."
            return Outcome("failed", sentence=words)
        people = info.people
        built = sum(person.state == "done" for person in people)
        reason = next((person.error for person in people if person.state == "failed"), "")
        state = "partly" if built < len(people) else "done"
        return Outcome(state, len(people), built, tuple(info.checks), sentence=reason)

    def _report(self, step: Progress) -> None:
        self._worked = True
        if self._cancelled.is_set():
            raise Cancelled


# A worker's process


def main() -> None:
    """Works until standard input ends."""
    prepare_process()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal is the batch's affair
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    start = json.loads(sys.stdin.readline())
    if start["verbose"]:
        logging.basicConfig(level=logging.INFO, format="worker %(process)d: %(message)s")
    tasks: queue.SimpleQueue[PhotoTask] = queue.SimpleQueue()
    cancelled = threading.Event()
    threading.Thread(target=_listen, args=(tasks, cancelled), daemon=True).start()
    try:
        worker = PhotoWorker(Order(**start["order"]), cancelled)
    except CrowdGaussianError as error:
        print(json.dumps(str(error)), file=answers, flush=True)
        return
    print(json.dumps(""), file=answers, flush=True)
    while True:
        outcome = worker.run(tasks.get())
        print(json.dumps(asdict(outcome)), file=answers, flush=True)


def _listen(tasks: "queue.SimpleQueue[PhotoTask]", cancelled: threading.Event) -> None:
    for line in sys.stdin:
        task = json.loads(line)
        if task is None:
            cancelled.set()
        else:
            tasks.put(PhotoTask(**task))
    end_process_tree(os.getpid())


def end_process_tree(process: int) -> None:
    """Kills a process and what it has started, in whatever session; by number where /proc tells."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, IndexError, ValueError):
            parent = int(entry.read_text().rpartition(")")[2].split()[1])
            parents.setdefault(parent, []).append(int(entry.parent.name))
    victims = [process]
    for victim in victims:
        victims += parents.get(victim, [])
    for victim in reversed(victims):  # the process itself, which may be this one, last
        with suppress(ProcessLookupError, PermissionError):
            os.kill(victim, signal.SIGKILL)


# The pool of this machine

START_SECONDS = 900.0  # for a worker to load its models, which may come over a slow network
START_TRIES = 3  # of workers that end while they load, before the batch is given up


@dataclass
class _Worker:
    """A process, and what it is doing."""

    process: subprocess.Popen[str]
    gpu: str | None
    until: float  # time.monotonic: when it is overdue with what it is doing
    ready: bool = False
    task: PhotoTask | None = None

    def say(self, line: str) -> None:
        """Tells the process something."""
        assert self.process.stdin is not None
        with suppress(OSError):  # it has ended, which its answers tell
            self.process.stdin.write(f"{line}\n")
            self.process.stdin.flush()

    def end(self) -> int:
        """Waits for a process that ends -> its exit code."""
        assert self.process.stdin is not None
        with suppress(OSError):
            self.process.stdin.close()
        return self.process.wait()


class LocalPool:
    """Processes of this machine, one a GPU, or sharing the cores.

    Args:
        order: what they do.
        count: how many.
        limit: seconds that a photo may take.
        verbose: let them log to standard error.
    """

    def __init__(self, order: Order, count: int, limit: float, verbose: bool = False) -> None:
        self._start = json.dumps({"order": asdict(order), "verbose": verbose}) + "\n"
        self._limit = limit
        self._stderr = None if verbose else subprocess.DEVNULL
        self._gpus = gpu_indices()
        self._count = count
        self._stillborn = 0  # workers in a row that ended while they loaded
        self._workers: list[_Worker] = []
        self._answers: queue.SimpleQueue[tuple[_Worker, str]] = queue.SimpleQueue()

    def free(self) -> int:
        """As Pool."""
        while len(self._workers) < self._count:
            self._workers.append(self._new())
        return sum(worker.ready and worker.task is None for worker in self._workers)

    def start(self, task: PhotoTask) -> None:
        """As Pool."""
        worker = next(worker for worker in self._workers if worker.ready and worker.task is None)
        worker.task, worker.until = task, time.monotonic() + self._limit
        worker.say(json.dumps(asdict(task)))

    def ended(self, seconds: float) -> list[tuple[PhotoTask, Outcome]]:
        """As Pool.

        Raises:
            ResourceError: the models cannot be loaded.
        """
        ends = [end for worker in [*self._workers] for end in self._overdue(worker)]
        if ends:
            return ends
        try:
            worker, line = self._answers.get(timeout=seconds)
        except queue.Empty:
            return []
        if worker not in self._workers:  # killed before
            return []
        task, worker.task = worker.task, None
        answer = json.loads(line) if line else None
        if isinstance(answer, str):
            self._begin(worker, answer)
        elif task is not None:
            return [(task, self._outcome(worker, answer))]
        elif answer is None:
            self._bury(worker)
        return []

    def cancel(self) -> None:
        """As Pool."""
        for worker in self._workers:
            worker.say("null")

    def close(self) -> None:
        """Ends every process, at once."""
        for worker in self._workers:
            end_process_tree(worker.process.pid)
            worker.end()
        self._workers.clear()

    def _begin(self, worker: _Worker, complaint: str) -> None:
        if complaint:
            raise ResourceError(complaint)
        worker.ready, self._stillborn = True, 0

    def _outcome(self, worker: _Worker, answer: dict[str, Any] | None) -> Outcome:
        if answer is None:
            return Outcome("lost", sentence=self._bury(worker))
        return Outcome(**answer | {"warnings": tuple(answer["warnings"])})

    def _bury(self, worker: _Worker) -> str:
        """Forgets a process that has ended -> how it did."""
        code = worker.end()
        self._workers.remove(worker)
        how = f"by signal {-code}" if code < 0 else f"with code {code}"
        words = f"The worker ended {how} (signal 9 may mean that memory ran out)."
        self._stillborn += not worker.ready
        if self._stillborn >= START_TRIES:
            raise ResourceError(f"{words} So did {START_TRIES} in a row while loading the models.")
        return words

    def _new(self) -> _Worker:
        environment = dict(os.environ)
        for name in THREADS:  # prepare_process or the user has said how many there are in all
            cores = int(environment.get(name, available_cores()))
            environment[name] = str(max(1, cores // self._count))
        used = [worker.gpu for worker in self._workers]
        gpu = min(self._gpus, key=used.count) if self._gpus else None
        if gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = gpu
        process = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            env=environment,
            start_new_session=True,
        )
        worker = _Worker(process, gpu, time.monotonic() + START_SECONDS)
        worker.say(self._start.rstrip())
        threading.Thread(target=_hear, args=(worker, self._answers.put), daemon=True).start()
        return worker

    def _overdue(self, worker: _Worker) -> Iterator[tuple[PhotoTask, Outcome]]:
        busy = worker.task is not None or not worker.ready
        if not busy or time.monotonic() < worker.until:
            return
        end_process_tree(worker.process.pid)
        self._bury(worker)
        if worker.task is not None:
            yield worker.task, overdue(self._limit)


def overdue(limit: float) -> Outcome:
    """What becomes of a photo that took too long."""
    words = f"It had not ended after {limit:.0f} s and was stopped; give a longer --limit"
    return Outcome("failed", seconds=limit, sentence=f"{words} and --retry-failed to go on.")


def _hear(worker: _Worker, put: Callable[[tuple[_Worker, str]], None]) -> None:
    """A process's answers, and an empty one when it has ended."""
    assert worker.process.stdout is not None
    with worker.process.stdout as lines:
        for line in lines:
            put((worker, line))
    put((worker, ""))
