# SPDX-License-Identifier: GPL-3.0-or-later
"""Operators, and the pump that brings news from the session into Blender."""

import bpy

from . import (
    add_person,
    base,
    corrections,
    display,
    export,
    export_rigs,
    import_files,
    jobs,
    layout,
    motion,
    people,
    poses,
    reconstruct,
    rig,
    scatter,
    timer,
    view_timer,
)

_CLASSES = (
    *corrections.CLASSES,
    *add_person.CLASSES,
    *jobs.CLASSES,
    *reconstruct.CLASSES,
    *reconstruct.CLASSES,
    *reconstruct.CLASSES,
    *export.CLASSES,
    *export_rigs.CLASSES,
    *import_files.CLASSES,
    *import_files.CLASSES,
    *motion.CLASSES,
    *poses.CLASSES,
    *display.CLASSES,
    *people.CLASSES,
    *rig.CLASSES,
    *layout.CLASSES,
    *scatter.CLASSES,
    *layout.CLASSES,
)


def register() -> None:
    """Registers the operators, watches for undo and starts the pump."""
    for cls in _CLASSES:
        bpy.utils.register_class(cls)
    base.watch_undo()
    timer.start()
    view_timer.start()


def unregister() -> None:
    """Stops the pump, the connection and the server, and removes the operators."""
    view_timer.stop()
    timer.stop()
    base.unwatch_undo()
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
