# SPDX-License-Identifier: GPL-3.0-or-later
"""The sub-panel People: who is there, rig controls, rest and photo pose, shadows."""

import bpy

from .base import CrowdPanel, draw_choice_of_people


class CROWDGAUSSIAN_PT_people(CrowdPanel, bpy.types.Panel):
    """The people of the scene and their rigs."""

    bl_idname = "CROWDGAUSSIAN_PT_people"
    bl_label = "People"
    bl_order = 1

    def draw_people(self, context: bpy.types.Context) -> None:
        """From top to bottom."""
        draw_choice_of_people(self.layout, context)


CLASSES = (CROWDGAUSSIAN_PT_people,)
