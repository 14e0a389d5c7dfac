# SPDX-License-Identifier: Apache-2.0
"""What the client and the service say to each other; docs/protocol.md is its specification."""

from .messages import MESSAGES, Message
from .wire import PROTOCOL_MAJOR, PROTOCOL_MINOR, ProtocolError, decode, encode

__all__ = [
    "MESSAGES",
    "PROTOCOL_MAJOR",
    "PROTOCOL_MINOR",
    "Message",
    "ProtocolError",
    "decode",
    "encode",
]
