# SPDX-License-Identifier: GPL-3.0-or-later
"""The timer that lets splats follow the viewport, and what happens when files load and save."""

import atexit
from typing import Any

import bpy
from bpy.app.handlers import persistent

from ..scene.render.viewport import IDLE, NOBODY, Follower, show, views_of
from ..scene.splats.upgrade import outdated_splats, upgrade_splats

_SWITCH = "crowdgaussian_follow_view"  # property of the window manager
_follower = Follower()


def start() -> None:
    """Starts to follow, and to upgrade files that are loaded; undone by stop()."""
    switch: Any = bpy.props.BoolProperty  # which is said to return nothing
    own = switch(
        name="Face the Viewport", default=True, options={"SKIP_SAVE"},
        description="Turn the splats to the 3D viewport while you look around; off, they always "
        "face the scene's camera",
    )  # fmt: skip
    setattr(bpy.types.WindowManager, _SWITCH, own)
    for handlers, handler in _handlers():
        handlers.append(handler)
    atexit.register(_stop_timer)
    if not bpy.app.background:
        bpy.app.timers.register(_tick, first_interval=IDLE, persistent=True)


def stop() -> None:
    """Stops everything; at exit the timer alone, for which Blender 4.5 would wait forever."""
    atexit.unregister(_stop_timer)
    _stop_timer()
    for handlers, handler in _handlers():
        if handler in handlers:
            handlers.remove(handler)
    delattr(bpy.types.WindowManager, _SWITCH)


def follow() -> float:
    """One turn of the timer -> seconds until the next."""
    manager = bpy.context.window_manager
    if manager is None or bpy.context.view_layer is None:
        return IDLE
    return _follower.look(views_of(manager) if getattr(manager, _SWITCH) else {})


def _tick() -> float:
    return follow()


def _stop_timer() -> None:
    if bpy.app.timers.is_registered(_tick):
        bpy.app.timers.unregister(_tick)


def _handlers() -> tuple[tuple[list, object], ...]:
    handlers = bpy.app.handlers
    return (
        (handlers.load_post, _on_load),
        (handlers.save_pre, _on_save),
        (handlers.undo_post, _on_undo),
        (handlers.redo_post, _on_undo),
    )


@persistent
def _on_load(*_: object) -> None:
    _follower.forget()
    if outdated_splats():
        changed = upgrade_splats()
        print(f"CrowdGaussian: the splats of {changed} objects were upgraded.")


@persistent
def _on_save(*_: object) -> None:
    """Files are saved with splats that face the camera; the next turn of the timer turns them."""
    show(NOBODY)
    _follower.forget()


@persistent
def _on_undo(*_: object) -> None:
    _follower.forget()
