# SPDX-License-Identifier: Apache-2.0
"""Which server a client talks to, and the client's own lasting identity."""

import ipaddress
import re
import uuid
from dataclasses import dataclass
from pathlib import Path

from .errors import CrowdGaussianError
from .files import read_bytes, write_bytes
from .pairing import Pairing, parse_pairing

DEFAULT_PORT = 5555
_ADDRESS = re.compile(r"(tcp://)?(?P<host>\[[0-9a-fA-F:.]+\]|[^:/\[\]\s]+)(:(?P<port>\d{1,5}))?/?")
_PAIRING_LIMIT = 4096  # bytes


@dataclass(frozen=True)
class Server:
    """A server's address and, when it is not on this computer, the keys to reach it."""

    host: str  # an IPv6 address with its brackets
    port: int
    pairing: Pairing | None = None
    data_port: int = 0  # 0: as the server says; another one when ports are forwarded

    @classmethod
    def parse(cls, address: str = "", pairing: str = "", data_port: int = 0) -> "Server":
        """Reads what a user types.

        Args:
            address: tcp://HOST:PORT; `tcp://` and the port may be left out. Empty: the address in
                the pairing line.
            pairing: a pairing line, or the name of a file that holds one. Empty: none.
            data_port: 0, or where the server's data port is forwarded to.

        Raises:
            CrowdGaussianError: no such address or line, or a remote server without a line.
        """
        keys = read_pairing(pairing) if pairing.strip() else None
        text = address.strip() or (keys.address if keys else "")
        match = _ADDRESS.fullmatch(text)
        port = int(match["port"] or DEFAULT_PORT) if match else 0
        if not 0 < port < 65536:
            raise CrowdGaussianError(
                f"'{text}' is no server's address; write it like tcp://127.0.0.1:{DEFAULT_PORT}."
            )
        server = cls(match["host"], port, keys, data_port)
        if keys is None and not server.loopback:
            raise CrowdGaussianError(
                f"{server} is another computer and needs a pairing line; run `crowdgaussian keys "
                "new NAME` there and paste the line here."
            )
        return server

    @property
    def loopback(self) -> bool:
        """Whether it is on this computer."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False

    def endpoint(self, port: int) -> str:
        """A ZeroMQ endpoint on the server."""
        return f"tcp://{self.host}:{port}"

    def __str__(self) -> str:
        return self.endpoint(self.port)


def read_pairing(text: str) -> Pairing:
    """A pairing line, or the one in the file of that name."""
    text = text.strip()
    if not text.startswith("cgpair") and len(text) < 4096 and Path(text).is_file():
        text = read_bytes(text, _PAIRING_LIMIT).decode("ascii", "replace")
    return parse_pairing(text)


def stable_client_id(path: str | Path) -> str:
    """The id in the file, made at the first call: a server counts and lists jobs by it."""
    path = Path(path)
    if path.is_file():
        text = read_bytes(path, 100).decode("ascii", "replace").strip()
        if re.fullmatch(r"[0-9a-f-]{36}", text):
            return text
    made = str(uuid.uuid4())
    write_bytes(path, made.encode())
    return made
