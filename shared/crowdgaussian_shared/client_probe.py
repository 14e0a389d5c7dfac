# SPDX-License-Identifier: Apache-2.0
"""Asking a port what it speaks, after a handshake that failed without saying why."""

import socket

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
