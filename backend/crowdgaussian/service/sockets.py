# SPDX-License-Identifier: Apache-2.0
"""The service's sockets: one set of limits for both, and who is at the other end."""

import json
import logging
import threading
from dataclasses import dataclass

import zmq
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.protocol import Message, encode
from crowdgaussian_shared.protocol.wire import HEADER_LIMIT, MESSAGE_LIMIT
from zmq.utils import z85

from .keys import KeyFolder
from .settings import Address

ZAP_DOMAIN = b"crowdgaussian"
HANDSHAKE_MS = 10_000
FRAMES = 9  # of one message, at most; wire.py refuses what is cut off here
USER = "User-Id"


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
        CrowdGaussianError: the address is taken or not this computer's.
    """
    socket = context.socket(zmq.ROUTER)
    options = (
        (zmq.ROUTER_MANDATORY, 1),
        (zmq.MAXMSGSIZE, MESSAGE_LIMIT),
        (zmq.RCVHWM, 16),
        (zmq.SNDHWM, send_limit),
        (zmq.LINGER, 0),
        (zmq.HANDSHAKE_IVL, HANDSHAKE_MS),
        (zmq.AFFINITY, 1 << thread),
        (zmq.IPV6, int(":" in address.host)),
    )
    for option, value in options:
        socket.setsockopt(option, value)
    if keys is not None:
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, keys.server_secret())
        socket.setsockopt(zmq.ZAP_DOMAIN, ZAP_DOMAIN)
    try:
        socket.bind(address.endpoint())
    except zmq.ZMQError as error:
        socket.close()
        raise CrowdGaussianError(
            f"{address.endpoint()} cannot be bound ({error.strerror}); choose another --bind or "
            "--data-port."
        ) from error
    return socket, int(socket.getsockopt_string(zmq.LAST_ENDPOINT).rsplit(":", 1)[1])


def receive(socket: zmq.Socket, secure: bool) -> Envelope | None:
    """The next message, or None when there is none now."""
    try:
        if not secure:
            sender, *frames = socket.recv_multipart(zmq.NOBLOCK)
            return Envelope(sender, "", frames[:FRAMES])
        first, *rest = socket.recv_multipart(zmq.NOBLOCK, copy=False)
    except zmq.Again:
        return None
    return Envelope(first.bytes, str(first.get(USER)), [frame.bytes for frame in rest[:FRAMES]])


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

log = logging.getLogger(__name__)
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
                self._socket.send_multipart(self._answer(frames))
            except zmq.ContextTerminated:
                self._socket.close()
                return

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
