# SPDX-License-Identifier: Apache-2.0
"""Which server a client talks to, and the client's own lasting identity."""

import base64
import binascii
import re
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import SettingError
from ..formats.atomic import read_bytes, write_bytes
from ..protocol.wire import DEFAULT_PORT, is_loopback, split_address
from ..scene.schema import hash_bytes

# The pairing line: everything a client needs to reach a server that is not on this computer

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")
_LINE = re.compile(r"cgpair1:(?P<name>[^:@]{1,32}):(?P<keys>[A-Za-z0-9_-]{1,200})(@(?P<at>\S+))?")
_KEY, _CHECK = 32, 4  # bytes


@dataclass(frozen=True)
class Pairing:
    """One client's keys; each key is 32 raw bytes, as ZMQ_CURVE_* options take them."""

    name: str
    server_public: bytes
    client_public: bytes
    client_secret: bytes = field(repr=False)
    address: str = ""  # such as tcp://gpu.example.org:5555; empty when the line names none

    def line(self) -> str:
        """The line to paste."""
        keys = self.server_public + self.client_public + self.client_secret
        text = base64.urlsafe_b64encode(keys + _check(keys)).decode().rstrip("=")
        return f"cgpair1:{self.name}:{text}" + (f"@{self.address}" if self.address else "")


def parse_pairing(line: str) -> Pairing:
    """Reads a pairing line; white space around it and inside it (a wrapped paste) is ignored.

    Raises:
        SettingError: it is no such line, or not the whole of it.
    """
    match = _LINE.fullmatch("".join(line.split()))
    if match is None or not NAME.fullmatch(match["name"]):
        raise SettingError(
            "This is no pairing line; run `crowdgaussian keys new NAME` on the server and paste "
            "the line that starts with cgpair1."
        )
    text = match["keys"]
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        data = b""
    keys = data[:-_CHECK]
    if len(keys) != 3 * _KEY or data[-_CHECK:] != _check(keys):
        raise SettingError("The pairing line is not whole; copy the entire line again.")
    server, public, secret = (keys[i : i + _KEY] for i in range(0, 3 * _KEY, _KEY))
    return Pairing(match["name"], server, public, secret, match["at"] or "")


def _check(keys: bytes) -> bytes:
    return bytes.fromhex(hash_bytes(keys))[:_CHECK]


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
            SettingError: no such address or line, or a remote server without a line.
        """
        keys = read_pairing(pairing) if pairing.strip() else None
        text = address.strip() or (keys.address if keys else "")
        host, port = split_address(text, DEFAULT_PORT) or ("", 0)
        if port == 0:
            raise SettingError(
                f"'{text}' is no server's address; write it like tcp://127.0.0.1:{DEFAULT_PORT}."
            )
        server = cls(host, port, keys, data_port)
        if keys is None and not server.loopback:
            raise SettingError(
                f"{server} is another computer and needs a pairing line; run `crowdgaussian keys "
                "new NAME` there and paste the line here."
            )
        return server

    @property
    def loopback(self) -> bool:
        """Whether it is on this computer."""
        return is_loopback(self.host)

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
