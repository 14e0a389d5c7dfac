# SPDX-License-Identifier: Apache-2.0
"""One job as its client sees it: submitted, sent, followed, mirrored, until its last file is here.

A JobTask does no input or output on the network itself: it says what to ask and takes answers.
"""

import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeVar

from ..errors import CrowdGaussianError
from ..protocol import Message
from ..protocol import messages as m
from ..scene.folder import SCENE_FILE
from .mirror import Mirror
from .ticket import Ticket, save_ticket
from .transfer import Download, PhotoUpload
from .updates import JobUpdate, SceneUpdate, Update

_T = TypeVar("_T")

STATUS_EVERY = 5.0  # seconds, while a job waits in the queue
TELL_EVERY = 0.25  # seconds between updates about bytes
SAVE_EVERY = 1.0  # seconds between two tickets
TRIES = 3  # of what should work at once
EDITS_SINCE = 1  # minor version of the protocol; older servers ignore what they do not know


class RequestSender(Protocol):
    """What a task needs from its session."""

    welcome: m.Welcome | None

    def ask(self, make: Callable[[int], Message], answer: Callable[[Message], None]) -> None:
        """Sends a request over the control socket; its answer, if it comes, goes to `answer`."""

    def tell(self, update: Update) -> None:
        """Hands an update to the client's owner."""


class JobTask:
    """One job.

    Args:
        folder: the scene folder.
        ticket: of the job.
        sender: the session.
    """

    def __init__(self, folder: Path, ticket: Ticket, sender: RequestSender) -> None:
        self.folder = folder
        self.ticket = ticket
        self.finished = False
        self._sender = sender
        self._mirror = Mirror(folder, ticket.last_seq)
        self._upload: PhotoUpload | None = None
        self._job: m.Job | None = None  # as the server told it last
        self._busy = ""
        self._reopen_at: float | None = None
        self._cancelling = False
        self._opening = False  # the answer to SUBMIT or ATTACH has not come yet
        self._seen = 0  # the newest event
        self._replay_until = 0  # events up to here are only listed, the state is known already
        self._replayed: dict[str, m.Artifact] = {}
        self._tries = 0
        self._renewals = 0
        self._status_at = self._tell_at = self._save_at = 0.0

    @property
    def job(self) -> str:
        return self.ticket.job

    def open(self) -> None:
        """Says SUBMIT or ATTACH: after connecting, after a pause, or to begin again."""
        self._reopen_at = None
        self._upload = None
        t = self.ticket
        if t.edit and self._sender.welcome is not None and self._sender.welcome.minor < EDITS_SINCE:
            self.fail("This server is too old to correct people; update CrowdGaussian there.")
            return
        self._opening = True
        if t.submitted:
            self._sender.ask(lambda n: m.Attach(n, t.job, self._mirror.settled), self._on_attached)
        else:
            self._sender.ask(
                lambda n: m.Submit(
                    n,
                    t.job,
                    t.photo_name,
                    t.photo_bytes,
                    t.photo_blake2b,
                    t.preset,
                    t.settings,
                    t.edit,
                ),
                self._on_submitted,
            )

    def resubmit(self) -> None:
        """A job that failed or was cancelled is to go on, or a new one to start."""
        self.ticket = replace(self.ticket, submitted=False)

    def cancel(self) -> None:
        """Stops the job on the server, or here when it was never sent."""
        self._cancelling = True
        if self.ticket.submitted or self._opening:
            self._sender.ask(lambda n: m.Cancel(n, self.job), self._on_info)
        else:
            self._end("cancelled", "")

    def next_data(self) -> tuple[Callable[[int], Message], tuple[bytes, ...], object] | None:
        """The next message for the data socket, its payloads, and a token for on_data."""
        upload = self._upload
        if upload is not None:
            piece = upload.next_piece()
            if piece is None:
                return None
            return lambda n: m.Upload(n, self.job, piece[0]), (piece[1],), upload
        found = self._guard(self._mirror.next_request)
        self._note_scene()
        if found is None:
            return None
        download, offset = found
        artifact = download.artifact
        return (
            lambda n: m.Fetch(n, self.job, artifact.name, offset, artifact.blake2b),
            (),
            download,
        )

    def on_data(
        self, token: object, answer: Message, payloads: tuple[bytes, ...], last: bool
    ) -> None:
        """An answer from the data socket; `last`: this task waits for no other one."""
        if isinstance(token, Download):
            self._on_chunk(token, answer, payloads)
        elif token is self._upload:
            self._on_uploaded(answer, last)
        self._check_end()

    def data_lost(self) -> None:
        """The data connection broke."""
        self._mirror.rewind()
        if self._upload is not None:
            self.open()

    def on_event(self, event: m.Event) -> None:
        """The server reports a step."""
        if self._opening or event.seq <= self._seen:
            return
        if event.seq != self._seen + 1:
            self.open()
            return
        self._seen = event.seq
        if event.seq <= self._replay_until:
            self._replayed.update({a.name: a for a in event.artifacts})
            self._end_replay()
        else:
            job = self._job or m.Job(self.job, event.state)
            self._job = replace(
                job,
                state=event.state,
                progress=event.progress,
                error=event.error,
                last_seq=event.seq,
            )
            self._guard(lambda: self._mirror.announce(event.seq, event.artifacts))
        if self._job is not None and self._job.state != "uploading":
            self._upload = None
        self.report()
        self._check_end()

    def tick(self, now: float) -> None:
        """Whatever is due."""
        if self._reopen_at is not None and now >= self._reopen_at:
            self.open()
        if self._job is not None and self._job.state == "queued" and now >= self._status_at:
            self._status_at = now + STATUS_EVERY
            self._sender.ask(lambda n: m.Status(n, self.job), self._on_info)
        if now >= self._save_at and self.ticket.last_seq != self._mirror.settled:
            self._save_at = now + SAVE_EVERY
            self.save()

    def save(self) -> None:
        """Writes the ticket when it has changed."""
        state = self._job.state if self._job else self.ticket.state
        ticket = replace(self.ticket, last_seq=self._mirror.settled, state=state)
        if ticket != self.ticket:
            self.ticket = ticket
            self._guard(lambda: save_ticket(self.folder, ticket))

    def close(self) -> None:
        """Lets go of the folder; a later task can go on."""
        self.save()
        self._mirror.close()

    def report(self, error: str = "") -> None:
        """Tells how the job stands."""
        job = self._job or m.Job(self.job, "uploading")
        state = "busy" if self._busy else (job.state if self._job else "submitting")
        sent = 0.0 if job.state == "uploading" and self._upload is None else 1.0
        self._sender.tell(
            JobUpdate(
                job=self.job,
                folder=self.folder,
                state=state,
                progress=job.progress,
                position=job.position if job.state == "queued" else 0,
                error=error or job.error or self._busy,
                sent=self._upload.share if self._upload else sent,
                files_missing=self._mirror.pending,
                bytes_missing=self._mirror.pending_bytes,
                finished=self.finished,
            )
        )

    def fail(self, sentence: str) -> None:
        """Gives the job up on this side."""
        self.finished = True
        self.report(sentence)

    def _on_submitted(self, answer: Message) -> None:
        if isinstance(answer, m.Busy):
            self._opening = False
            self._busy = answer.reason
            self._reopen_at = time.monotonic() + answer.retry_after * random.uniform(0.7, 1.3)
            self.report()
        elif isinstance(answer, m.JobInfo):
            self._busy = ""
            self._job = answer.job
            self.ticket = replace(self.ticket, submitted=True)
            self._guard(lambda: save_ticket(self.folder, self.ticket))
            self.open()
        else:
            self._refused(answer)

    def _on_attached(self, answer: Message) -> None:
        self._opening = False
        if isinstance(answer, m.JobInfo):
            self._job = answer.job
            self._seen = self._mirror.settled
            self._replay_until = answer.job.last_seq
            self._replayed = {}
            if self._cancelling and answer.job.state not in m.ENDED:
                self.cancel()
            elif answer.job.state == "uploading":
                job = answer.job
                self._guard(lambda: self._start_upload(job))
            self._end_replay()
            self.report()
            self._check_end()
        elif isinstance(answer, m.Error) and answer.code == "state" and self._mirror.settled:
            self._mirror.settled = 0
            self.open()
        elif isinstance(answer, m.Error) and answer.code == "unknown-job":
            self._on_unknown(answer)
        else:
            self._refused(answer)

    def _on_unknown(self, answer: m.Error) -> None:
        """The server has forgotten the job: the result may be here, else it is submitted anew."""
        if self.ticket.state == "done" and self._mirror.whole():
            self._end("done", "")
            return
        self._tries += 1
        if self._tries >= TRIES or not Path(self.ticket.photo).is_file():
            self._refused(answer)
            return
        self._mirror.settled = 0
        self.resubmit()
        self.open()

    def _on_info(self, answer: Message) -> None:
        if isinstance(answer, m.JobInfo) and self._job is not None:
            self._job = answer.job
            self.report()
            self._check_end()

    def _refused(self, answer: Message) -> None:
        if isinstance(answer, m.Error):
            self.fail(answer.message)

    def _start_upload(self, job: m.Job) -> None:
        self._upload = PhotoUpload(self.ticket, job.received)

    def _on_chunk(self, download: Download, answer: Message, payloads: tuple[bytes, ...]) -> None:
        if isinstance(answer, m.Chunk) and answer.artifact == download.artifact.name:
            self._guard(
                lambda: self._mirror.add_chunk(download, answer.offset, answer.size, payloads[0])
            )
            self._note_scene()
            now = time.monotonic()
            if now >= self._tell_at:
                self._tell_at = now + TELL_EVERY
                self.report()
        elif isinstance(answer, m.Error) and answer.code == "unknown-artifact":
            self._mirror.gone(download)
        elif isinstance(answer, m.Error) and answer.code == "unknown-job":
            self.open()
        else:
            self._refused(answer)

    def _on_uploaded(self, answer: Message, last: bool) -> None:
        if isinstance(answer, m.Uploaded) and self._upload is not None:
            self._upload.confirm(answer.received, last)
            self.report()
        elif isinstance(answer, m.Error) and answer.code in ("photo", "state", "unknown-job"):
            self._tries += 1
            if self._tries >= TRIES:
                self._refused(answer)
            else:
                self.open()
        else:
            self._refused(answer)

    def _end_replay(self) -> None:
        """All older events are known: their files are announced at once, in their newest form."""
        if self._seen < self._replay_until or not self._replayed:
            return
        scene = self._replayed.pop(SCENE_FILE, None)
        artifacts = [*self._replayed.values(), *([scene] if scene else [])]
        self._replayed = {}
        self._guard(lambda: self._mirror.announce(self._seen, artifacts))

    def _note_scene(self) -> None:
        if self._mirror.renewals != self._renewals:
            self._renewals = self._mirror.renewals
            self._sender.tell(SceneUpdate(self.job, self.folder))

    def _check_end(self) -> None:
        """Whether the job has ended and everything is here."""
        job = self._job
        if self.finished or job is None or job.state not in m.ENDED:
            return
        if self._seen < max(job.last_seq, self._replay_until) or self._mirror.pending:
            return
        if job.state != "done" or self._mirror.whole():
            self._mirror.tidy()
            self._end(job.state, job.error)
            return
        self._tries += 1
        if self._tries >= TRIES:
            self.fail("The server did not send the whole result; submit the photo again.")
        else:
            self._mirror.settled = 0
            self.open()

    def _end(self, state: m.JobState, error: str) -> None:
        self._job = replace(self._job or m.Job(self.job, state), state=state, error=error)
        self.finished = True
        self.report()

    def _guard(self, action: Callable[[], _T]) -> _T | None:
        """Runs something that touches the disk; a failure ends this job only."""
        try:
            return action()
        except CrowdGaussianError as error:
            self.fail(str(error))
            return None
