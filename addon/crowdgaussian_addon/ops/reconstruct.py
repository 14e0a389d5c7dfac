# SPDX-License-Identifier: GPL-3.0-or-later
"""The Reconstruct button, which is also the way to reconstruct from a script, and its jobs."""

import textwrap
import time
from pathlib import Path

import bpy
from bpy.props import BoolProperty, EnumProperty, FloatProperty, IntProperty, StringProperty
from crowdgaussian_shared.client.ticket import JobRequest
from crowdgaussian_shared.errors import CrowdGaussianError, InputError, MissingFileError
from crowdgaussian_shared.scene.folder import SceneFolder

from ..jobs.table import QUALITIES, REFINEMENTS, JobRow, settings_for
from ..scene.incremental import import_again, refined_in
from . import state, timer, viewport
from .base import OperatorPart, Result
from .state import choices

QUALITY_ITEMS = [(q.name, q.title, q.hint) for q in QUALITIES]
REFINEMENT_ITEMS = list(REFINEMENTS)
REFINEMENT_HINT = "Whether finished people are sharpened together, as they look from all around"
SHOT_ITEMS = [
    ("AUTO", "Automatic", "A new shot while the scene is empty or as Blender started; else added"),
    (
        "NEW",
        "New Shot",
        "The photo's camera, size and colours, rendered by Cycles",
    ),
    ("ADD", "Add to My Shot", "Camera, engine, colours, film, samples and size stay as they are"),
]
SHOT_HINT = "What becomes of the scene that people come into"
# Photos that Blender does not count as pictures, and the backend reads
PHOTO_ENDINGS = "*.heic;*.heif;*.avif;*.dng;*.nef;*.cr2;*.cr3;*.arw;*.raf;*.rw2;*.orf;*.pef"
_POLL = 0.05  # seconds
_DIALOG, _DIALOG_LETTERS = 520, 80  # width of a question, pixels and letters


class CROWDGAUSSIAN_OT_reconstruct(bpy.types.Operator):
    """Send the photo to the server and bring every person into the scene"""

    bl_idname = "crowdgaussian.reconstruct"
    bl_label = "Reconstruct Crowd"
    bl_options = {"REGISTER"}

    filepath: StringProperty(
        name="Photo",
        subtype="FILE_PATH",
        options={"SKIP_SAVE"},
        description="A photo that shows people",
    )
    folder: StringProperty(
        name="Scene Folder",
        subtype="DIR_PATH",
        options={"SKIP_SAVE"},
        description="Where the result is kept; one that holds this job goes on. Empty: the cache",
    )
    preset: StringProperty(
        name="Preset", default="open", options={"SKIP_SAVE"}, description="Which models do the work"
    )
    quality: EnumProperty(
        name="Quality",
        items=QUALITY_ITEMS,
        default="NORMAL",
        options={"SKIP_SAVE"},
        description="Splats per person, and time",
    )
    most_people: IntProperty(
        name="Most People",
        min=0,
        max=1000,
        options={"SKIP_SAVE"},
        description="Keep this many people, the most confident; 0 keeps everybody",
    )
    refinement: EnumProperty(
        name="Refinement",
        items=REFINEMENT_ITEMS,
        default="PRESET",
        options={"SKIP_SAVE"},
        description=REFINEMENT_HINT,
    )
    wait: BoolProperty(
        name="Wait",
        options={"SKIP_SAVE"},
        description="Return when everybody is in the scene; for scripts",
    )
    patience: FloatProperty(
        name="Patience",
        default=60.0,
        min=0.0,
        unit="TIME_ABSOLUTE",
        options={"SKIP_SAVE"},
        description="While waiting: how long the server may be out of reach, in seconds",
    )

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> Result:
        """From the panel: with the panel's choices."""
        choice = choices(context, "crowdgaussian")
        self.filepath, self.preset = choice.photo, choice.preset
        self.quality, self.most_people = choice.quality, choice.most_people
        self.refinement = choice.refinement
        return self.execute(context)

    def execute(self, _context: bpy.types.Context) -> Result:
        """Starts the job; with `wait` stays until it has ended."""
        state.complain("")
        try:
            row = self._submit()
        except CrowdGaussianError as error:
            state.complain(str(error))
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        if not self.wait:
            return {"FINISHED"}
        problem = wait_for(row, self.patience)
        if problem:
            self.report({"ERROR"}, problem)
            return {"CANCELLED"}
        self.report({"INFO"}, f"{row.people_done} people from {row.title}")
        return {"FINISHED"}

    def _submit(self) -> JobRow:
        if not self.filepath:
            raise InputError("No photo is chosen; choose one above the button.")
        photo = Path(bpy.path.abspath(self.filepath))
        folder = Path(bpy.path.abspath(self.folder)) if self.folder else new_folder(photo)
        settings = settings_for(self.quality, self.most_people, self.refinement)
        request = JobRequest(photo, folder, self.preset, settings)
        session, target = state.session(), state.find_target()
        row = None if self.folder else session.unfinished(request)
        if row is None:
            row = session.submit(target, request)
        elif row.state == "paused" or row.server != target.label:
            session.go_on(row, target)
        timer.adopt(row)
        return row


def wait_for(row: JobRow, patience: float) -> str:
    """Pumps until a job has ended and its people are in -> what went wrong, or nothing.

    Args:
        row: of the job.
        patience: seconds that the server may be out of reach.
    """
    session = state.session()
    reached = time.monotonic()
    while True:
        more = timer.pump()
        server = session.server
        if not row.active and not more:
            return row.error if row.state == "failed" else ""
        if row.state == "paused":
            return row.trouble
        if server.state != "lost":
            reached = time.monotonic()
        elif time.monotonic() > reached + patience:
            return server.sentence
        if more and row.obstacle:
            return row.obstacle
        time.sleep(0.0 if more else _POLL)


def new_folder(photo: Path) -> Path:
    """A folder in the cache that is not there yet, named after the photo."""
    scenes = state.cache_folder() / "scenes"
    folder, number = scenes / photo.stem, 2
    while folder.exists():
        folder, number = scenes / f"{photo.stem}-{number}", number + 1
    return folder


# Choosing the photo in the file browser


class CROWDGAUSSIAN_OT_choose_photo(bpy.types.Operator):
    """Choose a photo of people"""

    bl_idname = "crowdgaussian.choose_photo"
    bl_label = "Choose Photo"
    bl_options = {"INTERNAL"}

    filepath: StringProperty(subtype="FILE_PATH")
    filter_image: BoolProperty(default=True, options={"HIDDEN"})
    filter_glob: StringProperty(default=PHOTO_ENDINGS, options={"HIDDEN"})
    filter_folder: BoolProperty(default=True, options={"HIDDEN"})
    display_type: StringProperty(default="THUMBNAIL", options={"HIDDEN"})

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> Result:
        """Opens the file browser where the last photo was."""
        self.filepath = choices(context, "crowdgaussian").photo
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: bpy.types.Context) -> Result:
        """Takes the photo over into the panel."""
        choices(context, "crowdgaussian").photo = self.filepath
        return {"FINISHED"}


# Starting, stopping and testing the server


class CROWDGAUSSIAN_OT_connect(bpy.types.Operator):
    """Start the server on this computer, or connect to the one in the preferences"""

    bl_idname = "crowdgaussian.connect"
    bl_label = "Connect"
    bl_options = {"INTERNAL"}

    def execute(self, _context: bpy.types.Context) -> Result:
        """Begins; the panel and the preferences show what comes of it."""
        state.complain("")
        try:
            state.session().open(state.find_target())
        except CrowdGaussianError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class CROWDGAUSSIAN_OT_disconnect(bpy.types.Operator):
    """Stop the server on this computer, or let go of the other one; unfinished jobs are paused"""

    bl_idname = "crowdgaussian.disconnect"
    bl_label = "Disconnect"
    bl_options = {"INTERNAL"}

    def execute(self, _context: bpy.types.Context) -> Result:
        """Ends the connection, and our own server with it."""
        state.session().close()
        return {"FINISHED"}


class CROWDGAUSSIAN_OT_fetch_models(bpy.types.Operator):
    """Have the server download the models that this preset lacks; Blender downloads nothing"""

    bl_idname = "crowdgaussian.fetch_models"
    bl_label = "Fetch Models"
    bl_options = {"INTERNAL"}

    preset: StringProperty(options={"HIDDEN", "SKIP_SAVE"})

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> Result:
        """Asks first: it is much, and licences hang on it."""
        return context.window_manager.invoke_props_dialog(self, width=_DIALOG)

    def draw(self, _context: bpy.types.Context) -> None:
        """What comes, and on which terms."""
        welcome = state.session().server.welcome
        offered = welcome.presets if welcome else ()
        for preset in offered:
            if preset.name == self.preset:
                for line in textwrap.wrap(preset.missing, _DIALOG_LETTERS):
                    self.layout.label(text=line)

    def execute(self, _context: bpy.types.Context) -> Result:
        """Begins; the panel shows how it goes."""
        state.session().fetch_models(self.preset)
        return {"FINISHED"}


# The buttons of a job's row: cancel, go on, import again, open the folder, remove


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
        shot = state.shot_of(bpy.context.scene)
        result = import_again(SceneFolder.open(row.folder), row.job, shot)
        row.imported = tuple(person.index for person in result.people)
        row.renewed = refined_in(result.collection)
        row.note = " ".join(result.skipped)
        viewport.greet(result.collection)
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
    CROWDGAUSSIAN_OT_reconstruct,
    CROWDGAUSSIAN_OT_choose_photo,
    CROWDGAUSSIAN_OT_connect,
    CROWDGAUSSIAN_OT_disconnect,
    CROWDGAUSSIAN_OT_fetch_models,
    CROWDGAUSSIAN_OT_cancel,
    CROWDGAUSSIAN_OT_go_on,
    CROWDGAUSSIAN_OT_import_again,
    CROWDGAUSSIAN_OT_open_folder,
    CROWDGAUSSIAN_OT_remove_job,
)
