# SPDX-License-Identifier: GPL-3.0-or-later
"""The sub-panel Export: splats, rigs and motions for other programs."""

import bpy

from .base import CrowdPanel, draw_choice_of_people


class CROWDGAUSSIAN_PT_export(CrowdPanel, bpy.types.Panel):
    """Files for other programs."""

    bl_idname = "CROWDGAUSSIAN_PT_export"
    bl_label = "Export and Import"
    bl_options = {"DEFAULT_CLOSED"}
    bl_order = 5

    def draw(self, context: bpy.types.Context) -> None:
        """Importing needs nobody."""
        CrowdPanel.draw(self, context)
        self.layout.separator()
        column = self.layout.column(align=True)
        column.operator("crowdgaussian.import_splats", icon="IMPORT")
        column.operator("crowdgaussian.import_scene", icon="IMPORT")

    def draw_people(self, context: bpy.types.Context) -> None:
        """From top to bottom."""
        draw_choice_of_people(self.layout, context)
        column = self.layout.column(align=True)
        column.operator("crowdgaussian.export_splats", icon="POINTCLOUD_DATA")
        column.operator("crowdgaussian.export_rigs", icon="OUTLINER_OB_ARMATURE")
        column.operator("crowdgaussian.export_motion", icon="ACTION")
        column.operator("crowdgaussian.export_scene", icon="FILE_FOLDER")


CLASSES = (CROWDGAUSSIAN_PT_export,)
