# SPDX-License-Identifier: GPL-3.0-or-later
"""Operators, and the timer that brings news from the session into Blender."""

import bpy

from . import (
    add_person,
    base,
    corrections,
    export,
    export_rigs,
    import_files,
    layout,
    motion,
    people,
    poses,
    recolour,
    reconstruct,
    scatter,
    splats,
    timer,
    viewport,
)

_CLASSES = (
    *corrections.CLASSES,
    *add_person.CLASSES,
    *reconstruct.CLASSES,
    *export.CLASSES,
    *export_rigs.CLASSES,
    *import_files.CLASSES,
    *motion.CLASSES,
    *poses.CLASSES,
    *splats.CLASSES,
    *recolour.CLASSES,
    *people.CLASSES,
    *layout.CLASSES,
    *scatter.CLASSES,
    *viewport.CLASSES,
)


def register() -> None:
    """Registers the operators, watches for undo and starts the timer."""
    for cls in _CLASSES:
        bpy.utils.register_class(cls)
    base.watch_undo()
    timer.start()
    viewport.start()


def unregister() -> None:
    """Stops the timer, the connection and the server, and removes the operators."""
    viewport.stop()
    timer.stop()
    base.unwatch_undo()
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
