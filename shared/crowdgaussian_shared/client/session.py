# SPDX-License-Identifier: Apache-2.0
"""The connection of a client: HELLO, heartbeats, coming back after a break, and all its jobs.

A Session belongs to one thread, which calls turn() again and again.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

import zmq

from ..protocol import Message
from ..protocol import messages as m
from .data import LONGEST_PAUSE, Backoff, DataChannel
from .job import JobTask
from .link import Failure, Link
from .server import Server
from .updates import Deleted, DownloadUpdate, JobList, RequestFailed, ServerUpdate, Update

PING_EVERY = 2.0  # seconds
MISSES = 5  # heartbeats without any answer, then the connection is dead
PERMANENT_FAILURES = (
    "key",
    "denied",
    "pairing",
    "version",
    "foreign",
)  # reasons that waiting does not mend
BURST = 64  # messages handled before other work has its turn


@dataclass(frozen=True)
class _Asked:
    message: Message
    answer: Callable[[Message], None]
    keep: bool  # ask again after a break


class Session:
    """Speaks to one server.

    Args:
        server: where it is.
        client: name and version of the program.
        client_id: the same whenever this client connects.
        tell: takes updates.
    """

    def __init__(
        self, server: Server, client: str, client_id: str, tell: Callable[[Update], None]
    ) -> None:
        self.tasks: dict[str, JobTask] = {}
        self.welcome: m.Welcome | None = None  # while connected
        self.tell = tell
        self._server = server
        self._who = (client, client_id)
        self._context = zmq.Context()
        self._data = DataChannel(self._context, server)
        self._link: Link | None = None
        self._numbers = count(1)
        self._asked: dict[int, _Asked] = {}
        self._retry_at = 0.0
        self._backoff = Backoff()
        self._heard = self._ping_at = 0.0

    def add(self, task: JobTask) -> None:
        """Takes a job on."""
        self.tasks[task.job] = task
        task.report()
        if self.welcome is not None:
            task.open()

    def drop(self, job: str) -> None:
        """Lets a job go; the server goes on with it."""
        task = self.tasks.pop(job, None)
        if task is not None:
            task.close()

    def ask(
        self, make: Callable[[int], Message], answer: Callable[[Message], None], keep: bool = False
    ) -> None:
        """Sends a request; with `keep` it is sent again after a break, until it is answered."""
        if self.welcome is None and not keep:
            return
        number = next(self._numbers)
        self._asked[number] = asked = _Asked(make(number), answer, keep)
        if self._link is not None and self.welcome is not None:
            self._link.send(asked.message)

    def cancel(self, job: str) -> None:
        """Stops a job on the server."""
        if job in self.tasks:
            self.tasks[job].cancel()
        else:
            self._order(m.Cancel, job)

    def delete(self, job: str) -> None:
        """Removes a job that has ended from the server."""
        self._order(m.Delete, job)

    def list_jobs(self) -> None:
        """Asks for all jobs of this client."""
        self._order(m.List)

    def download(self, preset: str, start: bool) -> None:
        """Has the server fetch what a preset lacks, or asks how that goes."""
        self.ask(
            lambda number: m.Download(number, preset, start),
            lambda answer: self._ordered(m.Download, (), answer),
        )

    def retry_now(self) -> None:
        """Ends the pause before the next attempt to connect."""
        self._retry_at = 0.0

    def turn(self, seconds: float, wake: int | None = None) -> None:
        """One round: waits at most so long for something to come, then does what is due.

        Args:
            seconds: longest wait.
            wake: a file descriptor that ends the wait when it can be read.
        """
        self._wait(seconds, wake)
        now = time.monotonic()
        if self._link is None and now >= self._retry_at:
            self._connect(now)
        if self._link is not None:
            self._control(self._link, now)
        if self.welcome is not None:
            for task in list(self.tasks.values()):
                task.tick(now)
            self._data.turn(self.tasks.values(), now)
            self._report_data()
        for task in [t for t in self.tasks.values() if t.finished]:
            self.drop(task.job)

    def close(self) -> None:
        """Ends the connections; jobs go on without this client."""
        for job in list(self.tasks):
            self.drop(job)
        self._data.close()
        if self._link is not None:
            self._link.close()
        self._context.term()

    def _wait(self, seconds: float, wake: int | None) -> None:
        poller = zmq.Poller()
        for link in (self._link, self._data.link):
            if link is not None:
                poller.register(link.socket, zmq.POLLIN)
                poller.register(link.monitor, zmq.POLLIN)
        if wake is not None:
            poller.register(wake, zmq.POLLIN)
        poller.poll(int(max(0.0, seconds) * 1000))

    def _connect(self, now: float) -> None:
        self.tell(ServerUpdate("connecting"))
        self._link = link = Link(self._context, self._server, self._server.port)
        self._heard = now
        link.send(m.Hello(next(self._numbers), *self._who))

    def _control(self, link: Link, now: float) -> None:
        link.watch()
        for taken, (message, _) in enumerate(link.receive()):
            self._heard = now
            self._take(link, message)
            if taken >= BURST:
                break
        if not link.up:
            self._heard = now
        elif now > self._heard + MISSES * PING_EVERY:
            link.fail(
                "silent",
                f"{self._server} does not answer any more; check the network and the server.",
            )
        elif self.welcome is not None and now >= self._ping_at:
            self._ping_at = now + PING_EVERY
            link.send(m.Ping(next(self._numbers)))
        link.flush()
        if link.failure is not None:
            self._lost(link, link.failure, now)

    def _take(self, link: Link, message: Message) -> None:
        if isinstance(message, m.Event):
            if message.job in self.tasks:
                self.tasks[message.job].on_event(message)
            return
        if isinstance(message, m.Welcome):
            self._enter(link, message)
            return
        if isinstance(message, m.Error) and message.code == "hello":
            link.fail("lost", f"{self._server} was restarted; connecting again.")
            return
        if isinstance(message, m.Error) and message.code in ("denied", "version"):
            link.fail(message.code, message.message)
            return
        asked = self._asked.pop(message.request, None)
        if asked is not None:
            asked.answer(message)
        elif isinstance(message, m.Error) and self.welcome is None:
            link.fail("foreign", message.message)

    def _enter(self, link: Link, welcome: m.Welcome) -> None:
        self.welcome = welcome
        self._backoff.reset()
        self._data.use_port(self._server.data_port or welcome.data_port)
        self.tell(ServerUpdate("connected", welcome=welcome))
        for asked in self._asked.values():
            link.send(asked.message)
        for task in list(self.tasks.values()):
            task.open()

    def _lost(self, link: Link, failure: Failure, now: float) -> None:
        link.close()
        self._link, self.welcome = None, None
        self._data.close()
        for task in self.tasks.values():
            task.data_lost()
        self._asked = {number: asked for number, asked in self._asked.items() if asked.keep}
        pause = LONGEST_PAUSE if failure.reason in PERMANENT_FAILURES else self._backoff.next()
        self._retry_at = now + pause
        self.tell(ServerUpdate("lost", failure.reason, failure.message, pause))

    def _report_data(self) -> None:
        """A data port that cannot be reached is worth a word; a single break is not."""
        failure, self._data.failure = self._data.failure, None
        if failure is not None and failure.reason != "lost":
            self.tell(
                ServerUpdate("connected", failure.reason, failure.message, welcome=self.welcome)
            )

    def _order(self, kind: type, *job: str) -> None:
        """A request of the user's, which is kept until it is answered."""
        self.ask(
            lambda number: kind(number, *job),
            lambda answer: self._ordered(kind, job, answer),
            keep=True,
        )

    def _ordered(self, kind: type, job: tuple[str, ...], answer: Message) -> None:
        if isinstance(answer, m.Error):
            self.tell(
                RequestFailed(kind.__name__.upper(), "".join(job), answer.code, answer.message)
            )
        elif isinstance(answer, m.Jobs):
            self.tell(JobList(answer.jobs))
        elif isinstance(answer, m.DownloadInfo):
            self.tell(DownloadUpdate(answer))
        elif isinstance(answer, m.Done):
            self.tell(Deleted(*job))
