# SPDX-License-Identifier: GPL-3.0-or-later
"""Importing a scene folder: what the backend, or an export of ours, wrote to this disk."""

from pathlib import Path

import bpy
from bpy.props import BoolProperty, StringProperty
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.scene_folder import SceneFolder

from ..scene.importer import add_people, start_crowd
from .steps import SteppedOperator, Steps, count_people


class CROWDGAUSSIAN_OT_import_scene(SteppedOperator, bpy.types.Operator):
    """Add everybody of a scene folder, with rigs, the photo's camera and the floor"""

    bl_idname = "crowdgaussian.import_scene"
    bl_label = "Import Scene Folder"
    modes = {"OBJECT"}

    directory: StringProperty(subtype="DIR_PATH", options={"SKIP_SAVE"})
    filter_folder: BoolProperty(default=True, options={"HIDDEN"})

    @classmethod
    def unavailable(cls, _context: bpy.types.Context) -> str:
        """An empty scene will do."""
        return ""

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Opens the file browser, unless the folder is given."""
        if self.directory:
            return super().invoke(context, event)
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def steps(self, _context: bpy.types.Context) -> Steps:
        """Reads everybody first, and builds last: a stop before that leaves no trace."""
        folder = SceneFolder.open(Path(bpy.path.abspath(self.directory)))
        avatars, skipped = {}, []
        people = folder.info.people
        for index, person in enumerate(people):
            yield 0.5 * index / len(people), f"Reading person {index}"
            try:
                avatars[index] = folder.read_avatar(index)
            except CrowdGaussianError as error:
                skipped.append(person.error or str(error))
        if not avatars:
            why = f" ({skipped[0].rstrip('.')})" if skipped else ""
            raise CrowdGaussianError(
                f"{folder.path} has nobody to import{why}; reconstruct the photo to the end."
            )
        yield 0.5, f"Building {count_people(len(avatars))}"
        add_people(start_crowd(folder), folder, avatars)
        left_out = f", {len(skipped)} left out: {skipped[0]}" if skipped else ""
        return f"{count_people(len(avatars))} imported from {folder.path}{left_out}"


CLASSES = (CROWDGAUSSIAN_OT_import_scene,)
