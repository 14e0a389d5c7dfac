# SPDX-License-Identifier: Apache-2.0
"""The control socket: its connections, and what it answers.

Events are never queued: each connection has the number of the last event it was sent, and the rest
is read from the store as fast as it reads.
"""

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import zmq
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.protocol import PROTOCOL_MINOR, Message, ProtocolError, decode
from crowdgaussian_shared.protocol import messages as m
from crowdgaussian_shared.protocol.messages import Device, Limits, Model, Preset, Welcome
from crowdgaussian_shared.scene.schema import ModelProvenance

from .. import __version__
from ..pipeline.config import PRESETS, preset
from ..pipeline.stages import files_for, networks_of
from ..weights.catalogue import Source
from ..weights.hub import Downloads, bytes_here
from ..weights.local import absent
from .data import INTERNAL, REVOKED, UNKNOWN_JOB
from .jobs import Jobs
from .settings import KeyFolder
from .sockets import Envelope, request_of, send
from .store import KEYED, LOCAL, JobRow, Store
from .submit import RefusedError, again, new_row, result_key
from .workers import WorkerPool, describe_device

IDLE_SECONDS = 60.0  # without a word, then a connection is forgotten
MAX_SESSIONS = 1024
MAX_FOLLOWED = 64  # jobs of one connection
MAX_ANSWERS = 64  # that wait for one slow reader; then the connection is forgotten
BURST = 64  # events sent to one connection before others have their turn
PUMPING = 0.02  # seconds for which events are sent before the loop looks at what came in


@dataclass
class Session:
    """One connection that has said HELLO."""

    owner: str
    key: str  # public CURVE key, empty without
    seen: float
    followed: dict[str, int] = field(default_factory=dict)  # last event sent, by job
    answers: deque[Message] = field(default_factory=deque)


class Sessions:
    """All connections of the control socket."""

    def __init__(self, socket: zmq.Socket, store: Store, keys: KeyFolder | None) -> None:
        self._keys = keys
        self._socket = socket
        self._store = store
        self._sessions: dict[bytes, Session] = {}
        self._behind: dict[bytes, None] = {}  # those with something left to send, in turn

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def behind(self) -> bool:
        """Whether somebody is to be sent something."""
        return bool(self._behind)

    def welcome(self, sender: bytes, owner: str, key: str) -> None:
        """A connection has said who it is."""
        if len(self._sessions) >= MAX_SESSIONS and sender not in self._sessions:
            self.forget(min(self._sessions, key=lambda s: self._sessions[s].seen))
        self._sessions[sender] = Session(owner, key, time.monotonic())

    def find(self, sender: bytes) -> Session | None:
        """The session of a connection, which has just been heard of."""
        session = self._sessions.get(sender)
        if session is not None:
            session.seen = time.monotonic()
        return session

    def forget(self, sender: bytes) -> None:
        """Drops a connection."""
        self._sessions.pop(sender, None)
        self._behind.pop(sender, None)

    def follow(self, session: Session, job: str, last_seq: int) -> None:
        """Sends the events after last_seq, and new ones as they come."""
        session.followed.pop(job, None)
        while len(session.followed) >= MAX_FOLLOWED:
            session.followed.pop(next(iter(session.followed)))
        session.followed[job] = last_seq
        self.news(job)

    def news(self, job: str) -> None:
        """A job has a new event."""
        for sender, session in self._sessions.items():
            if job in session.followed:
                self._behind[sender] = None

    def answer(self, sender: bytes, message: Message) -> None:
        """Sends an answer, or keeps it until there is room."""
        session = self._sessions.get(sender)
        if session is None:
            send(self._socket, sender, message)
        elif session.answers or not send(self._socket, sender, message):
            session.answers.append(message)
            self._behind[sender] = None
            if len(session.answers) > MAX_ANSWERS:
                self.forget(sender)

    def pump(self) -> bool:
        """Sends what there is room and time for -> whether anything went out."""
        sent, end = False, time.monotonic() + PUMPING
        for sender in list(self._behind):
            if sent and time.monotonic() > end:
                return True
            del self._behind[sender]
            if self._revoked(self._sessions[sender]):
                self.forget(sender)
                continue
            count, left = self._pump_one(sender, self._sessions[sender])
            sent |= count > 0
            if left:
                self._behind[sender] = None  # behind the others
        return sent

    def forget_idle(self) -> None:
        """Drops connections that have not been heard of."""
        oldest = time.monotonic() - IDLE_SECONDS
        for sender in [s for s, session in self._sessions.items() if session.seen < oldest]:
            self.forget(sender)

    def _revoked(self, session: Session) -> bool:
        return self._keys is not None and self._keys.name_of(session.key) is None

    def _pump_one(self, sender: bytes, session: Session) -> tuple[int, bool]:
        """(messages sent, whether more is left)."""
        sent = 0
        while session.answers:
            if not send(self._socket, sender, session.answers[0]):
                return sent, True
            session.answers.popleft()
            sent += 1
        for job, last in session.followed.items():
            for event in self._store.events(job, last, BURST):
                if sent >= BURST or not send(self._socket, sender, event):
                    return sent, True
                session.followed[job] = event.seq
                sent += 1
        return sent, sent >= BURST


# What the server says about itself in WELCOME

FREE = "Free to use, also commercially."
NOT_COMMERCIAL = "Not for commercial use: {}."


@dataclass
class Greeting:
    """The parts of WELCOME that stay the same while the service runs, but for downloads."""

    data_port: int
    limits: Limits
    presets: tuple[Preset, ...]

    def welcome(self, request: int, device: Device | None) -> Welcome:
        """The answer to a HELLO; the CPU is named until a worker has said what it has."""
        if device is None or device.kind == "cpu":
            here = describe_device(look_for_gpu=False)
            device = here if device is None else replace(device, memory_free=here.memory_free)
        return Welcome(
            request,
            f"crowdgaussian {__version__}",
            self.data_port,
            device,
            self.limits,
            self.presets,
            PROTOCOL_MINOR,
        )

    def look_again(self) -> None:
        """New models may have come; takes seconds for large ones."""
        self.presets = offered_presets()
        for name in (p.name for p in self.presets if p.available):
            result_key("", preset(name), "")  # remembers the hashes that a job's key wants


def offered_presets() -> tuple[Preset, ...]:
    """Every preset, also those that this server cannot run, and why not."""
    return tuple(_preset(name) for name in PRESETS)


def _preset(name: str) -> Preset:
    try:
        found = [file.provenance() for file in files_for(preset(name))]
    except CrowdGaussianError as error:
        lacking = absent(networks_of(preset(name)))
        size = sum(one.expected_bytes for one in lacking if one.source is not Source.MANUAL)
        return Preset(name, False, False, licence="", missing=str(error), download=size)
    closed = sorted({model.licence for model in found if not model.commercial})
    return Preset(
        name,
        available=True,
        commercial=not closed,
        licence=NOT_COMMERCIAL.format(", ".join(closed)) if closed else FREE,
        models=tuple(_model(model) for model in found),
    )


def _model(model: ModelProvenance) -> Model:
    return Model(model.name, model.version, model.blake2b, model.licence, model.commercial)


log = logging.getLogger(__name__)
SAY_HELLO = "The server does not know this connection; say HELLO first."


class Control:
    """Turns each message of a client into its answer."""

    def __init__(
        self,
        jobs: Jobs,
        pool: WorkerPool,
        sessions: Sessions,
        greeting: Greeting,
        keys: KeyFolder | None,
    ) -> None:
        self._jobs = jobs
        self._pool = pool
        self._sessions = sessions
        self._greeting = greeting
        self._keys = keys
        self._handlers: dict[type[Message], Callable[[Session, Any], Message]] = {
            m.Submit: self._submit,
            m.Status: self._status,
            m.Attach: self._attach,
            m.Cancel: self._cancel,
            m.List: self._list,
            m.Delete: self._delete,
            m.Download: self._download,
        }
        self._downloads = Downloads(greeting.look_again)

    def close(self) -> None:
        """Stops downloads."""
        self._downloads.close()

    def handle(self, envelope: Envelope) -> None:
        """Answers one message."""
        try:
            message, _ = decode(envelope.frames)
        except ProtocolError as error:
            refusal = m.Error(request_of(envelope.frames), error.code, str(error)[:500])
            self._sessions.answer(envelope.sender, refusal)
            return
        answer: Message
        try:
            answer = self._answer(envelope, message)
        except RefusedError as error:
            answer = m.Error(message.request, error.code, str(error)[:500])
        except Exception:
            log.exception("%s failed", type(message).__name__)
            answer = m.Error(message.request, "internal", INTERNAL)
        self._sessions.answer(envelope.sender, answer)
        if isinstance(message, m.Attach) and isinstance(answer, m.JobInfo):
            session = self._sessions.find(envelope.sender)
            if session is not None:
                self._sessions.follow(session, message.job, message.last_seq)

    def _answer(self, envelope: Envelope, message: Message) -> Message:
        name = None
        if self._keys is not None:
            name = self._keys.name_of(envelope.key)
            if name is None:
                self._sessions.forget(envelope.sender)
                raise RefusedError("denied", REVOKED)
        if isinstance(message, m.Hello):
            owner = LOCAL + message.client_id if name is None else KEYED + name
            self._sessions.welcome(envelope.sender, owner, envelope.key)
            log.info("hello from %s", owner)
            return self._greeting.welcome(message.request, self._pool.device)
        session = self._sessions.find(envelope.sender)
        if session is None:
            raise RefusedError("hello", SAY_HELLO)
        if isinstance(message, m.Ping):
            return m.Pong(message.request)
        handler = self._handlers.get(type(message))
        if handler is None:
            data = isinstance(message, m.Upload | m.Fetch)
            raise RefusedError(
                "message", "This goes over the data socket." if data else "Only a server says this."
            )
        return handler(session, message)

    def _submit(self, session: Session, message: m.Submit) -> Message:
        jobs = self._jobs
        row = new_row(message, session.owner, jobs.settings)
        old = jobs.store.get(message.job)
        if old is not None:
            row = again(self._own(session, message.job), row)
            if row.state not in ("failed", "cancelled"):
                return m.JobInfo(message.request, jobs.describe(row))
        reason = "" if jobs.at_hand(row) else jobs.busy(session.owner)
        if reason:
            return m.Busy(message.request, f"{reason} Try again later.", jobs.retry_after())
        row = jobs.accept(row)
        log.info("job %s: submitted by %s, %d bytes", row.job, row.owner, row.photo_bytes)
        return m.JobInfo(message.request, jobs.describe(row))

    def _status(self, session: Session, message: m.Status) -> Message:
        row = self._own(session, message.job)
        return m.JobInfo(message.request, self._jobs.describe(row))

    def _attach(self, session: Session, message: m.Attach) -> Message:
        row = self._own(session, message.job)
        if message.last_seq > row.last_seq:
            raise RefusedError(
                "state", f"The job has had {row.last_seq} events only; attach with last_seq 0."
            )
        return m.JobInfo(message.request, self._jobs.describe(row))

    def _cancel(self, session: Session, message: m.Cancel) -> Message:
        row = self._own(session, message.job)
        if row.state == "running" and self._pool.of_job(row.job) is not None:
            self._pool.cancel(row.job)
        elif not row.ended:
            self._jobs.end(row, "cancelled", "")
        return m.JobInfo(message.request, self._jobs.describe(self._own(session, message.job)))

    def _list(self, session: Session, message: m.List) -> Message:
        rows = self._jobs.store.of_owner(session.owner)
        return m.Jobs(message.request, tuple(self._jobs.describe(row) for row in rows))

    def _delete(self, session: Session, message: m.Delete) -> Message:
        row = self._own(session, message.job)
        if not row.ended:
            raise RefusedError("state", f"The job is {row.state}; cancel it first.")
        self._jobs.delete(row)
        return m.Done(message.request)

    def _download(self, _session: Session, message: m.Download) -> Message:
        """Anybody who may send jobs may have the models that a preset wants, and no others."""
        if message.preset not in PRESETS:
            raise RefusedError("message", f"There is no preset '{message.preset}'.")
        offered = {preset.name: preset for preset in self._greeting.presets}[message.preset]
        if message.start and not offered.available:
            log.info("fetching what the preset %s lacks", message.preset)
            self._downloads.start(message.preset)
        state, error = self._downloads.state(message.preset)
        entries = networks_of(preset(message.preset))
        here = sum(bytes_here(entry) for entry in entries)
        size = sum(entry.expected_bytes for entry in entries)
        return m.DownloadInfo(message.request, offered, state, here, size, error[:500])

    def _own(self, session: Session, job: str) -> JobRow:
        """A job that this connection may touch.

        Without keys everybody is on this computer and whoever knows a job's id may.
        """
        row = self._jobs.store.get(job)
        if row is None or (self._keys is not None and row.owner != session.owner):
            raise RefusedError("unknown-job", UNKNOWN_JOB)
        return row
