# SPDX-License-Identifier: Apache-2.0
"""The service's sockets: one set of limits for both, and who is at the other end."""

import json
import logging
import socket as tcp
import sys
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import zmq
from crowdgaussian_shared.errors import CrowdGaussianError, ResourceError
from crowdgaussian_shared.protocol import Message, encode
from crowdgaussian_shared.protocol.wire import HEADER_LIMIT, MESSAGE_LIMIT
from zmq.utils import z85
from zmq.utils.monitor import recv_monitor_message

from .settings import Address, KeyFolder

ZAP_DOMAIN = b"crowdgaussian"
HANDSHAKE_MS = HEARTBEAT_MS = 10_000
FRAMES = 9  # of one message, at most; wire.py refuses what is cut off here
DRAINED = 20_000  # frames of a longer message that are thrown away in one go, in about 10 ms
USER = "User-Id"
T = TypeVar("T")


@dataclass(frozen=True)
class Envelope:
    """One message as it came in."""

    sender: bytes  # the connection
    key: str  # the sender's public key as Z85, empty without CURVE
    frames: list[bytes]


def open_router(
    context: zmq.Context, address: Address, keys: KeyFolder | None, send_limit: int, thread: int
) -> tuple[zmq.Socket, int]:
    """A bound ROUTER and its port.

    Args:
        context: with at least two I/O threads.
        address: to bind.
        keys: makes the socket a CURVE server; None for none.
        send_limit: messages that wait for one slow reader.
        thread: the I/O thread that serves it, so that control never waits behind data.

    Raises:
        ResourceError: the address is taken or not this computer's.
    """
    socket = context.socket(zmq.ROUTER)
    options = (
        (zmq.ROUTER_MANDATORY, 1),
        (zmq.MAXMSGSIZE, MESSAGE_LIMIT),
        (zmq.RCVHWM, 16),
        (zmq.SNDHWM, send_limit),
        (zmq.LINGER, 0),
        (zmq.HANDSHAKE_IVL, HANDSHAKE_MS),
        (zmq.HEARTBEAT_IVL, HEARTBEAT_MS),  # so that connections of computers that are gone end
        (zmq.HEARTBEAT_TIMEOUT, 3 * HEARTBEAT_MS),
        (zmq.AFFINITY, 1 << thread),
        (zmq.IPV6, int(":" in address.host)),
    )
    for option, value in options:
        socket.setsockopt(option, value)
    if keys is not None:
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, keys.server_secret())
        socket.setsockopt(zmq.ZAP_DOMAIN, ZAP_DOMAIN)
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)  # nobody gets in when nobody answers
    try:
        socket.bind(address.endpoint())
    except zmq.ZMQError as error:
        socket.close()
        raise ResourceError(
            f"{address.endpoint()} cannot be bound ({error.strerror}); choose another --bind or "
            "--data-port."
        ) from error
    return socket, int(socket.getsockopt_string(zmq.LAST_ENDPOINT).rsplit(":", 1)[1])


# Connections are bounded: whoever only takes up room makes room

log = logging.getLogger(__name__)
PLACES = 1024  # connections of one socket, as many as control.py keeps sessions
OWN_FILES = 192  # of the service itself: 64 mapped artefacts; 37 at rest with 8 workers
SILENT = 120.0  # seconds; a reader so slow that it just counts as alive asks again within 80
MUTE = 4  # one place of so many is for those that have yet to speak, as newcomers have
ONE_KEY = 4  # and so is the share that the connections of one key get; a client needs one
LOOK = 10.0  # seconds between two looks for silent connections


def room_for_connections() -> int:
    """Connections that each of the two sockets may have, by the files that may be open.

    The limit of this process is raised first, as far as the system lets everybody raise it.
    """
    if sys.platform == "win32":
        return PLACES
    import resource

    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * PLACES + OWN_FILES
    if most != resource.RLIM_INFINITY:
        wanted = min(wanted, most)
    if resource.RLIM_INFINITY != files < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
    room = (wanted - min(OWN_FILES, wanted // 2)) // 2
    if room < PLACES:
        log.warning("%d files may be open: up to %d clients; see `ulimit -n`", wanted, room)
    return room


@dataclass
class Connection:
    """One TCP connection as its descriptor shows it."""

    peer: tuple  # address and port, which no other connection has at the same time
    heard: float  # when it last said something, or came
    key: str = ""  # public CURVE key, known once it spoke
    spoke: bool = False

    @property
    def owner(self) -> str:
        """Whose it is: the key's, or everybody's at that address."""
        return self.key or self.peer[0]


class Connections:
    """Who is connected to a ROUTER, from its monitor.

    libzmq has no call that ends one of many connections, so its descriptor is shut down, once it is
    sure that it is that connection's still; libzmq then takes it for one that the client ended.
    """

    def __init__(self, socket: zmq.Socket, room: int) -> None:
        self._socket, self._room = socket, room
        self._open: dict[int, Connection] = {}  # by descriptor
        self._ended: dict[int, tuple] = {}  # peers of those that were shut, until libzmq says so
        self._look_at = 0.0
        self._port = int(socket.getsockopt_string(zmq.LAST_ENDPOINT).rsplit(":", 1)[1])
        name = f"inproc://connections-{id(socket)}"
        socket.monitor(name, zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)
        self.monitor = socket.context.socket(zmq.PAIR)
        self.monitor.setsockopt(zmq.RCVHWM, 0)  # else a slow loop would hold up libzmq's thread
        self.monitor.connect(name)

    def heard(self, frame: zmq.Frame, key: str) -> None:
        """Somebody with this key, empty without CURVE, has sent this frame."""
        with suppress(zmq.ZMQError):  # it has no descriptor
            descriptor = int(frame.get(zmq.SRCFD))
            if descriptor not in self._open:  # read before the monitor's word of it
                self._join(descriptor)
            connection = self._open.get(descriptor)
            if connection is not None:
                connection.heard = time.monotonic()
                if not connection.spoke:
                    connection.spoke, connection.key = True, key
                    self._bound(key)

    def tidy(self) -> None:
        """Closes who is silent, and then who is too much."""
        while self.monitor.poll(0):
            event = recv_monitor_message(self.monitor)
            if event["event"] == zmq.EVENT_ACCEPTED:
                self._join(event["value"])
            else:
                self._open.pop(event["value"], None)
                self._ended.pop(event["value"], None)
        now, closed = time.monotonic(), 0
        if now >= self._look_at:
            self._look_at = now + LOOK
            for descriptor in [d for d, c in self._open.items() if c.heard < now - SILENT]:
                self._shut(descriptor)
        for descriptor in self._surplus():
            self._shut(descriptor)
            closed += 1
        if closed:
            log.warning("%d connections made room for newer ones", closed)

    def close(self) -> None:
        """Ends the socket with all connections."""
        self._socket.disable_monitor()
        self.monitor.close(0)
        self._socket.close()

    def _bound(self, key: str) -> None:
        """Closes the connection of a key that is silent longest when it has more than its share."""
        own = [d for d, connection in self._open.items() if key and connection.key == key]
        if len(own) > max(1, self._room // ONE_KEY):
            log.warning("a key with %d connections loses one", len(own))
            self._shut(min(own, key=lambda d: self._open[d].heard))

    def _surplus(self) -> list[int]:
        """Who makes room: of many that never spoke the oldest, else whoever is silent longest.

        In either case of those who have the most of these connections. All at once, as a flood of
        connections must not cost the loop more than they cost who makes them.
        """
        too_many = len(self._open) - self._room
        if too_many <= 0:
            return []
        by_owner: tuple[dict[str, deque[int]], ...] = (defaultdict(deque), defaultdict(deque))
        for descriptor, one in sorted(self._open.items(), key=lambda item: item[1].heard):
            by_owner[one.spoke][one.owner].append(descriptor)
        found = []
        for _ in range(too_many):
            mute, spoke = (sum(map(len, owners.values())) for owners in by_owner)
            among = by_owner[not (mute > max(1, self._room // MUTE) or not spoke)]
            found.append(max(among.values(), key=len).popleft())
        return found

    def _join(self, descriptor: int) -> None:
        peer, known = self._peer(descriptor), self._open.get(descriptor)
        if peer is None or peer == self._ended.get(descriptor):
            return  # what was said before the end may be read after it
        if known is None or known.peer != peer:
            self._open[descriptor] = Connection(peer, time.monotonic())

    def _shut(self, descriptor: int) -> None:
        connection = self._open.pop(descriptor)
        if self._peer(descriptor) == connection.peer:
            self._ended[descriptor] = connection.peer
            self._with(descriptor, lambda one: one.shutdown(tcp.SHUT_RDWR))

    def _peer(self, descriptor: int) -> tuple | None:
        """Who is at the other end; None when it is no connection of this socket any more."""
        return self._with(
            descriptor,
            lambda one: one.getpeername() if one.getsockname()[1] == self._port else None,
        )

    @staticmethod
    def _with(descriptor: int, use: Callable[[tcp.socket], T]) -> T | None:
        """What is to be done with a descriptor that stays libzmq's; None when it is gone."""
        try:
            one = tcp.socket(fileno=descriptor)
        except OSError:
            return None
        try:
            return use(one)
        except (OSError, IndexError):  # the latter: it is no TCP any more
            return None
        finally:
            one.detach()


class Inbox:
    """What comes in over a ROUTER, message by message and with a bounded effort each time.

    A message of millions of frames holds up whoever shares the socket until it is thrown away, but
    never the loop that reads.
    """

    def __init__(self, socket: zmq.Socket, secure: bool, room: int = PLACES) -> None:
        """secure: whether the socket is a CURVE server; room: connections that it may have."""
        self._socket, self._secure = socket, secure
        self.connections = Connections(socket, room)
        self._cut: Envelope | None = None  # a message of which frames are still to be thrown away

    def next(self) -> Envelope | None:
        """The next message, cut to FRAMES; None when there is none now, or not a whole one yet."""
        if self._cut is not None:
            return self._drain()
        while True:
            try:
                first = self._socket.recv(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return None
            key = _key_of(first) if self._secure else ""
            self.connections.heard(first, key or "")
            frames: list[bytes] = []
            last = first
            while last.more and len(frames) < FRAMES:
                last = self._socket.recv(zmq.NOBLOCK, copy=False)
                frames.append(last.bytes)
            if key is None:  # from before it was known who may connect
                log.warning("a message of nobody was dropped")
            envelope = Envelope(first.bytes, key or "", frames)
            if last.more:
                self._cut = envelope
                return self._drain()
            if key is not None:
                return envelope

    def _drain(self) -> Envelope | None:
        """Throws frames away -> the message without them, once all are gone."""
        for _ in range(DRAINED):
            if not self._socket.recv(zmq.NOBLOCK, copy=False).more:
                envelope, self._cut = self._cut, None
                return envelope
        return None


def _key_of(frame: zmq.Frame) -> str | None:
    """The public key of a message's sender; None where nobody was asked for it."""
    try:
        return str(frame.get(USER))
    except zmq.ZMQError:
        return None


def send(socket: zmq.Socket, to: bytes, message: Message) -> bool:
    """Sends without waiting -> False when the receiver's pipe is full.

    A receiver that is gone counts as reached: there is nobody to wait for.
    """
    try:
        socket.send_multipart([to, *encode(message)], zmq.NOBLOCK)
    except zmq.Again:
        return False
    except zmq.ZMQError as error:
        if error.errno != zmq.EHOSTUNREACH:
            raise
    return True


def request_of(frames: list[bytes]) -> int:
    """The request number of a message that could not be understood otherwise; 0 if it has none."""
    if len(frames) < 4 or len(frames[3]) > HEADER_LIMIT:
        return 0
    try:
        number = json.loads(frames[3])["request"]
    except (ValueError, RecursionError, TypeError, KeyError):
        return 0
    return number if type(number) is int and 0 <= number <= 2**53 else 0


# Who may connect: ZeroMQ's authentication protocol (RFC 27), answered from the list of keys

ENDPOINT = "inproc://zeromq.zap.01"
_VERSION = b"1.0"


class ZapAuthenticator(threading.Thread):
    """Answers libzmq's questions until its context is terminated; bind before other sockets."""

    def __init__(self, context: zmq.Context, keys: KeyFolder) -> None:
        super().__init__(daemon=True)
        self._keys = keys
        self._socket = context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(ENDPOINT)

    def run(self) -> None:
        while True:
            try:
                frames = self._socket.recv_multipart()
                self._socket.send_multipart(self._safe_answer(frames))
            except zmq.ContextTerminated:
                self._socket.close()
                return

    def _safe_answer(self, frames: list[bytes]) -> list[bytes]:
        """An answer whatever happens: without one libzmq would wait, or let everybody in."""
        try:
            return self._answer(frames)
        except Exception:
            log.exception("a client could not be judged and was refused")
            at = frames.index(b"") if b"" in frames else len(frames)
            request = frames[at + 2 : at + 3] or [b""]
            return [*frames[: at + 1], _VERSION, *request, b"500", b"Try again later.", b"", b""]

    def _answer(self, frames: list[bytes]) -> list[bytes]:
        at = frames.index(b"")  # the envelope ends here
        version, request, domain, _address, _identity, mechanism, *secret = frames[at + 1 :]
        head = [*frames[: at + 1], _VERSION, request]
        right = version == _VERSION and domain == ZAP_DOMAIN and mechanism == b"CURVE"
        public = z85.encode(secret[0]).decode() if right and len(secret) == 1 else ""
        try:
            name = self._keys.name_of(public)
        except CrowdGaussianError as error:
            log.error("%s", error)
            return [*head, b"500", b"The list of keys cannot be read.", b"", b""]
        if name is None:
            log.warning("a client with an unknown key was refused")
            return [*head, b"400", b"This key is not on the list.", b"", b""]
        return [*head, b"200", b"OK", public.encode(), b""]
