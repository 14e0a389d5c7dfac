# SPDX-License-Identifier: GPL-3.0-or-later
"""Refit people whom an artist moved or posed, leave people out, bring them back."""

import bpy
from bpy.props import BoolProperty, IntProperty, StringProperty
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.scene_edit import SceneEdit

from ..scene.corrections import is_changed, left_out, pose_edit
from ..scene.people import PHOTO_POSE, Person, require_people, selected_people
from .corrections import (
    ELSEWHERE,
    PHOTO,
    CorrectingOperator,
    chosen_crowd,
    one_crowd,
    origin_of,
)
from .steps import SimpleOperator

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
        older = [person for person in people if PHOTO_POSE not in person.rig]
        if older and selected_people(context):
            is_changed(older[0].rig)  # says why not
        changed = [p for p in people if p.index >= 0 and p not in older and is_changed(p.rig)]
        if not changed:
            raise CrowdGaussianError(_unchanged(people))
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
            raise CrowdGaussianError("Select the people to leave out.")
        crowd = one_crowd(people)
        step = SceneEdit(excluded=tuple(person.index for person in people))
        return self.send(crowd, step, f"Leave out {_names(people)}")


class CROWDGAUSSIAN_OT_bring_back(CorrectingOperator, bpy.types.Operator):
    """Build somebody again who was left out of the crowd"""

    bl_idname = "crowdgaussian.bring_back"
    bl_label = "Bring Back"

    person: IntProperty(name="Person", min=0, max=999, options={"SKIP_SAVE"},
                        description="Their number in the crowd")

    def run(self, context: bpy.types.Context) -> str | None:
        """The one person."""
        crowd = chosen_crowd(context)
        if crowd is None or self.person not in left_out(crowd):
            raise CrowdGaussianError(f"Person {self.person:03d} was not left out of this crowd.")
        step = SceneEdit(included=(self.person,))
        return self.send(crowd, step, f"Bring back Person {self.person:03d}")


class CROWDGAUSSIAN_OT_find_photo(SimpleOperator, bpy.types.Operator):
    """Say where the original photo of this crowd is now; corrections need it"""

    bl_idname = "crowdgaussian.find_photo"
    bl_label = "Find Photo"

    filepath: StringProperty(name="Original Photo", subtype="FILE_PATH", options={"SKIP_SAVE"})
    filter_image: BoolProperty(default=True, options={"HIDDEN"})
    filter_folder: BoolProperty(default=True, options={"HIDDEN"})

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        """Opens the file browser."""
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def run(self, context: bpy.types.Context) -> None:
        """Checks that it is the one, and remembers it with the crowd."""
        crowd = chosen_crowd(context)
        if crowd is None:
            raise CrowdGaussianError(ELSEWHERE)
        crowd[PHOTO] = str(origin_of(crowd, bpy.path.abspath(self.filepath)).photo)


def _names(people: list[Person]) -> str:
    return people[0].name if len(people) == 1 else f"{len(people)} people"


def _unchanged(people: list[Person]) -> str:
    who = f"{people[0].name} stands" if len(people) == 1 else "These people stand"
    return f"{who} as in the photo; move or pose them first."


CLASSES = (CROWDGAUSSIAN_OT_refit, CROWDGAUSSIAN_OT_leave_out, CROWDGAUSSIAN_OT_bring_back,
           CROWDGAUSSIAN_OT_find_photo)
