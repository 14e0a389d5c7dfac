# SPDX-License-Identifier: GPL-3.0-or-later
"""The sub-panel Display: levels, engine, colours, light, splat sizes."""

import bpy

from ..ops.splats import LEVELS
from ..scene.people import Person
from ..scene.render.display import Where, level_of
from ..scene.render.relight import has_normals, is_lit
from ..scene.render.settings import engine_of, render_mode
from ..scene.splats.upgrade import outdated_splats
from .base import CrowdPanel, draw_choice_of_people, draw_text, titled_row

_COLOURS = {
    "photo": "Splats have the photo's colours to the bit. Lights you add look harsher than usual.",
    "linear": "Splats blend with lit objects in linear light. Their soft rims differ a little.",
    None: "Colours and view transform do not fit together: choose one of the two.",
}


class CROWDGAUSSIAN_PT_display(CrowdPanel, bpy.types.Panel):
    """How people look, and how fast."""

    bl_idname = "CROWDGAUSSIAN_PT_display"
    bl_label = "Display"
    bl_options = {"DEFAULT_CLOSED"}
    bl_order = 4

    def draw_people(self, context: bpy.types.Context) -> None:
        """From top to bottom."""
        layout = self.layout
        if outdated_splats():
            draw_text(layout, "This file was made by an older version.", context, "INFO")
            layout.operator("crowdgaussian.upgrade_splats", icon="FILE_REFRESH")
        people = draw_choice_of_people(layout, context)
        draw_levels(layout, people, "VIEWPORT", "Viewport")
        draw_levels(layout, people, "RENDER", "Render")
        draw_engine(layout, context)
        draw_look(layout, people, context)


def draw_levels(layout: bpy.types.UILayout, people: list[Person], where: Where, title: str) -> None:
    """Three buttons; the level that all share is pressed."""
    shown = {level_of(person, where) for person in people}
    row = titled_row(layout, title)
    for level, name, _ in LEVELS:
        button = row.operator("crowdgaussian.set_display", text=name, depress=shown == {level})
        button.level, button.where = level, where


def draw_engine(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """Engine and colours, with what they mean."""
    scene = context.scene
    row = titled_row(layout, "Engine")
    for engine, name in (("CYCLES", "Cycles"), ("EEVEE", "EEVEE")):
        pressed = engine_of(scene) == engine
        row.operator("crowdgaussian.set_engine", text=name, depress=pressed).engine = engine
    row = titled_row(layout, "Colours")
    now = render_mode(scene)
    for mode, name in (("photo", "Photo"), ("linear", "Linear")):
        row.operator("crowdgaussian.set_colours", text=name, depress=now == mode).mode = mode
    draw_text(layout, _COLOURS[now], context, "INFO" if now else "ERROR")


def draw_look(layout: bpy.types.UILayout, people: list[Person], context: bpy.types.Context) -> None:
    """Light, sizes, viewport, native splats."""
    lit = all(is_lit(person) for person in people)
    row = titled_row(layout, "Light")
    for wanted, name in ((False, "Photo"), (True, "Scene")):
        row.operator("crowdgaussian.set_lit", text=name, depress=lit == wanted).lit = wanted
    normals = all(has_normals(person) for person in people)
    button = layout.operator("crowdgaussian.set_lit", text="Normal Pass", depress=normals)
    button.lit, button.normals = lit, not normals
    layout.operator("crowdgaussian.limit_splats", icon="FULLSCREEN_EXIT")
    manager = context.window_manager
    if hasattr(manager, "crowdgaussian_follow_view"):
        layout.prop(manager, "crowdgaussian_follow_view")
    layout.operator("crowdgaussian.convert_to_native", icon="POINTCLOUD_DATA")


CLASSES = (CROWDGAUSSIAN_PT_display,)
