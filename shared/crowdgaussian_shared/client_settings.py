# SPDX-License-Identifier: Apache-2.0
"""Which settings a client may send: none that names files or programs of the server's machine."""

from typing import Any

_TEXTS = ("photo.focal", "people.boxes")  # texts that say nothing about the machine


def may_client_set(name: str, value: Any) -> bool:
    """Whether a setting with that value, or of that value's type, may go over the wire."""
    return not isinstance(value, str) or name.startswith("stages.") or name in _TEXTS
