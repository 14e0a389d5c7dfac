# SPDX-License-Identifier: Apache-2.0
"""Workers of a batch on a Ray cluster: an actor a GPU, or a share of the cores where there is none.

Each actor loads its models once. OUT is on storage that all computers share, and is what a lost
actor or computer is recovered from: another one goes on in the photo's folder.
"""

import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from crowdgaussian_shared.errors import (
    CrowdGaussianError,
    MissingFileError,
    ResourceError,
    SettingError,
)

from .. import __version__
from ..core.progress import prepare_process
from .local import THREADS, Order, PhotoWorker, overdue
from .plan import Outcome, PhotoTask

OLDEST = (2, 60)  # of Ray, with which this was tried
CONNECT_SECONDS = 5.0  # for an address to answer
LOOK_SECONDS = 5.0  # between two looks at which computers there are
EMPTY_SECONDS = 120.0  # a cluster without any computer that can be used is given up


@dataclass(frozen=True)
class RayOptions:
    """Where the cluster is and how it is used."""

    address: str  # HOST:PORT, auto or local
    share: int = 4  # cores of an actor, where a computer has so many
    most: int = 0  # actors in all; 0: as many as there is room for
    send_photos: bool = False  # with the task, as the computers do not see them


class RayWorker:
    """What runs in an actor.

    Args:
        order: of the batch, as fields.
        version: of the program that started the batch.
        probe: a file in OUT that must be seen here.
    """

    def __init__(self, order: dict[str, Any], version: str, probe: str) -> None:
        for name in THREADS[1:]:  # Ray sets the first by the actor's cores
            os.environ[name] = os.environ.get(THREADS[0], "1")
        prepare_process()
        self._complaint = ""
        if version != __version__:
            self._complaint = f"has version {__version__} of CrowdGaussian, not {version}"
        elif not Path(probe).is_file():
            self._complaint = f"does not see {order['out']}, which has to be on shared storage"
        self._cancelled = threading.Event()
        self._worker: PhotoWorker | None = None
        self._order = order

    def ready(self) -> str:
        """Loads the models -> what is wrong with this computer; empty: nothing."""
        try:
            if not self._complaint:
                self._worker = PhotoWorker(Order(**self._order), self._cancelled)
        except CrowdGaussianError as error:
            return f"cannot load the models: {str(error).rstrip('.')}"
        return self._complaint

    def run(self, task: PhotoTask, photo: bytes | None) -> Outcome:
        """One photo."""
        assert self._worker is not None
        if photo is None:
            return self._worker.run(task)
        with tempfile.TemporaryDirectory(prefix="crowdgaussian-") as folder:
            path = Path(folder) / Path(task.photo).name
            path.write_bytes(photo)
            return self._worker.run(task, path)

    def cancel(self) -> None:
        """Stops at the next step."""
        self._cancelled.set()


@dataclass
class _Actor:
    """An actor as the batch sees it."""

    handle: Any
    node: str
    host: str
    waits_for: Any = None  # the answer that is asked for: ready, or a photo's outcome
    ready: bool = False
    task: PhotoTask | None = None
    until: float = 0.0  # time.monotonic


class RayPool:
    """The actors of a batch; they come and go with the computers of the cluster.

    Args:
        options: where the cluster is and how it is used.
        order: what the actors do.
        limit: seconds that a photo may take.
        verbose: let them log to this terminal.

    Raises:
        CrowdGaussianError: Ray is missing or of another version, or no cluster is there.
    """

    def __init__(self, options: RayOptions, order: Order, limit: float, verbose: bool) -> None:
        self._ray = _import_ray()
        _connect(self._ray, options.address, verbose)
        self._options, self._order, self._limit = options, order, limit
        self._actors: list[_Actor] = []
        self._unfit: dict[str, str] = {}  # computers that cannot be used, and why
        self._looked, self._alone_since = float("-inf"), time.monotonic()
        descriptor, self._probe = tempfile.mkstemp(prefix=".batch-", dir=order.out)
        os.close(descriptor)

    def free(self) -> int:
        """As Pool."""
        return sum(actor.ready and actor.task is None for actor in self._actors)

    def start(self, task: PhotoTask) -> None:
        """As Pool."""
        actor = next(actor for actor in self._actors if actor.ready and actor.task is None)
        photo = _bytes(task.photo) if self._options.send_photos else None
        actor.task, actor.until = task, time.monotonic() + self._limit
        actor.waits_for = actor.handle.run.remote(task, photo)

    def ended(self, seconds: float) -> list[tuple[PhotoTask, Outcome]]:
        """As Pool.

        Raises:
            ResourceError: no computer of the cluster can be used.
        """
        ends = [*self._overdue()]
        self._look()
        waiting = {a.waits_for: a for a in self._actors if a.waits_for is not None}
        if not waiting or ends:
            time.sleep(0.0 if ends else seconds)
            return ends
        for answer in self._ray.wait([*waiting], timeout=seconds)[0]:
            ends += self._heard(waiting[answer])
        return ends

    def cancel(self) -> None:
        """As Pool."""
        for actor in self._actors:
            if actor.task is not None:
                actor.handle.cancel.remote()

    def close(self) -> None:
        """Ends every actor, and leaves the cluster."""
        for actor in self._actors:
            self._ray.kill(actor.handle)
        self._ray.shutdown()
        Path(self._probe).unlink(missing_ok=True)

    def _overdue(self) -> Iterator[tuple[PhotoTask, Outcome]]:
        for actor in [*self._actors]:
            if actor.task is not None and time.monotonic() >= actor.until:
                self._ray.kill(actor.handle)
                self._forget(actor)
                yield actor.task, overdue(self._limit)

    def _heard(self, actor: _Actor) -> list[tuple[PhotoTask, Outcome]]:
        """Takes an actor's answer, or learns that there is no actor any more."""
        task, answer = actor.task, actor.waits_for
        actor.task = actor.waits_for = None
        try:
            value = self._ray.get(answer)
        except self._ray.exceptions.RayError as error:
            return self._lost(actor, task, error)
        if task is not None:
            return [(task, value)]
        actor.ready = not value
        if value:
            self._refuse(actor, f"{actor.host} {value}.")
        return []

    def _lost(
        self, actor: _Actor, task: PhotoTask | None, error: Exception
    ) -> list[tuple[PhotoTask, Outcome]]:
        self._forget(actor)
        alive = actor.node in {node["NodeID"] for node in self._nodes()}
        if task is None:
            if alive and not actor.ready:
                words = str(error).strip().splitlines()[-1]
                self._refuse(actor, f"No worker starts on {actor.host}: {words}")
            return []
        if not alive:  # no fault of the photo
            return [(task, Outcome("busy", sentence=f"{actor.host} is gone."))]
        return [(task, Outcome("lost", sentence=f"The worker on {actor.host} ended."))]

    def _refuse(self, actor: _Actor, sentence: str) -> None:
        self._unfit[actor.node] = sentence
        self._ray.kill(actor.handle)
        self._forget(actor)

    def _forget(self, actor: _Actor) -> None:
        if actor in self._actors:
            self._actors.remove(actor)
        self._looked = float("-inf")

    def _nodes(self) -> list[dict[str, Any]]:
        return [node for node in self._ray.nodes() if node["Alive"]]

    def _look(self) -> None:
        """Sees which computers there are, and starts the actors that they have room for."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        for node in self._nodes():
            if node["NodeID"] not in self._unfit:
                self._fill(node)
        if self._actors:
            self._alone_since = now
        elif self._unfit or now - self._alone_since > EMPTY_SECONDS:
            reasons = " ".join(dict.fromkeys(self._unfit.values()))
            raise ResourceError(f"No computer of the Ray cluster can be used. {reasons}".strip())

    def _fill(self, node: dict[str, Any]) -> None:
        """Starts a computer's actors: one a GPU, or one a share of its cores."""
        cores, gpus = (int(node["Resources"].get(kind, 0)) for kind in ("CPU", "GPU"))
        share = min(self._options.share, cores // gpus if gpus else cores)
        wanted = gpus or (cores // share if share else 0)
        there = sum(actor.node == node["NodeID"] for actor in self._actors)
        for _ in range(wanted - there):
            if self._options.most and len(self._actors) >= self._options.most:
                return
            self._actors.append(self._new(node, share, 1 if gpus else 0))

    def _new(self, node: dict[str, Any], cores: int, gpus: int) -> _Actor:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        handle = (
            self._ray.remote(RayWorker)
            .options(
                num_cpus=cores,
                num_gpus=gpus,
                max_restarts=0,  # the batch starts another, where there is room
                max_concurrency=2,  # a photo, and the order to stop it
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
            )
            .remote(asdict(self._order), __version__, self._probe)
        )
        return _Actor(handle, node["NodeID"], node["NodeManagerHostname"], handle.ready.remote())


def _bytes(photo: str) -> bytes | None:
    """A photo to send; None for one that cannot be read, which the worker then says."""
    try:
        return Path(photo).read_bytes()
    except OSError:
        return None


def _import_ray() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise MissingFileError(
            'Ray is not installed: pip install "crowdgaussian[ray]", here and on each computer '
            "of the cluster."
        ) from error
    if tuple(int(number) for number in ray.__version__.split(".")[:2]) < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        raise MissingFileError(
            f"Ray {ray.__version__} is too old, {wanted} or newer is needed: "
            'pip install "crowdgaussian[ray]".'
        )
    return ray


def _connect(ray: Any, address: str, verbose: bool) -> None:
    """Joins a cluster, or starts one here.

    Raises:
        SettingError: the address is none, or versions differ.
        ResourceError: no cluster is there.
    """
    place = "on this computer" if address == "auto" else f"at {address}"
    nobody = (
        f"There is no Ray cluster {place}; start one by `ray start --head`, or give --ray "
        "local for one of this computer."
    )
    if address not in ("auto", "local"):
        host, colon, port = address.rpartition(":")
        if "://" in address or not colon or not port.isdecimal():
            raise SettingError(
                f"'{address}' is no address of a Ray cluster; run on one of its computers and give "
                "HOST:PORT, auto or local."
            )
        try:
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        except (OSError, OverflowError) as error:
            raise ResourceError(nobody) from error
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    level = {} if verbose else {"logging_level": "error"}
    try:
        ray.init(address=address, log_to_driver=verbose, **level)
    except ConnectionError as error:
        raise ResourceError(nobody) from error
    except Exception as error:  # Ray raises plain ones too
        words = " ".join(str(error).split()).rstrip(".")
        if "ersion mismatch" in words:
            raise SettingError(
                f"The Ray cluster at {address} has other versions; install the same ones: {words}."
            ) from error
        raise ResourceError(f"Ray could not be reached or started: {words}.") from error
