# SPDX-License-Identifier: Apache-2.0
"""Messages as ZeroMQ frames: magic, version, type, JSON header, payloads.

Nothing is unpickled and nothing is executed; sizes are checked before anything is parsed.
"""

import ipaddress
import json
import re
from collections.abc import Sequence
from typing import Any, Literal

from ..errors import CrowdGaussianError, RemoteError
from ..formats.json_fields import parse_json
from .codec import from_field, to_plain
from .messages import MESSAGES, PAYLOADS, Message

MAGIC = b"CGSC"
PROTOCOL_MAJOR = 1  # a change that an older side cannot live with
PROTOCOL_MINOR = 2  # a field or a message more
HEADER_LIMIT = 64 << 10  # bytes
PAYLOAD_LIMIT = 2 << 20  # bytes of one payload frame
PAYLOAD_FRAMES = 4
MESSAGE_LIMIT = 4 << 20  # ZMQ_MAXMSGSIZE on every socket


class ProtocolError(RemoteError):
    """Frames that are no message of this protocol.

    Attributes:
        code: "version" or "message", as in the ERROR message.
    """

    def __init__(self, code: Literal["version", "message"], sentence: str) -> None:
        super().__init__(sentence)
        self.code: Literal["version", "message"] = code


def encode(
    message: Message, payloads: Sequence[bytes | memoryview] = ()
) -> list[bytes | memoryview]:
    """The frames of a message.

    Raises:
        ProtocolError: the header or a payload is larger than the protocol allows.
    """
    name = type(message).__name__.upper()
    header = json.dumps(to_plain(message), separators=(",", ":"), allow_nan=False).encode()
    version = bytes((PROTOCOL_MAJOR, PROTOCOL_MINOR))
    frames = [MAGIC, version, name.encode(), header, *payloads]
    _check_sizes(name, frames)
    return frames


def decode(frames: list[bytes]) -> tuple[Message, tuple[bytes, ...]]:
    """The message and the payloads that frames hold.

    Raises:
        ProtocolError: not this protocol, another major version, an unknown type, a field that is
            missing or wrong, or sizes beyond the limits.
    """
    if len(frames) < 4 or frames[0] != MAGIC or len(frames[1]) != 2:
        raise ProtocolError("message", "These frames are not of the CrowdGaussian protocol.")
    major, minor = frames[1]
    if major != PROTOCOL_MAJOR:
        raise ProtocolError("version", _version_sentence(major, minor))
    name = bytes(frames[2][:32]).decode("ascii", "replace")
    if name not in MESSAGES:
        raise ProtocolError("message", f"There is no message of the type {name!r}.")
    _check_sizes(name, frames)
    try:
        message = from_field(MESSAGES[name], parse_json(bytes(frames[3]), name))
    except CrowdGaussianError as error:
        raise ProtocolError("message", str(error)) from error
    return message, tuple(frames[4:])


def _check_sizes(name: str, frames: Sequence[bytes | memoryview]) -> None:
    payloads = frames[4:]
    if len(frames[3]) > HEADER_LIMIT:
        raise ProtocolError("message", f"The header of {name} is larger than {HEADER_LIMIT} bytes.")
    if len(payloads) > PAYLOAD_FRAMES or any(len(p) > PAYLOAD_LIMIT for p in payloads):
        raise ProtocolError("message", f"The payload of {name} is larger than the protocol allows.")
    if len(payloads) != PAYLOADS.get(name, 0):
        raise ProtocolError(
            "message", f"{name} comes with {PAYLOADS.get(name, 0)} payloads, not {len(payloads)}."
        )


def _version_sentence(major: int, minor: int) -> str:
    older = "the other side" if major < PROTOCOL_MAJOR else "this side"
    return (
        f"The other side speaks version {major}.{minor} of the protocol and this one "
        f"{PROTOCOL_MAJOR}.{PROTOCOL_MINOR}; update CrowdGaussian on {older}."
    )


# Which settings a client may send: none that names files or programs of the server's machine

_TEXTS = ("photo.focal", "people.boxes")  # texts that say nothing about the machine


def may_client_set(name: str, value: Any) -> bool:
    """Whether a setting with that value, or of that value's type, may go over the wire."""
    return not isinstance(value, str) or name.startswith("stages.") or name in _TEXTS


# Addresses

DEFAULT_PORT = 5555
_ADDRESS = re.compile(
    r"(?P<scheme>tcp://)?(?P<host>\[[0-9a-fA-F:.]+\]|[^:/\[\]\s]+)(:(?P<port>\d{1,5}|\*))?(?P<end>/)?"
)


def split_address(text: str, default_port: int | None = None) -> tuple[str, int] | None:
    """Host and port of tcp://HOST:PORT; None where the text is something else.

    Args:
        text: an IPv6 address is in brackets and keeps them; the port `*`, any free one, is 0.
        default_port: the port where the text names none; `tcp://` may be left out too, and a slash
            may follow. None: all has to be there.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None:
        return None
    if default_port is None and not (match["scheme"] and match["port"] and not match["end"]):
        return None
    port = 0 if match["port"] == "*" else int(match["port"] or default_port or 0)
    return (match["host"], port) if port < 65536 else None


def is_loopback(host: str) -> bool:
    """Whether a host, with or without brackets, is this computer and nobody else reaches it."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
