# SPDX-License-Identifier: GPL-3.0-or-later
"""What the buttons of the panel Corrections share: the crowd, its photo, the job."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import bpy
from bpy.props import BoolProperty, FloatProperty, IntProperty, StringProperty
from crowdgaussian_shared.client.ticket import JobRequest, read_ticket
from crowdgaussian_shared.errors import (
    CrowdGaussianError,
    InputError,
    MissingFileError,
    RemoteError,
)
from crowdgaussian_shared.protocol.wire import may_client_set
from crowdgaussian_shared.scene.edit import SceneEdit, SceneEdits, edits_in
from crowdgaussian_shared.scene.folder import SceneFolder
from crowdgaussian_shared.scene.schema import hash_file

from ..jobs.table import JobRow
from ..scene.corrections import crowd_of, crowds_in, is_changed, left_out, pose_edit, source_of
from ..scene.importer import SOURCE
from ..scene.incremental import JOB
from ..scene.people import PHOTO_POSE, Person, require_people, selected_people
from . import state, timer
from .base import Result, SimpleOperator
from .reconstruct import PHOTO_ENDINGS, new_folder, wait_for

PHOTO_HASH = "photo.blake2b"  # in a scene's settings
PHOTO = "crowdgaussian_original_photo"  # crowd property: its path, when it was found again
ELSEWHERE = "This person did not come from a photo of this file; select somebody who did."


@dataclass(frozen=True)
class Origin:
    """What a crowd was made from."""

    folder: SceneFolder
    photo: Path
    preset: str
    settings: dict[str, str]


class CorrectingOperator(SimpleOperator):
    """An operator that sends a correction; mixed into bpy.types.Operator."""

    bl_options = {"REGISTER"}  # the step of undo comes with the result

    filepath: StringProperty(
        name="Original Photo",
        subtype="FILE_PATH",
        options={"SKIP_SAVE"},
        description="Only needed when the photo is not where it was any more",
    )
    wait: BoolProperty(
        name="Wait",
        options={"SKIP_SAVE"},
        description="Return when the result is in the scene; for scripts",
    )
    patience: FloatProperty(
        name="Patience",
        default=60.0,
        min=0.0,
        unit="TIME_ABSOLUTE",
        options={"SKIP_SAVE"},
        description="While waiting: how long the server may be out of reach, in seconds",
    )

    @classmethod
    def unavailable(cls, context: bpy.types.Context) -> str:
        """Reasons that do not depend on who is selected."""
        crowd = chosen_crowd(context)
        if crowd is None:
            return (
                ELSEWHERE
                if crowds_in(context.scene)
                else (
                    "There is no crowd from a photo in this scene; reconstruct or import one first."
                )
            )
        return _crowd_is_busy(crowd) or _no_server()

    def send(self, crowd: bpy.types.Collection, step: SceneEdit, what: str) -> str | None:
        """Starts the job of a correction; with `wait` stays until its result is in.

        Args:
            crowd: that is corrected.
            step: the correction.
            what: it is, in words.

        Raises:
            CrowdGaussianError: the photo or the scene folder is gone, or the server refuses.
        """
        row = submit(crowd, step, what, bpy.path.abspath(self.filepath))
        if not self.wait:
            return None
        problem = wait_for(row, self.patience) or row.note
        if problem:
            raise RemoteError(problem)
        return row.what


def chosen_crowd(context: bpy.types.Context) -> bpy.types.Collection | None:
    """That of the selected people, or else of the scene's camera, or else the only one."""
    people = selected_people(context)
    if people:
        return crowd_of(people[0])
    crowds = crowds_in(context.scene)
    camera = context.scene.camera
    seen = [c for c in crowds if camera is not None and camera.name in c.objects]
    return (seen or crowds or [None])[0] if seen or len(crowds) == 1 else None


def one_crowd(people: list[Person]) -> bpy.types.Collection:
    """The crowd that all these people are of.

    Raises:
        InputError: they are of two, or somebody is of none.
    """
    crowds = {crowd_of(person) for person in people}
    if None in crowds:
        raise InputError(ELSEWHERE)
    if len(crowds) > 1:
        raise InputError("The selected people come from two photos; correct one crowd at a time.")
    return crowds.pop()


def submit(crowd: bpy.types.Collection, step: SceneEdit, what: str, photo: str = "") -> JobRow:
    """The row of a new correction.

    Raises:
        CrowdGaussianError: as CorrectingOperator.send.
    """
    origin = origin_of(crowd, photo)
    info = origin.folder.info
    if any(p.state not in ("done", "failed") for p in info.people):
        raise InputError(f"{crowd.name} is still being built; wait until everybody is there.")
    edits = SceneEdits(edits_in(info.settings)).then(step)
    request = JobRequest(
        origin.photo, new_folder(origin.photo), origin.preset, origin.settings, edit=edits.to_json()
    )
    row = state.session().submit(state.find_target(), request, origin.folder.path)
    row.what, row.source = what, crowd[SOURCE]
    timer.adopt(row)
    return row


def origin_of(crowd: bpy.types.Collection, photo: str) -> Origin:
    """Scene folder, original photo and settings of a crowd.

    Args:
        crowd: from a photo.
        photo: path of the original; empty: where it was.

    Raises:
        CrowdGaussianError: the folder or the photo is gone, or is another one.
    """
    folder = SceneFolder.open(source_of(crowd))
    ticket, path = read_ticket(folder.path), Path(photo) if photo else photo_of(crowd)
    if not path.is_file():
        raise MissingFileError(
            f"The original photo of {crowd.name} is not at {path} any more; press Find Photo."
        )
    if hash_file(path) != folder.info.settings.get(PHOTO_HASH):
        raise InputError(f"{path} is not the photo of {crowd.name}; press Find Photo.")
    if ticket is not None:
        return Origin(folder, path, ticket.preset, dict(ticket.settings))
    return Origin(folder, path, folder.info.preset, _settings_of(folder))


def photo_of(crowd: bpy.types.Collection) -> Path:
    """Where the original photo of a crowd was last; quick enough for a panel."""
    return Path(crowd.get(PHOTO) or _photo_at(crowd[SOURCE]))


@cache
def _photo_at(source: str) -> str:
    ticket = read_ticket(source)
    return ticket.photo if ticket is not None else "an unknown place"


def _settings_of(folder: SceneFolder) -> dict[str, str]:
    """The settings of a folder that came from no server: all that a client may choose."""
    return {
        name: str(value)
        for name, value in folder.info.settings.items()
        if "." in name and name != PHOTO_HASH and may_client_set(name, value)
    }


def _crowd_is_busy(crowd: bpy.types.Collection) -> str:
    for row in state.session().rows:
        if row.state == "running" and row.job == crowd.get(JOB) and not row.edit:
            return "This crowd is still being reconstructed; wait for it, or cancel it."
        waits = row.active or timer.is_due(row.job)
        if row.edit and row.source == crowd[SOURCE] and not row.brought_in and waits:
            return "A correction of this crowd is under way; wait for it, or cancel it."
    return ""


def _no_server() -> str:
    preferences = state.preferences()
    if preferences is None:
        return "Enable the CrowdGaussian extension in Blender's preferences."
    if preferences.place == "HERE" and not preferences.backend:
        return "No backend is named; choose it in the add-on's preferences."
    return ""


# Refit people whom an artist moved or posed, leave people out, bring them back

_MOST = 8  # selected people whose poses a grey button looks at


class CROWDGAUSSIAN_OT_refit(CorrectingOperator, bpy.types.Operator):
    """Fit the looks of people to the photo again, from where they stand and how they are posed now.
    Nobody else is touched"""

    bl_idname = "crowdgaussian.refit"
    bl_label = "Refit"

    @classmethod
    def unavailable(cls, context: bpy.types.Context) -> str:
        """Grey while nobody who is selected was moved or posed."""
        reason = super().unavailable(context)
        people, depsgraph = selected_people(context)[:_MOST], context.view_layer.depsgraph
        if reason or not people or depsgraph is None:
            return reason
        try:
            changed = any(is_changed(person.rig, depsgraph) for person in people)
        except CrowdGaussianError as error:
            return str(error)
        return "" if changed else _unchanged(people)

    def run(self, context: bpy.types.Context) -> str | None:
        """All chosen people who were changed."""
        people = require_people(context)
        older = [person for person in people if person.rig.get(PHOTO_POSE) is None]
        if older and selected_people(context):
            is_changed(older[0].rig)  # says why not
        changed = [p for p in people if p.index >= 0 and p not in older and is_changed(p.rig)]
        if not changed:
            raise InputError(_unchanged(people))
        crowd = one_crowd(changed)
        step = SceneEdit(corrected={person.index: pose_edit(person) for person in changed})
        return self.send(crowd, step, f"Refit {_names(changed)}")


class CROWDGAUSSIAN_OT_leave_out(CorrectingOperator, bpy.types.Operator):
    """Take the selected people out of the crowd. They can be brought back"""

    bl_idname = "crowdgaussian.leave_out"
    bl_label = "Leave Out"

    @classmethod
    def unavailable(cls, context: bpy.types.Context) -> str:
        """Only for selected people, never for everybody."""
        if not selected_people(context):
            return "Select the people to leave out."
        return super().unavailable(context)

    def run(self, context: bpy.types.Context) -> str | None:
        """All selected people."""
        people = selected_people(context)
        if not people:
            raise InputError("Select the people to leave out.")
        crowd = one_crowd(people)
        step = SceneEdit(excluded=tuple(person.index for person in people))
        return self.send(crowd, step, f"Leave out {_names(people)}")


class CROWDGAUSSIAN_OT_bring_back(CorrectingOperator, bpy.types.Operator):
    """Build somebody again who was left out of the crowd"""

    bl_idname = "crowdgaussian.bring_back"
    bl_label = "Bring Back"

    person: IntProperty(
        name="Person",
        min=0,
        max=999,
        options={"SKIP_SAVE"},
        description="Their number in the crowd",
    )

    def run(self, context: bpy.types.Context) -> str | None:
        """The one person."""
        crowd = chosen_crowd(context)
        if crowd is None or self.person not in left_out(crowd):
            raise InputError(f"Person {self.person:03d} was not left out of this crowd.")
        step = SceneEdit(included=(self.person,))
        return self.send(crowd, step, f"Bring back Person {self.person:03d}")


class CROWDGAUSSIAN_OT_find_photo(SimpleOperator, bpy.types.Operator):
    """Say where the original photo of this crowd is now; corrections need it"""

    bl_idname = "crowdgaussian.find_photo"
    bl_label = "Find Photo"

    filepath: StringProperty(name="Original Photo", subtype="FILE_PATH", options={"SKIP_SAVE"})
    filter_image: BoolProperty(default=True, options={"HIDDEN"})
    filter_glob: StringProperty(default=PHOTO_ENDINGS, options={"HIDDEN"})
    filter_folder: BoolProperty(default=True, options={"HIDDEN"})

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> Result:
        """Opens the file browser."""
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def run(self, context: bpy.types.Context) -> None:
        """Checks that it is the one, and remembers it with the crowd."""
        crowd = chosen_crowd(context)
        if crowd is None:
            raise InputError(ELSEWHERE)
        crowd[PHOTO] = str(origin_of(crowd, bpy.path.abspath(self.filepath)).photo)


def _names(people: list[Person]) -> str:
    return people[0].name if len(people) == 1 else f"{len(people)} people"


def _unchanged(people: list[Person]) -> str:
    who = f"{people[0].name} stands" if len(people) == 1 else "These people stand"
    return f"{who} as in the photo; move or pose them first."


CLASSES = (
    CROWDGAUSSIAN_OT_refit,
    CROWDGAUSSIAN_OT_leave_out,
    CROWDGAUSSIAN_OT_bring_back,
    CROWDGAUSSIAN_OT_find_photo,
)
