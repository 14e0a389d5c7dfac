# SPDX-License-Identifier: GPL-3.0-or-later
"""The panel "Reconstruct Crowd" in the sidebar's tab "Crowd"."""

from pathlib import Path

import bpy

from ..jobs import JobRow
from ..ops import state
from .rows import draw_row
from .server import draw_state
from .text import draw_text
from .thumbnail import icon_of

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


def draw_choice(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """Photo, preset with its licence in words, quality, refinement."""
    choice = context.scene.crowdgaussian
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


def draw_licence(layout: bpy.types.UILayout, name: str, context: bpy.types.Context) -> None:
    """What the preset's results may be used for, as the server says."""
    welcome = state.session().server.welcome
    preset = next((p for p in welcome.presets if p.name == name), None) if welcome else None
    if preset is None:
        draw_text(layout, "The server tells the licence when it runs.", context)
    elif not preset.available:
        draw_text(layout, f"Not available: {preset.missing}", context, "ERROR")
    else:
        draw_text(layout, preset.licence, context, "CHECKMARK" if preset.commercial else "INFO")


def draw_button(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """The button, and why it did nothing, unless that can be read above already."""
    photo = context.scene.crowdgaussian.photo
    row = layout.row()
    row.scale_y = 1.5
    row.enabled = photo_exists(photo)
    row.operator("crowdgaussian.reconstruct", icon="COMMUNITY")
    told = state.complaint == state.session().server.sentence or (
        bool(photo) and not row.enabled and photo in state.complaint)
    if state.complaint and not told:
        draw_text(layout.box(), state.complaint, context, "ERROR")


def photo_exists(photo: str) -> bool:
    """Whether the path leads to a file."""
    return bool(photo) and Path(bpy.path.abspath(photo)).is_file()


def _draw_repair(layout: bpy.types.UILayout) -> None:
    """What is wrong with the server is mostly mended in the preferences."""
    if state.preferences() is not None:
        button = layout.operator("preferences.addon_show", text="Preferences", icon="PREFERENCES")
        button.module = state.ADDON
