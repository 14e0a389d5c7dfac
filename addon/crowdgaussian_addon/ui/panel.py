# SPDX-License-Identifier: GPL-3.0-or-later
"""The panel "Reconstruct Crowd" in the sidebar's tab "Crowd"."""

from pathlib import Path
from typing import TYPE_CHECKING

import bpy
import bpy.utils.previews
from crowdgaussian_shared.protocol.messages import Device, Preset

from ..jobs.session import ServerView
from ..jobs.table import JobRow
from ..ops import state
from ..ops.state import choices
from .base import draw_text

if TYPE_CHECKING:
    from bpy.stub_internal.rna_enums import IconItems

# One job in the panel: how far it is, what can be done, what went wrong

_ICONS: dict[str, "IconItems"] = {
    "done": "CHECKMARK",
    "failed": "ERROR",
    "cancelled": "CANCEL",
    "paused": "PAUSE",
}


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
    sentences: tuple[tuple[str, IconItems], ...] = (
        (row.error, "ERROR"),
        (row.trouble, "ERROR"),
        (row.obstacle, "PAUSE"),
        (row.note, "INFO"),
        (row.unrefined, "INFO"),
    )
    for sentence, icon in sentences:
        if sentence and sentence != state.session().server.sentence:  # which stands above
            draw_text(box, sentence, context, icon)
    if row.error or row.trouble:
        draw_doctor(box, context)
    _draw_buttons(box, row)


def draw_doctor(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """Where more can be learnt about what went wrong: a button here, a command elsewhere."""
    if getattr(state.preferences(), "place", "HERE") == "HERE":
        layout.operator("crowdgaussian.doctor", icon="VIEWZOOM")
    else:
        draw_text(layout, "On the server, `crowdgaussian doctor` says more.", context, "INFO")


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
    layout.progress(
        factor=row.progress,
        type="BAR",
        text=f"{row.headline}  {100 * row.progress:.0f} %"
        if row.state == "running"
        else row.headline,
    )


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


# How the server stands, in a few words

_STATES: dict[str, tuple[str, "IconItems"]] = {  # words and icon
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


# A small picture of the chosen photo, made by Blender in the background

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"}
_previews: bpy.utils.previews.ImagePreviewCollection | None = None


def icon_of(photo: str) -> int:
    """The icon of a photo; 0 without one."""
    global _previews
    path = Path(bpy.path.abspath(photo)) if photo else None
    if path is None or path.suffix.lower() not in _SUFFIXES or not path.is_file():
        return 0
    key = f"{path}:{path.stat().st_mtime_ns}"
    if _previews is None:
        _previews = bpy.utils.previews.new()
    if key not in _previews:
        _previews.clear()
        _previews.load(key, str(path), "IMAGE")
    return _previews[key].icon_id


def clear() -> None:
    """Frees the picture."""
    global _previews
    if _previews is not None:
        bpy.utils.previews.remove(_previews)
        _previews = None


_THUMBNAIL = 7.0  # units of the interface's height


class CROWDGAUSSIAN_PT_reconstruct(bpy.types.Panel):
    """Photo, choices, button, and a row for each job."""

    bl_idname = "CROWDGAUSSIAN_PT_reconstruct"
    bl_label = "Reconstruct Crowd"
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Crowd"

    def draw(self, context: bpy.types.Context) -> None:
        """From top to bottom."""
        layout = self.layout
        draw_server(layout, context)
        draw_choice(layout, context)
        draw_button(layout, context)
        rows: list[JobRow] = state.session().rows
        if rows:
            layout.separator()
        for row in rows:
            draw_row(layout, row, context)
        draw_first_look(layout, context)


def draw_server(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """How the server stands, with the button that changes it."""
    server = state.session().server
    row = layout.row()
    draw_state(row.column(align=True), server)
    if server.state == "stopped":
        row.operator("crowdgaussian.connect", text="", icon="PLAY")
    else:
        row.operator("crowdgaussian.disconnect", text="", icon="SNAP_FACE")
    if server.sentence:
        box = layout.box()
        draw_text(box, server.sentence, context, "ERROR")
        _draw_repair(box)
        draw_doctor(box, context)


def draw_choice(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """Photo, preset with its licence in words, quality, refinement."""
    choice = choices(context, "crowdgaussian")
    box = layout.column(align=True)
    icon = icon_of(choice.photo)
    if icon:
        box.template_icon(icon_value=icon, scale=_THUMBNAIL)
    row = box.row(align=True)
    row.prop(choice, "photo", text="", placeholder="Photo of people")
    row.operator("crowdgaussian.choose_photo", text="", icon="FILE_FOLDER")
    if choice.photo and not photo_exists(choice.photo):
        layout.label(text="There is no such file.", icon="ERROR")
    column = layout.column()
    column.use_property_split = True
    column.use_property_decorate = False
    column.prop(choice, "preset")
    draw_licence(column, choice.preset, context)
    column.row().prop(choice, "quality", expand=True)
    column.prop(choice, "most_people")
    column.prop(choice, "refinement")
    column.prop(choice, "shot")


def draw_licence(layout: bpy.types.UILayout, name: str, context: bpy.types.Context) -> None:
    """What the preset's results may be used for, as the server says."""
    welcome = state.session().server.welcome
    preset = next((p for p in welcome.presets if p.name == name), None) if welcome else None
    if preset is None:
        draw_text(layout, "The server tells the licence when it runs.", context)
    elif not preset.available:
        draw_text(layout, f"Not available: {preset.missing}", context, "ERROR")
        draw_download(layout, preset, context)
    else:
        draw_text(layout, preset.licence, context, "CHECKMARK" if preset.commercial else "INFO")


def draw_download(layout: bpy.types.UILayout, preset: Preset, context: bpy.types.Context) -> None:
    """The button that has the server fetch what a preset lacks, or how far that is."""
    info = state.session().server.downloads.get(preset.name)
    if info is not None and info.state in ("running", "checking"):
        share = min(1.0, info.received / max(info.size, 1))
        checking = info.state == "checking"
        text = "Checking the files" if checking else f"The server fetches models, {share:.0%}"
        layout.progress(factor=share, text=text)
        return
    if info is not None and info.state == "failed":
        draw_text(layout, info.error, context, "ERROR")
    if preset.download:
        text = f"Fetch Models ({preset.download / 1e9:.1f} GB)"
        layout.operator("crowdgaussian.fetch_models", text=text, icon="IMPORT").preset = preset.name


def draw_button(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """The button, and why it did nothing, unless that can be read above already."""
    photo = choices(context, "crowdgaussian").photo
    row = layout.row()
    row.scale_y = 1.5
    row.enabled = photo_exists(photo)
    row.operator("crowdgaussian.reconstruct", icon="COMMUNITY")
    told = state.complaint == state.session().server.sentence or (
        bool(photo) and not row.enabled and photo in state.complaint
    )
    if state.complaint and not told:
        draw_text(layout.box(), state.complaint, context, "ERROR")


_LOOKS: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {  # a sentence, and buttons
    "ASKED": (
        "The view shows people in colour, from the photo's camera. Your answer is remembered.",
        (("KEEP", "Good"), ("BACK", "Put It Back")),
    ),
    "OFFERED": (
        "People came into your shot. The view and all settings are as you left them.",
        (("SHOW", "Photo View"), ("BACK", "Leave It")),
    ),
}


def draw_first_look(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """What happened to the view when people came in, until it is answered."""
    if not state.first_look:
        return
    sentence, answers = _LOOKS[state.first_look]
    box = layout.box().column()
    draw_text(box, sentence, context, "VIEW_CAMERA")
    row = box.row(align=True)
    for action, text in answers:
        row.operator("crowdgaussian.first_look", text=text).action = action


def photo_exists(photo: str) -> bool:
    """Whether the path leads to a file."""
    return bool(photo) and Path(bpy.path.abspath(photo)).is_file()


def _draw_repair(layout: bpy.types.UILayout) -> None:
    """What is wrong with the server is mostly mended in the preferences."""
    if state.preferences() is not None:
        button = layout.operator("preferences.addon_show", text="Preferences", icon="PREFERENCES")
        button.module = state.ADDON
