# SPDX-License-Identifier: GPL-3.0-or-later
"""The sub-panel Layout: where people stand, copies of them, the match with the photo."""

import bpy

from .base import CrowdPanel, draw_choice_of_people


class CROWDGAUSSIAN_PT_layout(CrowdPanel, bpy.types.Panel):
    """Places and headings of people."""

    bl_idname = "CROWDGAUSSIAN_PT_layout"
    bl_label = "Layout"
    bl_options = {"DEFAULT_CLOSED"}
    bl_order = 2

    def draw_people(self, context: bpy.types.Context) -> None:
        """From top to bottom."""
        draw_choice_of_people(self.layout, context)


CLASSES = (CROWDGAUSSIAN_PT_layout,)
