# SPDX-License-Identifier: Apache-2.0
"""The service's sockets: one set of limits for both, and who is at the other end."""

import json
from dataclasses import dataclass

import zmq
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.protocol import Message, encode
from crowdgaussian_shared.protocol.wire import HEADER_LIMIT, MESSAGE_LIMIT

from .keys import KeyFolder
from .settings import Address

ZAP_DOMAIN = b"crowdgaussian"
HANDSHAKE_MS = 10_000
FRAMES = 9  # of one message, at most; wire.py refuses what is cut off here
USER = "User-Id"


@dataclass(frozen=True)
class Letter:
    """One message as it came in."""

    sender: bytes  # the connection
    key: str  # the sender's public key as Z85, empty without CURVE
    frames: list[bytes]


def open_router(context: zmq.Context, address: Address, keys: KeyFolder | None,
                send_limit: int, thread: int) -> tuple[zmq.Socket, int]:
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
    options = ((zmq.ROUTER_MANDATORY, 1), (zmq.MAXMSGSIZE, MESSAGE_LIMIT), (zmq.RCVHWM, 16),
               (zmq.SNDHWM, send_limit), (zmq.LINGER, 0), (zmq.HANDSHAKE_IVL, HANDSHAKE_MS),
               (zmq.AFFINITY, 1 << thread), (zmq.IPV6, int(":" in address.host)))
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


def receive(socket: zmq.Socket, secure: bool) -> Letter | None:
    """The next message, or None when there is none now."""
    try:
        sender, *frames = socket.recv_multipart(zmq.NOBLOCK, copy=not secure)
    except zmq.Again:
        return None
    frames = frames[:FRAMES]
    if not secure:
        return Letter(sender, "", frames)
    return Letter(sender.bytes, sender.get(USER), [frame.bytes for frame in frames])


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
