# SPDX-License-Identifier: Apache-2.0
"""Connections to the control socket: who they are, what they follow, what waits for them.

Events are never queued: each connection has the number of the last event it was sent, and the rest
is read from the store as fast as it reads.
"""

import time
from collections import deque
from dataclasses import dataclass, field

import zmq
from crowdgaussian_shared.protocol import Message

from .keys import KeyFolder
from .sockets import send
from .store import Store

IDLE_SECONDS = 60.0  # without a word, then a connection is forgotten
MAX_SESSIONS = 1024
MAX_FOLLOWED = 64  # jobs of one connection
MAX_ANSWERS = 64  # that wait for one slow reader; then the connection is forgotten
BURST = 64  # events sent to one connection before others have their turn


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
        self._behind: set[bytes] = set()  # connections with something left to send

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
        self._behind.discard(sender)

    def follow(self, session: Session, job: str, last_seq: int) -> None:
        """Sends the events after last_seq, and new ones as they come."""
        session.followed.pop(job, None)
        while len(session.followed) >= MAX_FOLLOWED:
            session.followed.pop(next(iter(session.followed)))
        session.followed[job] = last_seq
        self.news(job)

    def news(self, job: str) -> None:
        """A job has a new event."""
        self._behind |= {s for s, session in self._sessions.items() if job in session.followed}

    def answer(self, sender: bytes, message: Message) -> None:
        """Sends an answer, or keeps it until there is room."""
        session = self._sessions.get(sender)
        if session is None:
            send(self._socket, sender, message)
        elif session.answers or not send(self._socket, sender, message):
            session.answers.append(message)
            self._behind.add(sender)
            if len(session.answers) > MAX_ANSWERS:
                self.forget(sender)

    def pump(self) -> bool:
        """Sends what there is room for -> whether anything went out."""
        sent = False
        for sender in list(self._behind):
            if self._revoked(self._sessions[sender]):
                self.forget(sender)
                continue
            count, left = self._pump_one(sender, self._sessions[sender])
            sent |= count > 0
            if not left:
                self._behind.discard(sender)
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
