# SPDX-License-Identifier: GPL-3.0-or-later
"""The timer that brings the session's news into Blender: rows, people, redraws.

A turn takes a few milliseconds, except that one person is built in it when one is finished.
Timers do not fire in background Blender, so scripts call pump() themselves.
"""

import atexit
import logging
import uuid
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import bpy
from bpy.app.handlers import persistent
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.scene.edit import SceneEdits
from crowdgaussian_shared.scene.folder import SceneFolder

from ..jobs.table import JobRow
from ..scene.context import override, rest_with
from ..scene.corrections import bring_in, crowd_from
from ..scene.incremental import (
    find_crowd,
    grow_crowd,
    people_of,
    refined_in,
    refined_people,
    take_refined,
    waiting_people,
    within_reach,
)
from . import state, viewport

log = logging.getLogger(__name__)
ACTIVE, IDLE = 0.1, 0.5  # seconds between turns
_MOVING = ("TRANSFORM_OT", "VIEW3D_OT_fly", "VIEW3D_OT_walk")

_due: set[str] = set()  # jobs whose scene may hold people that are not here yet
_file_token = uuid.uuid4().hex  # changes with each file that is loaded
_last_look: object = None


def start() -> None:
    """Starts the timer and watches files being loaded; undone by stop()."""
    bpy.app.handlers.load_post.append(_on_load)
    bpy.app.handlers.save_post.append(_on_save)
    rest_with(state.threads_at_rest)
    atexit.register(stop)
    if not bpy.app.background:
        bpy.app.timers.register(_tick, first_interval=IDLE, persistent=True)


def stop() -> None:
    """Stops everything; also at exit, where Blender 4.5 would wait for a timer forever."""
    atexit.unregister(stop)
    if bpy.app.timers.is_registered(_tick):
        bpy.app.timers.unregister(_tick)
    for handlers, handler in (
        (bpy.app.handlers.load_post, _on_load),
        (bpy.app.handlers.save_post, _on_save),
    ):
        if handler in handlers:
            handlers.remove(handler)
    rest_with(nullcontext)
    state.close_session()
    _due.clear()


def pump() -> bool:
    """One turn: takes in all news and builds at most one person -> whether more may be waiting."""
    session = state.session()
    _due.update(session.poll())
    row = _next_due()
    if row is not None:
        (_correct if row.edit else _build_one)(row)
    _redraw()
    return bool(_due)


def is_due(job: str) -> bool:
    """Whether what a job has made waits to come in."""
    return job in _due


def adopt(row: JobRow) -> None:
    """The row's people come into the file that is open now."""
    row.file_token, row.blend_file = _file_token, bpy.data.filepath
    _due.add(row.job)
    state.session().touch()


def _tick() -> float:
    try:
        more = pump()
    except Exception as error:
        log.exception("The add-on's timer met an unexpected error")
        state.complain(f"Unexpected {type(error).__name__}: {error}; see Blender's console.")
        return IDLE
    return ACTIVE if more or state.session().busy else IDLE


def _next_due() -> JobRow | None:
    """A row with news that this file takes now; the others wait or are dropped."""
    for job in list(_due):
        row = state.session().table.get(job)
        if row is None or not belongs_here(row) or (row.edit and not row.finished):
            _due.discard(job)
            continue
        row.obstacle = _obstacle(row)
        if not row.obstacle:
            return row
    return None


def belongs_here(row: JobRow) -> bool:
    """Whether the open file is the one that the job was started in."""
    same_file = bool(row.blend_file) and row.blend_file == bpy.data.filepath
    return row.file_token == _file_token or same_file or find_crowd(row.job) is not None


def _obstacle(row: JobRow) -> str:
    """What keeps people from coming in at this moment, and what to do; empty when nothing does."""
    if bpy.context.mode != "OBJECT":
        return "Finished people come in when you are back in Object Mode."
    running: Any = bpy.app.is_job_running  # which is said to return nothing
    if running("RENDER"):
        return "Finished people come in after the render."
    for window in bpy.context.window_manager.windows:
        if any(op.bl_idname.startswith(_MOVING) for op in window.modal_operators):
            return "Finished people come in after your move."
    crowd = crowd_from(row.source) if row.edit else find_crowd(row.job)
    if crowd is not None and not within_reach(crowd):
        return f"{crowd.name} is not in this view layer; go there, or press Import Again."
    return ""


def _correct(row: JobRow) -> None:
    """Brings a finished correction in, all of it in one step of undo."""
    _due.discard(row.job)
    if row.state != "done" or row.brought_in:
        return
    crowd = crowd_from(row.source)
    if crowd is None:
        row.note = "The crowd that this corrects is not in this file; Import Again has the result."
        return
    row.brought_in = True
    state.session().touch()
    step = SceneEdits.from_json(row.edit).steps[-1]
    try:
        with in_a_window():
            said = bring_in(crowd, SceneFolder.open(row.folder), step, bpy.context.scene)
            push_undo(row.what)
        row.note = " ".join(said)
    except CrowdGaussianError as error:
        row.note = str(error)


def _build_one(row: JobRow) -> None:
    try:
        folder = SceneFolder.open(row.folder)
        waiting = waiting_people(folder, row.imported)
        stale = [i for i in refined_people(folder) if i in row.imported and i not in row.renewed]
    except CrowdGaussianError as error:
        _due.discard(row.job)
        row.note = str(error) if row.state == "done" else ""  # else the row says what happened
        return
    if len(waiting) + len(stale) <= 1:
        _due.discard(row.job)
    if waiting:
        _import(row, folder, waiting[0])
    elif stale:
        _renew(row, folder, stale[0])


def _import(row: JobRow, folder: SceneFolder, index: int) -> None:
    row.imported = (*row.imported, index)
    if index in refined_people(folder):
        row.renewed = (*row.renewed, index)
    state.session().touch()
    try:
        first = find_crowd(row.job) is None
        with in_a_window():
            grow_crowd(folder, row.job, index, state.shot_of(bpy.context.scene))
            if first:
                viewport.greet(find_crowd(row.job))
            push_undo(f"Import Person {index:03d} of {row.title}")
    except CrowdGaussianError as error:
        row.note = f"Person {index} is left out: {error}"


def _renew(row: JobRow, folder: SceneFolder, index: int) -> None:
    """Somebody who is in the scene was refined since."""
    row.renewed = (*row.renewed, index)
    state.session().touch()
    try:
        with in_a_window():
            if take_refined(folder, row.job, index):
                push_undo(f"Refine Person {index:03d} of {row.title}")
    except CrowdGaussianError as error:
        row.note = f"Person {index} stays unrefined: {error}"


def in_a_window() -> AbstractContextManager[object]:
    """The context of the first window: timers have none of their own."""
    windows = bpy.context.window_manager.windows
    return override(window=bpy.context.window or (windows[0] if windows else None))


def push_undo(message: str) -> None:
    """One step in the Edit > Undo history, where there is one."""
    if bpy.ops.ed.undo_push.poll():  # type: ignore[call-arg]  # it needs no context
        bpy.ops.ed.undo_push(message=message)


def _redraw() -> None:
    """Draws the sidebars again when a row or the server looks different."""
    global _last_look
    session = state.session()
    server = session.server
    look = (state.complaint, server.state, server.sentence, [str(row) for row in session.rows])
    if look == _last_look:
        return
    _last_look = look
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type in ("VIEW_3D", "PREFERENCES"):
                area.tag_redraw()


@persistent
def _on_load(*_: object) -> None:
    """Another file: jobs of the last one keep their people for it, or for Import Again.

    A file may also be an older version of the one that was open, with fewer people in it.
    """
    global _file_token
    _file_token = uuid.uuid4().hex
    for row in state.session().rows:
        crowd = find_crowd(row.job)
        if row.active and crowd is not None:
            row.imported, row.renewed = people_of(crowd), refined_in(crowd)
        more = row.people_done > len(row.imported) or row.people_refined > len(row.renewed)
        if more and not row.brought_in:
            _due.add(row.job)


@persistent
def _on_save(*_: object) -> None:
    """A file got a name: its jobs know it by that name when it is opened again."""
    for row in state.session().rows:
        if row.file_token == _file_token and row.blend_file != bpy.data.filepath:
            row.blend_file = bpy.data.filepath
            state.session().touch()
