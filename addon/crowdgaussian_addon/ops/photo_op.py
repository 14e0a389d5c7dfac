# SPDX-License-Identifier: GPL-3.0-or-later
"""Choosing the photo in the file browser."""

import bpy
from bpy.props import BoolProperty, StringProperty


class CROWDGAUSSIAN_OT_choose_photo(bpy.types.Operator):
    """Choose a photo of people"""

    bl_idname = "crowdgaussian.choose_photo"
    bl_label = "Choose Photo"
    bl_options = {"INTERNAL"}

    filepath: StringProperty(subtype="FILE_PATH")
    filter_image: BoolProperty(default=True, options={"HIDDEN"})
    filter_folder: BoolProperty(default=True, options={"HIDDEN"})
    display_type: StringProperty(default="THUMBNAIL", options={"HIDDEN"})

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        """Opens the file browser where the last photo was."""
        self.filepath = context.scene.crowdgaussian.photo
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Takes the photo over into the panel."""
        context.scene.crowdgaussian.photo = self.filepath
        return {"FINISHED"}


CLASSES = (CROWDGAUSSIAN_OT_choose_photo,)
