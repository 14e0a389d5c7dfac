# SPDX-License-Identifier: Apache-2.0
"""What a service is told before it starts: its limits, its addresses, and who may connect.

    keys/server.key     the server's secret CURVE key, Z85, mode 0600
    keys/clients.json   name, public key and date of each client that is let in

A client's secret exists only in the pairing line that `keys new` prints; it is not kept here.
"""

import json
import os
import time
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import zmq
from crowdgaussian_shared.client.server import NAME, Pairing
from crowdgaussian_shared.errors import InputError, SettingError
from crowdgaussian_shared.formats.atomic import read_bytes, write_bytes
from crowdgaussian_shared.formats.json_fields import parse_json
from crowdgaussian_shared.protocol.messages import Limits
from crowdgaussian_shared.protocol.wire import DEFAULT_PORT, is_loopback, split_address
from zmq.utils import z85

from ..core.progress import setting

PIPELINE = "crowdgaussian.pipeline.reconstruct:reconstruct"


@dataclass(frozen=True)
class Address:
    """A TCP address to bind; port 0 takes any free one."""

    host: str  # an IPv6 address without its brackets
    port: int

    @property
    def loopback(self) -> bool:
        """Whether only this computer can reach it."""
        return is_loopback(self.host)

    def endpoint(self) -> str:
        """As ZeroMQ writes it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp://{host}:{self.port or '*'}"


@dataclass(frozen=True)
class ServiceSettings:
    """Everything about one service."""

    data: Path  # jobs, photos, results and keys lie here
    bind: Address = Address("127.0.0.1", DEFAULT_PORT)
    data_port: int = setting(0, "port of the data socket; 0: the one after the control port")
    workers: int = setting(0, "worker processes; 0: one per GPU, or one")
    limits: Limits = field(default_factory=Limits)
    keep_hours: float = setting(24.0, "that photos and results are kept after a job's end")
    keep_bytes: int = 50 << 30  # of all results together; the oldest go first
    beat_seconds: float = 1.0  # between a worker's signs of life; five missing mean death
    cancel_seconds: float = 2.5  # a worker that has not stopped by then is killed
    silence_seconds: float = 1800.0  # a job without any progress for so long is stopped
    pipeline: str = PIPELINE  # module:function that the workers run

    @property
    def keys(self) -> Path:
        return self.data / "keys"


def with_number(settings: ServiceSettings, name: str, text: str) -> ServiceSettings:
    """A copy with one number changed, as in with_number(s, "jobs_total", "128").

    Raises:
        SettingError: there is no such number, or the text is not one.
    """
    for owner in (settings.limits, settings):
        old = getattr(owner, name, None)
        if not isinstance(old, int | float):
            continue
        try:
            value = type(old)(text)
        except ValueError as error:
            raise SettingError(f"'{text}' is no number for {name}.") from error
        if owner is settings:
            return replace(settings, **{name: value})  # type: ignore[arg-type]  # any number
        return replace(settings, limits=replace(settings.limits, **{name: value}))  # type: ignore[arg-type]
    names = ", ".join(sorted(_numbers(settings.limits) | _numbers(settings)))
    raise SettingError(f"There is no limit named {name}; there are {names}.")


def _numbers(owner: Limits | ServiceSettings) -> set[str]:
    return {f.name for f in fields(owner) if isinstance(getattr(owner, f.name), int | float)}


def parse_address(text: str) -> Address:
    """Reads tcp://HOST:PORT.

    Raises:
        SettingError: it is something else.
    """
    found = split_address(text)
    if found is None:
        raise SettingError(f"'{text}' is no address; write it like tcp://127.0.0.1:5555.")
    host, port = found
    return Address(host.strip("[]"), port)


# CURVE keys: the server's own, and the list of clients that may connect

_LIMIT = 1 << 20  # bytes
SECRET_MODE, FOLDER_MODE = 0o600, 0o700


@dataclass(frozen=True)
class Client:
    """One client that is let in."""

    name: str
    public: str  # Z85
    created: float  # seconds since 1970


class KeyFolder:
    """The keys of one service. Changes made by another process are seen at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: tuple[int, int, int] | None = None
        self._clients: tuple[Client, ...] = ()

    def clients(self) -> tuple[Client, ...]:
        """Everybody who is let in.

        Raises:
            CrowdGaussianError: the list is damaged.
        """
        path = self.path / "clients.json"
        try:
            info = path.stat()
        except FileNotFoundError:
            return ()
        stamp = info.st_mtime_ns, info.st_size, info.st_ino
        if stamp != self._stamp:
            entries = parse_json(read_bytes(path, _LIMIT), str(path)).child("clients").items()
            self._clients = tuple(
                Client(
                    e.child("name").text(32),
                    e.child("public").text(40),
                    e.child("created").number(),
                )
                for e in entries
            )
            self._stamp = stamp
        return self._clients

    def name_of(self, public: str) -> str | None:
        """Who has this public key (Z85); None when nobody who is let in."""
        return next((c.name for c in self.clients() if c.public == public), None)

    def server_secret(self) -> bytes:
        """The server's secret key, Z85.

        Raises:
            CrowdGaussianError: there is none.
        """
        return read_bytes(self.path / "server.key", _LIMIT).strip()

    def ready(self) -> bool:
        """Whether there is a server key and at least one client."""
        return (self.path / "server.key").is_file() and bool(self.clients())

    def new(self, name: str, address: str = "") -> Pairing:
        """Makes a client's keys and lets it in -> what to paste there.

        Raises:
            InputError: the name is taken or is none.
        """
        if not NAME.fullmatch(name):
            raise InputError(
                f"'{name}' is no name for a key; use up to 32 letters, digits, dots and dashes."
            )
        if any(client.name == name for client in self.clients()):
            raise InputError(
                f"There is a key named {name} already; choose another name, or run "
                f"`crowdgaussian keys revoke {name}` first."
            )
        self._make_server_key()
        public, secret = zmq.curve_keypair()
        self._save((*self.clients(), Client(name, public.decode(), time.time())))
        server = zmq.curve_public(self.server_secret())
        return Pairing(name, z85.decode(server), z85.decode(public), z85.decode(secret), address)

    def revoke(self, name: str) -> None:
        """Shuts a client out, also where it is connected now.

        Raises:
            InputError: there is no such client.
        """
        left = tuple(client for client in self.clients() if client.name != name)
        if left == self.clients():
            raise InputError(
                f"There is no key named {name}; `crowdgaussian keys list` names them all."
            )
        self._save(left)

    def _make_server_key(self) -> None:
        self.path.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        self.path.chmod(FOLDER_MODE)
        path = self.path / "server.key"
        if not path.exists():
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with open(os.open(path, flags, SECRET_MODE), "wb") as stream:
                stream.write(zmq.curve_keypair()[1] + b"\n")

    def _save(self, clients: tuple[Client, ...]) -> None:
        text = json.dumps({"clients": [asdict(client) for client in clients]}, indent=1)
        write_bytes(self.path / "clients.json", text.encode())
        (self.path / "clients.json").chmod(SECRET_MODE)
