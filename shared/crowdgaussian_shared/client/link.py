# SPDX-License-Identifier: Apache-2.0
"""One ZeroMQ connection to a server, which says why it failed.

The socket does not reconnect by itself: the session makes a new one, so that nothing meant for
the old connection arrives on the next.
"""

import errno
import socket
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import zmq
from zmq.utils.monitor import parse_monitor_message

from ..protocol import PROTOCOL_MAJOR, PROTOCOL_MINOR, Message, ProtocolError, decode, encode
from ..protocol.wire import MESSAGE_LIMIT
from .server import Server
from .updates import Reason

# Asking a port what it speaks, after a handshake that failed without saying why

_OPENING = b"\xff" + bytes(8) + b"\x7f\x03\x00"  # RFC 23, ZMTP 3.0: signature and version
_GREETING_BYTES = 64
PROBE_SECONDS = 1.0


def zmtp_mechanism(host: str, port: int) -> str:
    """NULL or CURVE, as the greeting of a ZeroMQ socket says; empty for anything else."""
    try:
        with socket.create_connection((host, port), PROBE_SECONDS) as connection:
            connection.sendall(_OPENING)  # naming no mechanism, which it might refuse
            data = b""
            while len(data) < _GREETING_BYTES:
                piece = connection.recv(_GREETING_BYTES - len(data))
                if not piece:
                    return ""
                data += piece
    except OSError:
        return ""
    if data[:1] != b"\xff" or data[9:10] != b"\x7f" or data[10] < 3:
        return ""
    return data[12:32].rstrip(b"\0").decode("ascii", "replace")


HIGH_WATER = 16  # messages in each direction
CONNECT_SECONDS = 5.0  # for the connection and again for the handshake
_OUR_VERSION = bytes((PROTOCOL_MAJOR, PROTOCOL_MINOR))
_UNEXPLAINED = (zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)


@dataclass(frozen=True)
class Failure:
    """Why there is no connection."""

    reason: Reason
    message: str  # one sentence: what is wrong and what to do


class Link:
    """A DEALER socket on one of the server's ports.

    Args:
        context: of the session.
        server: whom to connect to.
        port: the control or the data port.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], server: Server, port: int) -> None:
        self.up = False  # the handshake succeeded
        self.failure: Failure | None = None
        self._server = server
        self._port = port
        self._endpoint = server.endpoint(port)
        self._deadline = time.monotonic() + 2 * CONNECT_SECONDS
        self._connected = False
        self._outbox: deque[list[bytes | memoryview]] = deque()
        self.socket = context.socket(zmq.DEALER)
        self._set_options()
        self.monitor = self.socket.get_monitor_socket(
            zmq.EVENT_CONNECTED
            | zmq.EVENT_CLOSED
            | zmq.EVENT_DISCONNECTED
            | zmq.EVENT_HANDSHAKE_SUCCEEDED
            | zmq.EVENT_HANDSHAKE_FAILED_AUTH
            | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
            | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
        )
        try:
            self.socket.connect(self._endpoint)
        except zmq.ZMQError as error:
            self.fail(
                "unreachable",
                f"{self._endpoint} cannot be reached ({error.strerror}); check the address.",
            )

    def send(self, message: Message, payloads: tuple[bytes, ...] = ()) -> None:
        """Sends a message, now or as soon as there is room."""
        self._outbox.append(encode(message, payloads))
        self.flush()

    def flush(self) -> None:
        """Sends what could not be sent before."""
        while self._outbox and self.up and self.failure is None:
            try:
                self.socket.send_multipart(self._outbox[0], zmq.NOBLOCK)
            except zmq.Again:
                return
            self._outbox.popleft()

    def receive(self) -> Iterator[tuple[Message, tuple[bytes, ...]]]:
        """What has arrived; frames that are no message end the connection."""
        while self.failure is None:
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                yield decode(frames)
            except ProtocolError as error:
                if error.code == "message" and frames[1:2] > [_OUR_VERSION]:
                    continue  # a message that a later minor version has and this one does not
                reason: Reason = "version" if error.code == "version" else "foreign"
                self.fail(reason, str(error))

    def watch(self) -> None:
        """Reads the socket monitor, and notices when nobody answers."""
        while self.monitor.poll(0):
            event = parse_monitor_message(self.monitor.recv_multipart())
            self._note(event["event"], event["value"])
        if not self.up and time.monotonic() > self._deadline:
            self.fail(*self._silence())

    def fail(self, reason: Reason, message: str) -> None:
        """Gives the connection up; the first reason stays."""
        if self.failure is None:
            self.failure = Failure(reason, message)

    def close(self) -> None:
        """Ends the connection."""
        self.socket.disable_monitor()
        self.monitor.close(0)
        self.socket.close(0)

    def _set_options(self) -> None:
        options = {
            zmq.LINGER: 0,
            zmq.SNDHWM: HIGH_WATER,
            zmq.RCVHWM: HIGH_WATER,
            zmq.IPV6: int(self._server.host.startswith("[")),
            zmq.MAXMSGSIZE: MESSAGE_LIMIT,
            zmq.RECONNECT_IVL: -1,
            zmq.CONNECT_TIMEOUT: int(CONNECT_SECONDS * 1000),
            zmq.HANDSHAKE_IVL: int(CONNECT_SECONDS * 1000),
        }
        for option, value in options.items():
            self.socket.setsockopt(option, value)
        pairing = self._server.pairing
        if pairing is not None:
            self.socket.setsockopt(zmq.CURVE_SERVERKEY, pairing.server_public)
            self.socket.setsockopt(zmq.CURVE_PUBLICKEY, pairing.client_public)
            self.socket.setsockopt(zmq.CURVE_SECRETKEY, pairing.client_secret)

    def _note(self, event: int, value: int) -> None:
        if event == zmq.EVENT_CONNECTED:
            self._connected = True
        elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self.up = True
            self.flush()
        elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self.fail(
                "denied",
                f"{self._endpoint} does not accept this pairing line, it may have "
                "been revoked; ask for a new one (`crowdgaussian keys new NAME`).",
            )
        elif event in _UNEXPLAINED:
            timed_out = event != zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL and value == errno.EAGAIN
            self.fail(*(self._silence() if timed_out else self._handshake_failure()))
        elif event == zmq.EVENT_DISCONNECTED:
            self.fail(
                "lost",
                f"The connection to {self._endpoint} broke; check the network and the server.",
            )
        elif event == zmq.EVENT_CLOSED and not self._connected:
            self.fail(
                "refused",
                f"Nobody listens at {self._endpoint}; start the server there "
                "(`crowdgaussian serve`) or check the address.",
            )

    def _handshake_failure(self) -> tuple[Reason, str]:
        """The side that hangs up first decides which event comes, so the port itself is asked."""
        mechanism = zmtp_mechanism(self._server.host.strip("[]"), self._port)
        if not mechanism:
            return "foreign", (
                f"What listens at {self._endpoint} is no CrowdGaussian server; "
                "check the address and the port."
            )
        if self._server.pairing is None and mechanism == "NULL":
            return "lost", (  # it wants no keys and answers now, so the network stood still
                f"The connection to {self._endpoint} stood still and was given up; check the "
                "network."
            )
        if self._server.pairing is None:
            return "pairing", (
                f"{self._endpoint} asks for a pairing line; run `crowdgaussian keys "
                "new NAME` there and paste the line here."
            )
        if mechanism == "NULL":
            return "pairing", (
                f"{self._endpoint} works without keys; leave the pairing line out, "
                "or check the address."
            )
        return "key", (
            f"{self._endpoint} does not have the key that the pairing line names; check "
            "the address, or ask for a new line (`crowdgaussian keys new NAME`)."
        )

    def _silence(self) -> tuple[Reason, str]:
        host = self._server.host.strip("[]")
        if not self._connected:
            try:
                socket.getaddrinfo(host, None)
            except OSError:
                return "unreachable", f"There is no computer named {host}; check the address."
        return "silent", (
            f"{self._endpoint} does not answer; check the address, the network and the firewall."
        )
