# SPDX-License-Identifier: Apache-2.0
"""Who may connect: ZeroMQ's authentication protocol (RFC 27), answered from the list of keys.

libzmq asks during every CURVE handshake; the answer names the client's public key as its user id,
which comes with each of its messages and is checked again then (a key may have been revoked).
"""

import logging
import threading

import zmq
from crowdgaussian_shared.errors import CrowdGaussianError
from zmq.utils import z85

from .keys import KeyFolder
from .sockets import ZAP_DOMAIN

log = logging.getLogger(__name__)
ENDPOINT = "inproc://zeromq.zap.01"
_VERSION = b"1.0"


class DoorKeeper(threading.Thread):
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
