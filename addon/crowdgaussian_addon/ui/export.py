# SPDX-License-Identifier: GPL-3.0-or-later
"""The sub-panel Export: splats, rigs and motions for other programs."""

import bpy

from .base import CrowdPanel, draw_choice_of_people


class CROWDGAUSSIAN_PT_export(CrowdPanel, bpy.types.Panel):
    """Files for other programs."""

    bl_idname = "CROWDGAUSSIAN_PT_export"
    bl_label = "Export"
    bl_options = {"DEFAULT_CLOSED"}
    bl_order = 5

    def draw_people(self, context: bpy.types.Context) -> None:
        """From top to bottom."""
        layout = self.layout
        draw_choice_of_people(layout, context)
        layout.operator("crowdgaussian.export_splats", icon="POINTCLOUD_DATA")


CLASSES = (CROWDGAUSSIAN_PT_export,)
