# SPDX-License-Identifier: GPL-3.0-or-later
"""Sentences in a narrow panel."""

import textwrap

import bpy

_LETTER = 6.6  # pixels of an average letter at scale 1
_MARGIN = 60  # pixels of borders, icon and scroll bar
_LEAST = 20  # letters


def draw_text(layout: bpy.types.UILayout, sentence: str, context: bpy.types.Context,
              icon: str = "BLANK1") -> None:
    """A sentence in as many lines as the region's width asks for."""
    region = context.region
    scale = context.preferences.system.ui_scale or 1.0  # 0 in Blender without a window
    width = (region.width if region else 300) / scale - _MARGIN
    column = layout.column(align=True)
    column.scale_y = 0.8
    lines = textwrap.wrap(sentence, max(_LEAST, int(width / _LETTER)), break_on_hyphens=False)
    for number, line in enumerate(lines):
        column.label(text=line, icon=icon if number == 0 else "BLANK1")
