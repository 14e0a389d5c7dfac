# SPDX-License-Identifier: Apache-2.0
"""A TCP proxy that cuts or stalls connections after a number of bytes from the server."""

import selectors
import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Proxy:
    """Forwards 127.0.0.1:port to another port of this computer.

    Attributes:
        cuts: for each connection to come, the bytes from either side after which it is cut; when
            the list is empty, connections live.
        stall: instead of cutting, forwards nothing any more and keeps the connection open.
        down: bytes forwarded from the server so far.
        up: bytes forwarded from the client so far.
    """

    target: int
    cuts: list[int] = field(default_factory=list)
    stall: bool = False
    down: int = 0
    up: int = 0
    connections: int = 0

    def __post_init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self):
        self._closing.set()
        self._listener.close()
        self._thread.join(5)

    def _accept(self):
        self._listener.settimeout(0.1)
        while not self._closing.is_set():
            try:
                near, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            self.connections += 1
            limit = self.cuts.pop(0) if self.cuts else None
            threading.Thread(target=self._carry, args=(near, limit), daemon=True).start()

    def _carry(self, near, limit):
        try:
            far = socket.create_connection(("127.0.0.1", self.target))
        except OSError:
            near.close()
            return
        with near, far, selectors.DefaultSelector() as watched:
            watched.register(near, selectors.EVENT_READ, far)
            watched.register(far, selectors.EVENT_READ, near)
            carried = 0
            while not self._closing.is_set():
                for key, _ in watched.select(0.1):
                    try:
                        data = key.fileobj.recv(1 << 16)
                        if not data:
                            return
                        key.data.sendall(data)
                    except OSError:
                        return
                    carried += len(data)
                    if key.fileobj is far:
                        self.down += len(data)
                    else:
                        self.up += len(data)
                    if limit is not None and carried >= limit:
                        if self.stall:
                            self._closing.wait()
                        return


@contextmanager
def proxy_to(port, **options):
    proxy = Proxy(port, **options)
    try:
        yield proxy
    finally:
        proxy.close()
