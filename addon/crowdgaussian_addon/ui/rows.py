# SPDX-License-Identifier: GPL-3.0-or-later
"""One job in the panel: how far it is, what can be done, what went wrong."""

import bpy

from ..jobs import JobRow
from .text import draw_text

_ICONS = {"done": "CHECKMARK", "failed": "ERROR", "cancelled": "CANCEL", "paused": "PAUSE"}


def draw_row(layout: bpy.types.UILayout, row: JobRow, context: bpy.types.Context) -> None:
    """The box of a job."""
    box = layout.box().column()
    _draw_title(box, row)
    if row.active:
        _draw_progress(box, row)
    words = people_words(row)
    if row.finished or row.state == "paused":
        words = f"{row.headline}: {words}" if words else row.headline
    if words:
        box.label(text=words, icon="OUTLINER_OB_ARMATURE")
    for sentence, icon in ((row.error, "ERROR"), (row.trouble, "ERROR"),
                           (row.obstacle, "PAUSE"), (row.note, "INFO"), (row.unrefined, "INFO")):
        if sentence:
            draw_text(box, sentence, context, icon)
    _draw_buttons(box, row)


def people_words(row: JobRow) -> str:
    """How many people there are, and how many are missing; empty while nobody knows."""
    if not row.people_found:
        return ""
    if row.state == "done" and not row.people_failed:
        return f"{row.people_done} people" if row.people_done != 1 else "1 person"
    words = f"{row.people_done} of {row.people_found} people"
    return f"{words}, {row.people_failed} failed" if row.people_failed else words


def _draw_title(layout: bpy.types.UILayout, row: JobRow) -> None:
    line = layout.row(align=True)
    line.label(text=row.title, icon=_ICONS.get(row.state, "IMAGE_DATA"))
    if row.active and row.state != "paused":
        button = line.row()
        button.enabled = not row.cancelling
        button.operator("crowdgaussian.cancel", text="", icon="CANCEL").job = row.job
    else:
        line.operator("crowdgaussian.remove_job", text="", icon="X").job = row.job


def _draw_progress(layout: bpy.types.UILayout, row: JobRow) -> None:
    if row.state == "paused":
        return
    layout.progress(factor=row.progress, type="BAR",
                    text=f"{row.headline}  {100 * row.progress:.0f} %" if row.state == "running"
                    else row.headline)


def _draw_buttons(layout: bpy.types.UILayout, row: JobRow) -> None:
    if row.active and row.state != "paused":
        return
    if row.state != "done":
        text = "Continue" if row.state == "paused" else "Try Again"
        layout.operator("crowdgaussian.go_on", text=text, icon="FILE_REFRESH").job = row.job
    line = layout.row(align=True)
    if row.people_done:
        line.operator("crowdgaussian.import_again", icon="IMPORT").job = row.job
    line.operator("crowdgaussian.open_folder", icon="FILE_FOLDER").job = row.job
