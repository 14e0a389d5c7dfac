# SPDX-License-Identifier: GPL-3.0-or-later
"""The sub-panel Motion: motions, poses, assets."""

import bpy
from bpy.props import PointerProperty, StringProperty

from .base import CrowdPanel, draw_choice_of_people


class CrowdGaussianMotion(bpy.types.PropertyGroup):
    """What the panel's buttons use, kept in the scene."""

    path: StringProperty(
        name="Motion",
        description="An .npz of AMASS or SMPL-X, a .bvh, or a folder of LHM's JSON files",
    )
    rig: PointerProperty(
        name="Rig",
        type=bpy.types.Object,
        poll=lambda _, obj: obj.type == "ARMATURE",
        description="An armature whose action people shall follow",
    )


class CROWDGAUSSIAN_PT_motion(CrowdPanel, bpy.types.Panel):
    """What people do."""

    bl_idname = "CROWDGAUSSIAN_PT_motion"
    bl_label = "Motion"
    bl_options = {"DEFAULT_CLOSED"}
    bl_order = 3

    def draw_people(self, context: bpy.types.Context) -> None:
        """From top to bottom."""
        layout = self.layout
        draw_choice_of_people(layout, context)
        motion = context.scene.crowdgaussian_motion
        column = layout.column(align=True)
        row = column.row(align=True)
        row.prop(motion, "path", text="", placeholder="Motion file")
        row.operator("crowdgaussian.choose_motion", text="", icon="FILE_FOLDER")
        column.operator("crowdgaussian.apply_motion", icon="ANIM")
        column = layout.column(align=True)
        column.prop(motion, "rig", text="", placeholder="Another rig")
        column.operator("crowdgaussian.apply_rig_motion", icon="ARMATURE_DATA")
        column = layout.column(align=True)
        column.operator_menu_enum(
            operator="crowdgaussian.apply_pose", property="pose", icon="POSE_HLT"
        )
        column.operator("crowdgaussian.save_pose", icon="ADD")
        column.operator("crowdgaussian.add_pose_library", icon="ASSET_MANAGER")
        layout.operator("crowdgaussian.mark_people", icon="ASSET_MANAGER")


CLASSES = (CrowdGaussianMotion, CROWDGAUSSIAN_PT_motion)
