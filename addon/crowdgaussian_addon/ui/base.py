# SPDX-License-Identifier: GPL-3.0-or-later
"""What the panels in the sidebar's tab "Crowd" share."""

import textwrap
from typing import TYPE_CHECKING

import bpy

from ..scene.people import NOBODY, Person, all_people, has_people, selected_people

if TYPE_CHECKING:  # the mixin below becomes part of Blender's panels, and uses what these have
    from bpy.stub_internal.rna_enums import IconItems

    PanelPart = bpy.types.Panel
else:
    PanelPart = object

# Sentences in a narrow panel

_LETTER = 6.6  # pixels of an average letter at scale 1
_MARGIN = 60  # pixels of borders, icon and scroll bar
_LEAST = 20  # letters


def draw_text(
    layout: bpy.types.UILayout,
    sentence: str,
    context: bpy.types.Context,
    icon: "IconItems" = "BLANK1",
) -> None:
    """A sentence in as many lines as the region's width asks for."""
    region = context.region
    scale = context.preferences.system.ui_scale or 1.0  # 0 in Blender without a window
    width = (region.width if region else 300) / scale - _MARGIN
    column = layout.column(align=True)
    column.scale_y = 0.8
    lines = textwrap.wrap(sentence, max(_LEAST, int(width / _LETTER)), break_on_hyphens=False)
    for number, line in enumerate(lines):
        column.label(text=line, icon=icon if number == 0 else "BLANK1")


_TITLE = 0.28  # of the width; "Viewport" and "Obstacle" just fit


class CrowdPanel(PanelPart):
    """A panel of the tab; mixed into bpy.types.Panel, which is given a bl_order from 1 on."""

    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Crowd"

    def draw(self, context: bpy.types.Context) -> None:
        """The panel, or one sentence while there is nobody."""
        if not has_people(context.scene):
            draw_text(self.layout, NOBODY, context, "INFO")
            return
        self.draw_people(context)

    def draw_people(self, context: bpy.types.Context) -> None:
        """What the panel shows when there are people."""
        raise NotImplementedError


def titled_row(layout: bpy.types.UILayout, title: str) -> bpy.types.UILayout:
    """A word on the left, and the row for the buttons beside it; equally wide in all panels."""
    split = layout.split(factor=_TITLE, align=True)
    split.label(text=title)
    return split.row(align=True)


def draw_choice_of_people(layout: bpy.types.UILayout, context: bpy.types.Context) -> list[Person]:
    """One line that says whom the buttons are about, and those people."""
    chosen = selected_people(context)
    if len(chosen) == 1:
        words = chosen[0].name
    elif chosen:
        words = f"{len(chosen)} people selected"
    else:
        chosen = all_people(context.scene)
        words = "Everybody" if len(chosen) > 1 else chosen[0].name
    layout.label(text=words, icon="OUTLINER_OB_ARMATURE" if len(chosen) == 1 else "COMMUNITY")
    return chosen
