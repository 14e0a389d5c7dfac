# SPDX-License-Identifier: Apache-2.0
"""The client that the add-on, the command line and scripts use; docs/protocol.md, "Clients".

client = Client(Server.parse("tcp://127.0.0.1:5555"), "my script 1.0")
client.start()                                   # a thread that owns the sockets
job = client.submit(JobRequest(Path("photo.jpg"), Path("out")))
while True:
    for update in client.poll():                 # never waits
        ...
"""

import logging
import queue
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from ..errors import InputError
from .job import JobTask
from .server import Server
from .session import Session
from .ticket import JobRequest, open_ticket, read_ticket
from .updates import ServerUpdate, Update

log = logging.getLogger(__name__)
LONGEST_TURN = 0.25  # seconds
LONGEST_REST = 5.0  # seconds that held() waits for a turn, which may be writing a large file
LOW = ("failed", "cancelled")


class Client:
    """A client of one server.

    Every method returns at once; what comes of it arrives in `updates`. Connecting, coming back
    after a break and going on with files that are half here happen by themselves. Closing a
    client does not stop its jobs.

    Args:
        server: where to connect; Server.parse reads what a user types.
        name: of the program and its version, for the server's log.
        client_id: a UUID that stays the same, by which the server counts and lists jobs on
            connections without keys; see client_server.stable_client_id. Empty: a new one.

    Attributes:
        updates: what happened; see client_updates.
    """

    def __init__(self, server: Server, name: str, client_id: str = "") -> None:
        self.server = server
        self.updates: queue.SimpleQueue[Update] = queue.SimpleQueue()
        self._orders: queue.SimpleQueue[Callable[[Session], None]] = queue.SimpleQueue()
        self._wake, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        self._wake.setblocking(False)
        self._identity = (name[:200], client_id or str(uuid.uuid4()))
        self._session: Session | None = None
        self._thread: threading.Thread | None = None
        self._closing = False

    def start(self) -> None:
        """Starts the network thread. Without it, call pump() instead."""
        self._thread = threading.Thread(target=self._run, name="crowdgaussian-client", daemon=True)
        self._thread.start()

    def pump(self, seconds: float = LONGEST_TURN) -> None:
        """One round of network work in the calling thread, waiting at most so long."""
        if self._session is None:
            self._session = Session(self.server, *self._identity, self.updates.put)
        while not self._orders.empty():
            self._orders.get()(self._session)
        self._session.turn(seconds, self._woken.fileno())
        self._drain()

    def poll(self) -> list[Update]:
        """Everything that has happened since the last call; does not wait."""
        found = []
        while True:
            try:
                found.append(self.updates.get_nowait())
            except queue.Empty:
                return found

    def submit(self, request: JobRequest) -> str:
        """Starts a job -> its id.

        A folder that holds the same job, unfinished or finished, goes on where it was; a job that
        failed or was cancelled is taken up again.

        Raises:
            CrowdGaussianError: the photo cannot be read, or the folder holds something else.
        """
        ticket = open_ticket(request, str(self.server))
        folder = Path(request.folder)

        def start(session: Session) -> None:
            if ticket.job in session.tasks:
                return
            task = JobTask(folder, ticket, session)
            if ticket.state in LOW:
                task.resubmit()
            session.add(task)

        self._order(start)
        return ticket.job

    def attach(self, folder: str | Path) -> str:
        """Goes on with the job whose ticket lies in a folder -> its id.

        Raises:
            InputError: there is no ticket.
        """
        folder = Path(folder)
        ticket = read_ticket(folder)
        if ticket is None:
            raise InputError(f"{folder} holds no job of a server; submit the photo again.")

        def start(session: Session) -> None:
            if ticket.job not in session.tasks:
                session.add(JobTask(folder, ticket, session))

        self._order(start)
        return ticket.job

    def cancel(self, job: str) -> None:
        """Stops a job on the server; people that are finished stay."""
        self._order(lambda session: session.cancel(job))

    def detach(self, job: str) -> None:
        """Stops following a job; the server goes on with it."""
        self._order(lambda session: session.drop(job))

    def delete(self, job: str) -> None:
        """Removes a job that has ended from the server -> Deleted or RequestFailed."""
        self._order(lambda session: session.delete(job))

    def list_jobs(self) -> None:
        """Asks for all jobs of this client -> JobList."""
        self._order(lambda session: session.list_jobs())

    def download(self, preset: str, start: bool = False) -> None:
        """Asks how the server's download of a preset's models goes -> DownloadUpdate.

        Args:
            preset: as the server's Welcome names it.
            start: begin, if it does not run already.
        """
        self._order(lambda session: session.download(preset, start))

    def retry_now(self) -> None:
        """Tries to connect at once instead of at the end of the pause."""
        self._order(lambda session: session.retry_now())

    def close(self) -> None:
        """Ends the connections and the thread; tickets are saved, jobs go on without us."""
        self._closing = True
        self._ring()
        if self._thread is not None:
            self._thread.join(5.0)
        elif self._session is not None:
            self._session.close()
        self._wake.close()
        self._woken.close()

    @contextmanager
    def held(self) -> Iterator[None]:
        """The network thread rests while the block runs: no Python runs in it.

        For programs that crash beside another thread, as Blender 4.5 does in some operators. Waits
        for the turn that the thread is in, but not longer than LONGEST_REST. Not to be nested.
        """
        resting, over = threading.Event(), threading.Lock()

        def rest(_: Session) -> None:
            resting.set()
            over.acquire()

        with over:
            if self._thread is not None and self._thread.is_alive():
                self._order(rest)
                resting.wait(LONGEST_REST)
            yield

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        try:
            while not self._closing:
                self.pump()
        except Exception as error:
            log.exception("the client's network thread ended")
            self.updates.put(
                ServerUpdate(
                    "lost",
                    "lost",
                    f"The client met an unexpected {type(error).__name__}; connect again.",
                )
            )
        finally:
            if self._session is not None:
                self._session.close()

    def _order(self, order: Callable[[Session], None]) -> None:
        self._orders.put(order)
        self._ring()

    def _ring(self) -> None:
        try:
            self._wake.send(b"x")
        except BlockingIOError:
            return  # it is ringing already

    def _drain(self) -> None:
        try:
            while self._woken.recv(4096):
                pass
        except BlockingIOError:
            return
