# SPDX-License-Identifier: Apache-2.0
"""What the control socket answers."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.protocol import PROTOCOL_MINOR, Message, ProtocolError, decode
from crowdgaussian_shared.protocol import messages as m
from crowdgaussian_shared.protocol.messages import Device, Limits, Model, Preset, Welcome
from crowdgaussian_shared.scene.schema import ModelProvenance

from .. import __version__
from ..pipeline.config import PRESETS
from ..pipeline.stages import files_for
from .data import INTERNAL, REVOKED, UNKNOWN_JOB
from .jobs import Jobs
from .keys import KeyFolder
from .sessions import Session, Sessions
from .sockets import Envelope, request_of
from .store import JobRow
from .submit import RefusedError, again, new_row
from .workers import WorkerPool, describe_device

# What the server says about itself in WELCOME

FREE = "Free to use, also commercially."
NOT_COMMERCIAL = "Not for commercial use: {}."


@dataclass(frozen=True)
class Greeting:
    """The parts of WELCOME that stay the same while the service runs."""

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


def offered_presets() -> tuple[Preset, ...]:
    """Every preset, also those that this server cannot run, and why not."""
    return tuple(_preset(name) for name in PRESETS)


def _preset(name: str) -> Preset:
    try:
        found = [file.provenance() for file in files_for(PRESETS[name])]
    except CrowdGaussianError as error:
        return Preset(name, available=False, commercial=False, licence="", missing=str(error))
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
        }

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
            owner = f"local:{message.client_id}" if name is None else f"key:{name}"
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
        reason = "" if jobs.cached(row.key) else jobs.busy(session.owner)
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

    def _own(self, session: Session, job: str) -> JobRow:
        """A job that this connection may touch.

        Without keys everybody is on this computer and whoever knows a job's id may.
        """
        row = self._jobs.store.get(job)
        if row is None or (self._keys is not None and row.owner != session.owner):
            raise RefusedError("unknown-job", UNKNOWN_JOB)
        return row
