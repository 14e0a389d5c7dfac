# SPDX-License-Identifier: Apache-2.0
"""The broker: one loop over the control socket, the workers and the news from the data thread."""

import json
import logging
import sqlite3
import threading
import time

import zmq
from crowdgaussian_shared.errors import CrowdGaussianError

from .control import Control, Greeting, offered_presets
from .data import NEWS, SEND_LIMIT, STOP, DataServer
from .jobs import Jobs
from .keys import KeyFolder
from .results import Folders
from .sessions import Sessions
from .settings import Address, ServiceSettings
from .sockets import ZapAuthenticator, open_router, receive
from .store import Store
from .workers import WorkerPool

log = logging.getLogger(__name__)
TICK = 0.2  # seconds, between two looks at the workers
BURST = 64  # messages read from clients before workers have their turn
SWEEP = 30.0  # seconds between two rounds of tidying up
CONTROL_LIMIT = 16  # messages that libzmq holds for a slow reader


class Broker:
    """One running service.

    Raises:
        CrowdGaussianError: the address needs keys and there are none, or cannot be bound, or the
            data folder is in use.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self.settings = settings
        folders = Folders(settings.data)
        folders.make()
        self._lock = folders.lock()
        self._context = zmq.Context(io_threads=2)
        try:
            keys = self._open_sockets()
        except CrowdGaussianError:
            self._context.destroy(linger=0)
            self._lock.close()
            raise
        self._store = Store(folders.database)
        self._sessions = Sessions(self._control_socket, self._store, keys)
        self._jobs = Jobs(settings, folders, self._store, self._sessions.news)
        self._pool = WorkerPool(self._context, settings)
        greeting = Greeting(self.data_port, settings.limits, offered_presets())
        self._control = Control(self._jobs, self._pool, self._sessions, greeting, keys)
        self._data = DataServer(self._context, self._data_socket, settings, keys)
        self._stopping = threading.Event()
        self._pause = TICK

    def stop(self) -> None:
        """Ends run() within a moment; may be called from anywhere."""
        self._stopping.set()

    def run(self) -> None:
        """Serves until stop() is called."""
        self._jobs.recover()
        self._data.start()
        threading.Thread(target=self._tidy, daemon=True).start()
        poller = zmq.Poller()
        for socket in (self._control_socket, self._pool.socket, self._news):
            poller.register(socket, zmq.POLLIN)
        next_round = time.monotonic() + SWEEP
        while not self._stopping.is_set():
            poller.poll(int(1000 * (self._pause if self._sessions.behind else TICK)))
            try:
                self._turn()
            except (OSError, sqlite3.Error, CrowdGaussianError):  # a full disk, above all
                log.exception("the service cannot go on as it should")
                self._stopping.wait(1.0)
            if time.monotonic() > next_round:
                next_round = time.monotonic() + SWEEP
                self._jobs.expire()
                self._sessions.forget_idle()

    def close(self) -> None:
        """Stops the workers and frees the address; jobs are kept."""
        self._pool.close()
        self._jobs.suspend()
        if self._data.ident is not None:
            stop = self._context.socket(zmq.PUSH)
            stop.connect(STOP)
            stop.send(b"")
            self._data.join(5.0)
            stop.close()
        self._control_socket.close()
        self._news.close()
        self._context.term()
        self._store.close()
        self._lock.close()

    def _turn(self) -> None:
        """Everything that has come in, and everything that has to go out."""
        for worker, kind, body in self._pool.messages():
            if kind == "progress":
                self._jobs.progress(body["job"], body)
            else:
                self._pool.release(worker)
                self._jobs.ended(body["job"], body)
        while self._news.poll(0):
            job, refused = json.loads(self._news.recv())
            if refused:
                self._jobs.photo_refused(job, refused)
            else:
                self._jobs.photo_arrived(job)
        for _ in range(BURST):
            envelope = receive(self._control_socket, self._secure)
            if envelope is None:
                break
            self._control.handle(envelope)
        for lost in self._pool.supervise():
            if lost.job:
                self._jobs.lost(lost.job, lost.why)
        self._dispatch()
        self._pause = 0.002 if self._sessions.pump() else min(2 * self._pause, TICK)

    def _dispatch(self) -> None:
        for worker in self._pool.idle():
            task = self._jobs.next_task()
            if task is None:
                return
            self._pool.run(worker, task)

    def _open_sockets(self) -> KeyFolder | None:
        """Binds everything -> the keys when clients need them."""
        address, keys = self.settings.bind, None
        if not address.loopback:
            keys = KeyFolder(self.settings.keys)
            if not keys.ready():
                raise CrowdGaussianError(
                    f"{address.endpoint()} can be reached from other computers and there are no "
                    "keys yet; run `crowdgaussian keys new NAME` first, or bind to 127.0.0.1."
                )
            ZapAuthenticator(self._context, keys).start()
        self._secure = keys is not None
        self._control_socket, self.port = open_router(
            self._context, address, keys, CONTROL_LIMIT, thread=0
        )
        wanted = self.settings.data_port or (address.port and address.port + 1)
        self._data_socket, self.data_port = open_router(
            self._context, Address(address.host, wanted), keys, SEND_LIMIT, thread=1
        )
        self._news = self._context.socket(zmq.PULL)
        self._news.bind(NEWS)
        return keys

    def _tidy(self) -> None:
        """Removes what was thrown away, outside of the loop."""
        results = Folders(self.settings.data).results
        while not self._stopping.wait(1.0):
            results.sweep()
