# SPDX-License-Identifier: GPL-3.0-or-later
"""The Blender side of CrowdGaussian: photos go to a server, people come back as rigged splats."""

__version__ = "0.1.0"


def register() -> None:
    """Called by Blender when the extension is enabled."""
    from . import ops, ui

    ops.register()
    ui.register()


def unregister() -> None:
    """Called by Blender when the extension is disabled; ends the connection and the server."""
    from . import ops, ui

    ui.unregister()
    ops.unregister()
