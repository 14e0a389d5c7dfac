# SPDX-License-Identifier: Apache-2.0
"""The data socket of a client: photos out, files in, never more than CREDIT answers outstanding."""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count

import zmq

from ..protocol import messages as m
from .job import JobTask
from .link import Failure, Link
from .server import Server

SILENCE = 10.0  # seconds without any answer to what was asked
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 32.0  # seconds before the next attempt


@dataclass
class Backoff:
    """Growing pauses with jitter, so that many clients do not come back at the same moment."""

    pause: float = 0.0

    def next(self) -> float:
        """Seconds to wait now."""
        self.pause = min(LONGEST_PAUSE, max(FIRST_PAUSE, 2 * self.pause))
        return self.pause * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        self.pause = 0.0


@dataclass
class DataChannel:
    """One connection to the data port, made when there is something to carry.

    Attributes:
        link: the connection, None without one.
        failure: why the last attempt failed, for the session to report once.
    """

    context: zmq.Context[zmq.Socket[bytes]]
    server: Server
    link: Link | None = None
    failure: Failure | None = None
    _port: int = 0
    _waiting: dict[int, tuple[JobTask, object]] = field(default_factory=dict)  # by request
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))
    _heard: float = 0.0
    _retry_at: float = 0.0
    _backoff: Backoff = field(default_factory=Backoff)

    def use_port(self, port: int) -> None:
        """WELCOME named the data port."""
        if self._port != port:
            self.close()
        self._port = port
        self._retry_at = 0.0

    def turn(self, tasks: Iterable[JobTask], now: float) -> None:
        """Takes the answers that have come and asks for more."""
        tasks = list(tasks)
        if self.link is not None:
            self.link.watch()
            self._read(self.link, now)
            self.link.flush()
        self._fill(tasks, now)
        link, silent = self.link, bool(self._waiting) and now > self._heard + SILENCE
        if link is not None and silent and link.failure is None:
            link.fail(
                "silent",
                f"{self.server.endpoint(self._port)} stopped answering; check the network.",
            )
        if link is not None and link.failure is not None:
            self._lost(link.failure, tasks, now)

    def close(self) -> None:
        """Ends the connection."""
        if self.link is not None:
            self.link.close()
        self.link = None
        self._waiting.clear()

    def _read(self, link: Link, now: float) -> None:
        for message, payloads in link.receive():
            self._heard = now
            self._backoff.reset()
            task, token = self._waiting.pop(message.request, (None, None))
            if task is not None and not task.finished:
                last = not any(other is task for other, _ in self._waiting.values())
                task.on_data(token, message, payloads, last)

    def _fill(self, tasks: list[JobTask], now: float) -> None:
        """Takes turns between the jobs until the credit is used up."""
        unfinished = [task for task in tasks if not task.finished]
        while unfinished and len(self._waiting) < m.CREDIT and now >= self._retry_at:
            task = unfinished.pop(0)
            found = task.next_data()
            if found is None or task.finished:
                continue
            make, payloads, token = found
            if self.link is None:
                self.link = Link(self.context, self.server, self._port)
            if not self._waiting:
                self._heard = now
            number = next(self._numbers)
            self._waiting[number] = (task, token)
            self.link.send(make(number), payloads)
            unfinished.append(task)

    def _lost(self, failure: Failure, tasks: list[JobTask], now: float) -> None:
        self.failure = failure
        self.close()
        self._retry_at = now + self._backoff.next()
        for task in tasks:
            if not task.finished:
                task.data_lost()
