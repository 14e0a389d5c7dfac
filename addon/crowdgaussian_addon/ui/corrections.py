# SPDX-License-Identifier: GPL-3.0-or-later
"""The sub-panel Corrections of People: refit, leave out, bring back, add."""

import bpy

from ..ops.corrections import chosen_crowd, photo_of
from ..scene.corrections import left_out
from ..scene.people import has_people
from .base import CrowdPanel
from .text import draw_text


class CROWDGAUSSIAN_PT_corrections(CrowdPanel, bpy.types.Panel):
    """What the photo's reconstruction got wrong."""

    bl_idname = "CROWDGAUSSIAN_PT_corrections"
    bl_parent_id = "CROWDGAUSSIAN_PT_people"
    bl_label = "Corrections"
    bl_options = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """People, above, says already that there is nobody."""
        return has_people(context.scene)

    def draw_people(self, context: bpy.types.Context) -> None:
        """From top to bottom."""
        layout, crowd = self.layout, chosen_crowd(context)
        if crowd is not None and not photo_of(crowd).is_file():
            draw_text(layout, "Corrections need the original photo.", context, "INFO")
            layout.operator("crowdgaussian.find_photo", icon="FILE_FOLDER")
        draw_text(layout, "Move or pose people until they match the photo, then:", context)
        layout.operator("crowdgaussian.refit", icon="FILE_REFRESH")
        row = layout.row(align=True)
        row.operator("crowdgaussian.leave_out", icon="REMOVE")
        row.operator("crowdgaussian.add_person", icon="ADD")
        for index in left_out(crowd) if crowd is not None else ():
            button = layout.operator("crowdgaussian.bring_back", icon="LOOP_BACK",
                                     text=f"Bring Back Person {index:03d}")
            button.person = index


CLASSES = (CROWDGAUSSIAN_PT_corrections,)
