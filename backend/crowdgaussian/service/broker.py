# SPDX-License-Identifier: Apache-2.0
"""The broker: one loop over the control socket, the workers and the news from the data thread."""

import json
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import zmq
from crowdgaussian_shared.errors import CrowdGaussianError, ResourceError, SettingError

from ..pipeline.config import preset
from .control import Control, Greeting, Sessions, offered_presets
from .data import NEWS, SEND_LIMIT, STOP, DataServer
from .jobs import Jobs
from .results import Folders
from .settings import Address, KeyFolder, ServiceSettings
from .sockets import Envelope, Inbox, ZapAuthenticator, open_router, room_for_connections
from .store import Store
from .submit import result_key
from .workers import WorkerPool

log = logging.getLogger(__name__)
TICK = 0.2  # seconds, between two looks at the workers
BURST = 64  # messages read from clients before workers have their turn
STORE_AGAIN = 1.0  # seconds until what could not be stored is tried again
STORING = 0.02  # seconds for which events are stored before clients have their turn
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
        room = room_for_connections()
        self._data = DataServer(self._context, self._data_socket, settings, keys, room)
        self._inbox = Inbox(self._control_socket, keys is not None, room)
        self._due: deque[Callable[[], None]] = deque()  # what is to be stored, oldest first
        self._store_again = 0.0  # when the oldest of it is tried again
        self._stopping = threading.Event()
        self._pause = TICK

    def stop(self) -> None:
        """Ends run() within a moment; may be called from anywhere."""
        self._stopping.set()

    def run(self) -> None:
        """Serves until stop() is called.

        Raises:
            ResourceError: the data socket's thread has ended, so photos and results no longer move.
        """
        while not self._safely(self._jobs.recover) and not self._stopping.is_set():
            pass
        self._data.start()
        threading.Thread(target=self._tidy, daemon=True).start()
        poller = zmq.Poller()
        monitor = self._inbox.connections.monitor
        for socket in (self._control_socket, monitor, self._pool.socket, self._news):
            poller.register(socket, zmq.POLLIN)
        next_round = time.monotonic() + SWEEP
        while not self._stopping.is_set():
            poller.poll(int(1000 * (self._pause if self._sessions.behind or self._due else TICK)))
            if not self._data.is_alive():
                raise ResourceError("The data port's thread has ended; start the service again.")
            self._safely(self._turn)
            if time.monotonic() > next_round:
                next_round = time.monotonic() + SWEEP
                self._safely(self._sweep)

    def _safely(self, step: Callable[[], None]) -> bool:
        """Whether a step came to its end; else it is tried again after a moment."""
        try:
            step()
            return True
        except (OSError, sqlite3.Error, CrowdGaussianError):  # a full disk, above all
            log.exception("the service cannot go on as it should")
            self._stopping.wait(1.0)
            return False

    def close(self) -> None:
        """Stops workers and downloads and frees the address; jobs are kept."""
        self._control.close()
        self._pool.close()
        self._safely(self._jobs.suspend)
        if self._data.ident is not None:
            stop = self._context.socket(zmq.PUSH)
            stop.connect(STOP)
            stop.send(b"")
            self._data.join(5.0)
            stop.close()
        else:
            self._data.close()
        self._inbox.connections.close()
        self._news.close()
        self._context.term()
        self._store.close()
        self._lock.close()

    def _turn(self) -> None:
        """Everything that has come in, and everything that has to go out."""
        self._hear_workers()
        while self._news.poll(0):
            job, refused = json.loads(self._news.recv())
            if refused:
                self._due.append(partial(self._jobs.photo_refused, job, refused))
            else:
                self._due.append(partial(self._jobs.photo_arrived, job))
        self._store_due()
        self._inbox.connections.tidy()
        for _ in range(BURST):
            envelope = self._inbox.next()
            if envelope is None:
                break
            self._read(envelope)
        self._hear_workers()  # before they are judged: clients may have taken long
        for lost in self._pool.supervise():
            if lost.job:
                self._due.append(partial(self._jobs.lost, lost.job, lost.why))
        self._store_due()
        self._dispatch()
        more = self._due and time.monotonic() > self._store_again
        self._pause = 0.002 if self._sessions.pump() or more else min(2 * self._pause, TICK)

    def _hear_workers(self) -> None:
        for worker, kind, body in self._pool.messages():
            if kind == "progress":
                self._due.append(partial(self._jobs.progress, body["job"], body))
            else:
                self._pool.release(worker)
                self._due.append(partial(self._jobs.ended, body["job"], body))

    def _read(self, envelope: Envelope) -> None:
        """One letter; whatever it does ends its sender's session and nobody else's."""
        try:
            self._control.handle(envelope)
        except Exception:
            log.exception("a message could not be handled; its sender is forgotten")
            self._sessions.forget(envelope.sender)

    def _store_due(self) -> None:
        """Stores what has happened, in order and for a moment; what cannot be is tried again."""
        end = time.monotonic() + STORING
        while self._due and self._store_again < time.monotonic() < end:
            try:
                self._due[0]()
            except (OSError, sqlite3.Error):  # a full disk, above all
                log.exception("%d events of jobs wait to be stored", len(self._due))
                self._store_again = time.monotonic() + STORE_AGAIN
                return
            except Exception:
                log.exception("an event of a job is lost")
            self._due.popleft()

    def _sweep(self) -> None:
        """Tidies up, and finds jobs that would wait for ever."""
        if not self._due:  # else the end of a job may still wait to be stored
            self._jobs.reconcile({worker.job for worker in self._pool.workers})
        self._jobs.expire()
        self._sessions.forget_idle()

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
                raise SettingError(
                    f"{address.endpoint()} can be reached from other computers and there are no "
                    "keys yet; run `crowdgaussian keys new NAME` first, or bind to 127.0.0.1."
                )
            ZapAuthenticator(self._context, keys).start()
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
        with suppress(CrowdGaussianError):  # hashes of program and models, for the first job
            result_key("", preset("open"), self.settings.pipeline)
        results = Folders(self.settings.data).results
        while not self._stopping.wait(1.0):
            try:
                results.sweep()
            except OSError as error:
                log.error("old files cannot be removed now: %s", error.strerror)
