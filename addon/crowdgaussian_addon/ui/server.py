# SPDX-License-Identifier: GPL-3.0-or-later
"""How the server stands, in a few words."""

import bpy
from crowdgaussian_shared.protocol.messages import Device

from ..session import ServerView

_STATES = {  # words and icon
    "stopped": ("not running", "RADIOBUT_OFF"),
    "starting": ("starting", "SORTTIME"),
    "connecting": ("connecting", "SORTTIME"),
    "connected": ("ready", "CHECKMARK"),
    "lost": ("out of reach", "UNLINKED"),
}


def draw_state(layout: bpy.types.UILayout, server: ServerView) -> None:
    """One line, and a second one about the machine when it is known."""
    words, icon = _STATES[server.state]
    where = (server.label or "server").removeprefix("tcp://")
    layout.label(text=f"{where[:1].upper()}{where[1:]}: {words}", icon=icon)
    if server.state == "connected" and server.welcome:
        layout.label(text=device_words(server.welcome.device), icon="BLANK1")


def device_words(device: Device) -> str:
    """What the server computes on."""
    free = f", {device.memory_free / 2**30:.0f} GiB free" if device.memory_free else ""
    return (device.name or device.kind.upper()) + free
