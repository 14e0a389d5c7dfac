# SPDX-License-Identifier: GPL-3.0-or-later
"""Operators, and the pump that brings news from the session into Blender."""

import bpy

from . import (
    add_person,
    correct_ops,
    display_ops,
    export_ops,
    export_rig_ops,
    import_scene,
    import_splats,
    job_ops,
    layout_ops,
    match_ops,
    motion_ops,
    people_ops,
    photo_op,
    pose_ops,
    pump,
    reconstruct,
    rig_ops,
    scatter_ops,
    server_ops,
    steps,
    view_timer,
)

_CLASSES = (*correct_ops.CLASSES, *add_person.CLASSES,
            *job_ops.CLASSES, *photo_op.CLASSES, *reconstruct.CLASSES, *server_ops.CLASSES,
            *export_ops.CLASSES, *export_rig_ops.CLASSES,
            *import_splats.CLASSES, *import_scene.CLASSES,
            *motion_ops.CLASSES, *pose_ops.CLASSES, *display_ops.CLASSES,
            *people_ops.CLASSES, *rig_ops.CLASSES,
            *layout_ops.CLASSES, *scatter_ops.CLASSES, *match_ops.CLASSES)


def register() -> None:
    """Registers the operators, watches for undo and starts the pump."""
    for cls in _CLASSES:
        bpy.utils.register_class(cls)
    steps.watch_undo()
    pump.start()
    view_timer.start()


def unregister() -> None:
    """Stops the pump, the connection and the server, and removes the operators."""
    view_timer.stop()
    pump.stop()
    steps.unwatch_undo()
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
