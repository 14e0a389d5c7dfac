# SPDX-License-Identifier: GPL-3.0-or-later
"""The sub-panel Layout: where people stand, copies of them, the match with the photo."""

import bpy
from bpy.props import PointerProperty

from ..ops.state import choices
from .base import CrowdPanel, draw_choice_of_people


def _is_mesh(_self: object, obj: bpy.types.Object) -> bool:
    return obj.type == "MESH"


def _is_path(_self: object, obj: bpy.types.Object) -> bool:
    return obj.type in ("MESH", "CURVE")


class CrowdGaussianLayout(bpy.types.PropertyGroup):
    """The objects that layout buttons use."""

    ground: PointerProperty(
        name="Ground",
        type=bpy.types.Object,
        poll=_is_mesh,
        description="What people stand on; empty for the plane z = 0",
    )
    target: PointerProperty(
        name="Face", type=bpy.types.Object, description="What people turn to; empty for the camera"
    )
    scatter: PointerProperty(
        name="Scatter Over",
        type=bpy.types.Object,
        poll=_is_path,
        description="A mesh that copies stand on, or a curve to line up on",
    )


class CROWDGAUSSIAN_PT_layout(CrowdPanel, bpy.types.Panel):
    """Places and headings of people."""

    bl_idname = "CROWDGAUSSIAN_PT_layout"
    bl_label = "Layout"
    bl_options = {"DEFAULT_CLOSED"}
    bl_order = 2

    def draw_people(self, context: bpy.types.Context) -> None:
        """From top to bottom."""
        layout, choice = self.layout, choices(context, "crowdgaussian_layout")
        draw_choice_of_people(layout, context)
        draw_places(layout, choice)
        draw_scatter(layout, choice)
        layout.operator("crowdgaussian.match_photo", icon="IMAGE_REFERENCE")


def draw_places(layout: bpy.types.UILayout, choice: CrowdGaussianLayout) -> None:
    """Ground, distances, headings."""
    column = layout.column(align=True)
    column.prop(choice, "ground")
    button = column.operator("crowdgaussian.snap_to_ground", icon="SNAP_ON")
    button.ground = choice.ground.name if choice.ground else ""
    row = layout.row(align=True)
    row.operator("crowdgaussian.spread", text="Spread", icon="FULLSCREEN_ENTER").factor = 1.25
    row.operator("crowdgaussian.spread", text="Gather", icon="FULLSCREEN_EXIT").factor = 0.8
    layout.operator("crowdgaussian.resolve_overlaps", icon="MOD_ARRAY")
    column = layout.column(align=True)
    column.prop(choice, "target")
    text = f"Face {choice.target.name}" if choice.target else "Face the Camera"
    button = column.operator("crowdgaussian.face", text=text, icon="CON_TRACKTO")
    button.towards = "OBJECT" if choice.target else "CAMERA"
    button.target = choice.target.name if choice.target else ""


def draw_scatter(layout: bpy.types.UILayout, choice: CrowdGaussianLayout) -> None:
    """Copies, and copies into people."""
    column = layout.column(align=True)
    column.prop(choice, "scatter", text="Over")
    row = column.row(align=True)
    row.enabled = choice.scatter is not None
    button = row.operator("crowdgaussian.scatter", icon="OUTLINER_OB_POINTCLOUD")
    if choice.scatter is not None:
        button.target = choice.scatter.name
        button.over = "CURVE" if choice.scatter.type == "CURVE" else "SURFACE"
    column.operator("crowdgaussian.make_real", icon="OUTLINER_OB_ARMATURE")


# The sub-panel Export: splats, rigs and motions for other programs


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


CLASSES = (
    CROWDGAUSSIAN_PT_layout,
    CROWDGAUSSIAN_PT_export,
)
