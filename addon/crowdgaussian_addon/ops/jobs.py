# SPDX-License-Identifier: GPL-3.0-or-later
"""The buttons of a job's row: cancel, try again, import again, open the folder, remove."""

from pathlib import Path

import bpy
from bpy.props import StringProperty
from crowdgaussian_shared.errors import CrowdGaussianError, MissingFileError
from crowdgaussian_shared.scene.folder import SceneFolder

from ..jobs.table import JobRow
from ..scene.incremental import import_again, refined_in
from . import state, timer
from .base import OperatorPart, Result


class _OnRow(OperatorPart):
    """An operator about one job."""

    bl_options = {"INTERNAL"}

    job: StringProperty(options={"HIDDEN", "SKIP_SAVE"})

    def execute(self, _context: bpy.types.Context) -> Result:
        """Finds the row and acts on it; errors are reported."""
        row = state.session().table.get(self.job)
        if row is None:
            self.report({"ERROR"}, "This job is not on the list any more.")
            return {"CANCELLED"}
        try:
            self.act(row)
        except CrowdGaussianError as error:
            row.note = str(error)
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}

    def act(self, row: JobRow) -> None:
        """What the button does."""
        raise NotImplementedError


class CROWDGAUSSIAN_OT_cancel(_OnRow, bpy.types.Operator):
    """Stop this job; people that are finished stay"""

    bl_idname = "crowdgaussian.cancel"
    bl_label = "Cancel"

    def act(self, row: JobRow) -> None:
        """Asks the server to stop."""
        state.session().cancel(row)


class CROWDGAUSSIAN_OT_go_on(_OnRow, bpy.types.Operator):
    """Go on with this job: finished people are kept, the server is started or reached again"""

    bl_idname = "crowdgaussian.go_on"
    bl_label = "Continue"

    def act(self, row: JobRow) -> None:
        """Connects and takes the job up again; the crowd goes on growing in this file."""
        state.session().go_on(row, state.find_target())
        if not timer.belongs_here(row):
            row.imported = row.renewed = ()
        timer.adopt(row)


class CROWDGAUSSIAN_OT_import_again(_OnRow, bpy.types.Operator):
    """Bring everybody of this job into the scene, in a new collection"""

    bl_idname = "crowdgaussian.import_again"
    bl_label = "Import Again"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Rigs are built in Object Mode only."""
        return context.mode == "OBJECT"

    def act(self, row: JobRow) -> None:
        """Imports what is finished; the rest of a running job follows."""
        result = import_again(SceneFolder.open(row.folder), row.job)
        row.imported = tuple(person.index for person in result.people)
        row.renewed = refined_in(result.collection)
        row.note = " ".join(result.skipped)
        timer.adopt(row)


class CROWDGAUSSIAN_OT_open_folder(_OnRow, bpy.types.Operator):
    """Show the scene folder of this job in the file manager"""

    bl_idname = "crowdgaussian.open_folder"
    bl_label = "Open Folder"

    def act(self, row: JobRow) -> None:
        """Opens the system's file manager."""
        if not Path(row.folder).is_dir():
            raise MissingFileError(f"{row.folder} is gone; reconstruct the photo again.")
        bpy.ops.wm.path_open(filepath=row.folder)


class CROWDGAUSSIAN_OT_remove_job(_OnRow, bpy.types.Operator):
    """Take this job off the list; its files and its people in the scene stay"""

    bl_idname = "crowdgaussian.remove_job"
    bl_label = "Remove from List"

    def act(self, row: JobRow) -> None:
        """Forgets the row."""
        state.session().remove(row)


CLASSES = (
    CROWDGAUSSIAN_OT_cancel,
    CROWDGAUSSIAN_OT_go_on,
    CROWDGAUSSIAN_OT_import_again,
    CROWDGAUSSIAN_OT_open_folder,
    CROWDGAUSSIAN_OT_remove_job,
)
