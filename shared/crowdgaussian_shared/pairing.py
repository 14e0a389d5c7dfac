# SPDX-License-Identifier: Apache-2.0
"""The pairing line: everything a client needs to reach a server that is not on this computer.

    cgpair1:NAME:KEYS[@ADDRESS]

KEYS is URL-safe base64 without padding of 100 bytes: the server's public CURVE key, the client's
public key, the client's secret key (32 bytes each, raw) and the first 4 bytes of the BLAKE2b-256
of those 96, which catch a line that was cut off. The line is a secret.
"""

import base64
import binascii
import re
from dataclasses import dataclass, field

from .errors import CrowdGaussianError
from .scene_schema import hash_bytes

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
        CrowdGaussianError: it is no such line, or not the whole of it.
    """
    match = _LINE.fullmatch("".join(line.split()))
    if match is None or not NAME.fullmatch(match["name"]):
        raise CrowdGaussianError(
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
        raise CrowdGaussianError("The pairing line is not whole; copy the entire line again.")
    server, public, secret = (keys[i : i + _KEY] for i in range(0, 3 * _KEY, _KEY))
    return Pairing(match["name"], server, public, secret, match["at"] or "")


def _check(keys: bytes) -> bytes:
    return bytes.fromhex(hash_bytes(keys))[:_CHECK]
