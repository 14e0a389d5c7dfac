# SPDX-License-Identifier: GPL-3.0-or-later
"""What the add-on does to 3D viewports: splats follow them, and a first look at people.

A viewport is no part of undo, so the first look is taken back by a button of its own.
"""

import atexit
from typing import Any

import bpy
from bpy.app.handlers import persistent
from bpy.props import EnumProperty
from crowdgaussian_shared.errors import CrowdGaussianError, InputError

from ..scene.render.photo_match import photo_camera_of, photo_crowd
from ..scene.render.viewport import (
    IDLE,
    NOBODY,
    Follower,
    Look,
    close_grounds,
    largest_view,
    open_eyes,
    show,
    show_as,
    show_people,
    views_of,
)
from ..scene.shot import NEEDS, mend, needs_of
from ..scene.splats.upgrade import outdated_splats, upgrade_splats
from . import state
from .base import Result, SimpleOperator

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
    _before.clear()
    _closed.clear()
    state.first_look = ""
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


# The first look: asked for once, then remembered in the preferences

FIRST_LOOKS = (
    ("ASK", "Show and Ask", "Show people in colour from the photo's camera, and ask about it once"),
    ("ALWAYS", "Always", "Show people in colour from the photo's camera in each new shot"),
    ("NEVER", "Never", "Leave the view as it is"),
)
_ACTIONS = (
    ("SHOW", "Show", "Look through the photo's camera, in colour, without bones and ground"),
    ("KEEP", "Keep", "Leave the view so, and do it again with the next new shot"),
    ("BACK", "Back", "Put the view back as it was"),
)
_before: dict[int, Look] = {}  # how viewports were, by their pointers
_closed: list[str] = []  # grounds whose eyes were closed


def greet(crowd: bpy.types.Collection) -> None:
    """The first people of a crowd have come in: show them, or offer to in an artist's own shot."""
    wish = state.first_look_wish()
    camera = photo_camera_of(crowd)
    if camera is None or wish == "NEVER":
        return
    if camera != bpy.context.scene.camera:
        state.first_look = "OFFERED"
    elif _look(camera) and wish == "ASK":
        state.first_look = "ASKED"


def is_looking() -> bool:
    """Whether a viewport shows people as greet has it, and can be put back."""
    return any(view.as_pointer() in _before for view in _views())


def _look(camera: bpy.types.Object | None) -> bool:
    view = largest_view(bpy.context.window_manager)
    if view is None:
        return False
    before = show_people(view, bpy.context.scene, camera)
    _before.setdefault(view.as_pointer(), before)
    _closed.extend(ground.name for ground in close_grounds(bpy.context.scene))
    return True


def _camera_to_look_through(scene: bpy.types.Scene) -> bpy.types.Object | None:
    """The photo's; people who came without theirs are seen through the scene's."""
    try:
        return photo_camera_of(photo_crowd(scene))
    except InputError:
        if scene.camera is None:
            raise
        return scene.camera


def _views() -> list[bpy.types.SpaceView3D]:
    areas = (area for screen in bpy.data.screens for area in screen.areas)
    spaces = (space for area in areas for space in area.spaces)
    return [space for space in spaces if isinstance(space, bpy.types.SpaceView3D)]


class CROWDGAUSSIAN_OT_first_look(bpy.types.Operator):
    """Show people in colour from the photo's camera, or put the view back"""

    bl_idname = "crowdgaussian.first_look"
    bl_label = "Photo View"
    bl_options = {"REGISTER"}

    action: EnumProperty(
        name="Action",
        description="What becomes of the view",
        items=_ACTIONS,
    )

    @classmethod
    def description(cls, _context: bpy.types.Context, properties: Any) -> str:
        """The action's own words."""
        return next(text for key, _, text in _ACTIONS if key == properties.action)

    def execute(self, context: bpy.types.Context) -> Result:
        """Changes viewports only."""
        asked, state.first_look = state.first_look == "ASKED", ""
        if self.action == "SHOW":
            try:
                _look(_camera_to_look_through(context.scene))
            except CrowdGaussianError as error:
                self.report({"ERROR"}, str(error))
                return {"CANCELLED"}
        elif self.action == "BACK":
            for view in _views():
                show_as(view, _before.pop(view.as_pointer(), {}))
            open_eyes(context.scene, _closed)
            _closed.clear()
        if asked:
            state.remember_first_look("ALWAYS" if self.action == "KEEP" else "NEVER")
        return {"FINISHED"}


class CROWDGAUSSIAN_OT_check_splats(SimpleOperator, bpy.types.Operator):
    """Mend what keeps this scene from showing splats right; nothing else is changed"""

    bl_idname = "crowdgaussian.check_splats"
    bl_label = "Check Splats"

    need: EnumProperty(
        name="Need",
        items=(("ALL", "All", "Everything that is found"), *NEEDS),
        options={"SKIP_SAVE"},
        description="What is mended",
    )

    @classmethod
    def unavailable(cls, _context: bpy.types.Context) -> str:
        """Splats of any origin."""
        return ""

    def run(self, context: bpy.types.Context) -> str:
        """One of the needs, or all of them."""
        scene, done = context.scene, []
        for _ in NEEDS:  # mending one may show another
            wanted = (need for need in needs_of(scene) if self.need in ("ALL", need.kind))
            need = next((need for need in wanted if need.button and need not in done), None)
            if need is None:
                break
            mend(scene, need.kind)
            done.append(need)
        left = needs_of(scene)
        if left and not done:
            raise InputError(left[0].sentence)
        said = ", ".join(need.button for need in done) or "Nothing to mend"
        return f"{said}. Left: {left[0].sentence}" if left else f"{said}; splats show right."


CLASSES = (
    CROWDGAUSSIAN_OT_first_look,
    CROWDGAUSSIAN_OT_check_splats,
)
