# SPDX-License-Identifier: Apache-2.0
"""The data socket in a thread of its own: photos in, artefacts out, one answer per request.

Nothing is queued for a client but what libzmq holds (SEND_LIMIT chunks) and at most CREDIT
requests; their chunks are read from disk only when there is room to send them.
"""

import json
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Sequence

import zmq
from crowdgaussian_shared.errors import CrowdGaussianError, MissingFileError
from crowdgaussian_shared.protocol import ProtocolError, decode, encode
from crowdgaussian_shared.protocol import messages as m

from .results import Folders, OpenFiles, PhotoRefusedError, Uploads
from .settings import KeyFolder, ServiceSettings
from .sockets import Envelope, Inbox, request_of
from .store import KEYED, JobRow, Store

log = logging.getLogger(__name__)
NEWS = "inproc://photos"  # to the broker: what has arrived
STOP = "inproc://data-stop"
SEND_LIMIT = m.CREDIT  # chunks that libzmq holds for a slow reader; they are mapped, not copied
LONGEST_WAIT = 0.05  # seconds between two tries to reach a slow reader
TIDY = 2.0  # seconds between two looks for files that nobody reads any more
BURST = 32  # requests read before slow readers are tried again


class DataServer(threading.Thread):
    """Serves UPLOAD and FETCH."""

    def __init__(
        self,
        context: zmq.Context,
        socket: zmq.Socket,
        settings: ServiceSettings,
        keys: KeyFolder | None,
        room: int,
    ) -> None:
        """room: connections that the socket may have."""
        super().__init__(daemon=True)
        self._socket = socket
        self._inbox = Inbox(socket, keys is not None, room)
        self._settings = settings
        self._keys = keys
        self._folders = Folders(settings.data)
        self._uploads = Uploads(self._folders, settings.limits)
        self._waiting: dict[bytes, deque[m.Message]] = {}  # by connection
        self._tidied = 0.0
        self._news = context.socket(zmq.PUSH)
        self._news.setsockopt(zmq.LINGER, 0)
        self._news.connect(NEWS)
        self._halt = context.socket(zmq.PULL)
        self._halt.bind(STOP)

    def run(self) -> None:
        self._store = Store(self._folders.database)
        self._files = OpenFiles(self._store, self._folders.results)
        self._check_old_photos()
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._halt, zmq.POLLIN)
        poller.register(self._inbox.connections.monitor, zmq.POLLIN)
        pause = LONGEST_WAIT
        while self._halt not in dict(poller.poll(int(1000 * (pause if self._waiting else TIDY)))):
            self._read()
            self._tidy()
            pause = 0.001 if self._try_waiting() else min(2 * pause, LONGEST_WAIT)
        self.close()
        self._store.close()

    def close(self) -> None:
        """Ends all connections; for the thread itself, or where it was never started."""
        self._inbox.connections.close()
        for socket in (self._news, self._halt):
            socket.close()

    def _tidy(self) -> None:
        self._inbox.connections.tidy()
        if time.monotonic() - self._tidied > TIDY:
            self._tidied = time.monotonic()
            self._files.forget_old()

    def _check_old_photos(self) -> None:
        """Photos that became whole just before the last stop."""
        for row in self._store.in_state("uploading"):
            try:
                self._check_photo(row, self._folders.received(row.job))
            except CrowdGaussianError as error:
                log.warning("job %s: %s", row.job, error)

    def _read(self) -> None:
        for _ in range(BURST):
            envelope = self._inbox.next()
            if envelope is None:
                return
            answer = self._answer(envelope)
            queue = self._waiting.setdefault(envelope.sender, deque())
            if len(queue) < 2 * m.CREDIT:  # who asks on without reading gets no more answers
                queue.append(answer)
            self._serve(envelope.sender, queue)

    def _try_waiting(self) -> bool:
        """Sends what slow readers have room for -> whether anything went out."""
        return sum(self._serve(sender, queue) for sender, queue in list(self._waiting.items())) > 0

    def _serve(self, sender: bytes, queue: deque[m.Message]) -> bool:
        sent = False
        while queue:
            try:
                self._socket.send(sender, zmq.SNDMORE | zmq.NOBLOCK)
            except zmq.Again:
                return sent
            except zmq.ZMQError as error:
                if error.errno != zmq.EHOSTUNREACH:
                    raise
                break
            frames = self._frames(queue.popleft())
            self._socket.send_multipart(frames, zmq.NOBLOCK, copy=False)
            sent = True
        del self._waiting[sender]
        return sent

    def _frames(self, answer: m.Message) -> Sequence[bytes | memoryview]:
        """The answer itself, or the chunk that a waiting FETCH asks for."""
        if not isinstance(answer, m.Fetch):
            return encode(answer)
        try:
            return self._chunk(answer)
        except (CrowdGaussianError, OSError, sqlite3.Error):
            return encode(m.Error(answer.request, "unknown-artifact", _NO_ARTIFACT))

    def _chunk(self, fetch: m.Fetch) -> Sequence[bytes | memoryview]:
        file = self._files.find(fetch)
        if file is None or fetch.offset > file.size:
            raise MissingFileError(_NO_ARTIFACT)
        data = file.chunk(fetch.offset, self._settings.limits.chunk_bytes)
        chunk = m.Chunk(fetch.request, fetch.job, fetch.artifact, fetch.offset, file.size)
        return encode(chunk, (data,))

    def _answer(self, envelope: Envelope) -> m.Message:
        """What to send back; a FETCH stands for the chunk it asks for."""
        try:
            message, payloads = decode(envelope.frames)
        except ProtocolError as error:
            return m.Error(request_of(envelope.frames), error.code, str(error)[:500])
        try:
            return self._answer_to(message, payloads, envelope.key)
        except Exception:
            log.exception("%s failed", type(message).__name__)
            return m.Error(message.request, "internal", INTERNAL)

    def _answer_to(self, message: m.Message, payloads: tuple[bytes, ...], key: str) -> m.Message:
        if isinstance(message, m.Ping):
            return m.Pong(message.request)
        if not isinstance(message, m.Upload | m.Fetch):
            return m.Error(message.request, "message", "This goes over the control socket.")
        owner = None
        if self._keys is not None:
            name = self._keys.name_of(key)
            if name is None:
                return m.Error(message.request, "denied", REVOKED)
            owner = KEYED + name
        if isinstance(message, m.Fetch):
            return self._fetch(message, owner)
        row = self._store.get(message.job)
        if row is None or owner not in (None, row.owner):
            return m.Error(message.request, "unknown-job", UNKNOWN_JOB)
        return self._upload(row, message, *payloads)

    def _fetch(self, fetch: m.Fetch, owner: str | None) -> m.Message:
        try:
            file = self._files.find(fetch)
        except OSError:
            return m.Error(fetch.request, "unknown-artifact", _NO_ARTIFACT)
        if file is not None and owner in (None, file.owner):
            return fetch
        row = None if file is not None else self._store.get(fetch.job)
        if row is None or owner not in (None, row.owner):
            return m.Error(fetch.request, "unknown-job", UNKNOWN_JOB)
        return m.Error(fetch.request, "unknown-artifact", _NO_ARTIFACT)

    def _upload(self, row: JobRow, piece: m.Upload, data: bytes) -> m.Message:
        if row.state != "uploading":
            if row.ended and row.state != "done":
                return m.Error(piece.request, "state", f"The job is {row.state}; submit it again.")
            return m.Uploaded(piece.request, row.job, row.photo_bytes)
        try:
            before = self._folders.received(row.job)
            received = self._uploads.add(row, piece, data)
            if before != received:
                self._check_photo(row, received)
            return m.Uploaded(piece.request, row.job, received)
        except CrowdGaussianError as error:
            return m.Error(piece.request, "photo", str(error))
        except OSError as error:
            log.error("a photo cannot be stored: %s", error.strerror)
            return m.Error(piece.request, "internal", INTERNAL)

    def _check_photo(self, row: JobRow, received: int) -> None:
        """Once the photo is whole, checks it and tells the broker."""
        if received != row.photo_bytes:
            return
        started = time.perf_counter()
        try:
            self._uploads.check(row)
        except PhotoRefusedError as error:
            self._tell(row.job, str(error))
            raise
        log.info(
            "job %s: photo of %d bytes is here, checked in %.0f ms",
            row.job,
            received,
            1000 * (time.perf_counter() - started),
        )
        self._tell(row.job, "")

    def _tell(self, job: str, refused: str) -> None:
        self._news.send(json.dumps([job, refused]).encode())


INTERNAL = "The server could not do this, its disk may be full; its log says more, try again later."
UNKNOWN_JOB = "The server knows no such job; it may have been deleted, submit the photo again."
REVOKED = "This computer's key was revoked; ask for a new pairing line and paste it."
_NO_ARTIFACT = "The job has no such file now; a newer one may have been announced."
