# SPDX-License-Identifier: GPL-3.0-or-later
"""Poses and assets: take a pose, keep a pose, make the library, mark people."""

from contextlib import closing

import bpy
from bpy.props import BoolProperty, EnumProperty, FloatProperty, StringProperty
from crowdgaussian_shared.errors import InputError

from ..scene.people import require_people, selected_people
from ..scene.poses import assets
from ..scene.poses.library import current_pose, find_pose, pose_assets, pose_names, take_pose
from .base import SimpleOperator, SteppedOperator, Steps, count_people

_UNSAVED = "Save the file to get the catalogue as well, then press the button again."
_items: list[tuple[str, str, str]] = []  # Blender keeps no strings of its own


def _pose_items(_self: object, _context: object) -> list[tuple[str, str, str]]:
    global _items
    own = [a.name for a in pose_assets()]
    items = [(n, n, "A pose of this file's library") for n in own]
    items += [(n, n, "Comes with the add-on") for n in pose_names() if n not in own]
    if items != _items:
        _items = items
    return _items


class CROWDGAUSSIAN_OT_apply_pose(SimpleOperator, bpy.types.Operator):
    """Move the selected people (or everybody) into a pose, where they are, facing as they do"""

    bl_idname = "crowdgaussian.apply_pose"
    bl_label = "Apply Pose"

    pose: EnumProperty(name="Pose", items=_pose_items, description="Of the library or built in")
    factor: FloatProperty(
        name="Factor",
        default=1.0,
        min=0.0,
        max=1.0,
        subtype="FACTOR",
        description="How far: 0 stays, 1 is the whole pose",
    )
    key: BoolProperty(
        name="Key",
        default=True,
        description="Key all bones at the current frame, so that the pose stays",
    )

    def run(self, context: bpy.types.Context) -> str:
        """Sets the bones."""
        people = require_people(context)
        targets = [find_pose(self.pose, person) for person in people]
        frame = context.scene.frame_current if self.key else None
        for person, target in zip(people, targets):
            take_pose(person, target, self.factor, frame)
        return f"{self.pose}: {len(people)} posed."


class CROWDGAUSSIAN_OT_add_pose_library(SteppedOperator, bpy.types.Operator):
    """Make pose assets with pictures: T, A, standing, sitting, waving and more, and photo poses"""

    bl_idname = "crowdgaussian.add_pose_library"
    bl_label = "Add Pose Library"

    def steps(self, context: bpy.types.Context) -> Steps:
        """Makes one asset after the other."""
        people = require_people(context)
        saved = assets.write_catalogues()
        with closing(assets.add_library(people)) as steps:
            yield from steps
        return f"{len(pose_assets())} poses in the library." + ("" if saved else f" {_UNSAVED}")


class CROWDGAUSSIAN_OT_save_pose(SimpleOperator, bpy.types.Operator):
    """Keep the pose of the selected person as an asset of the pose library"""

    bl_idname = "crowdgaussian.save_pose"
    bl_label = "Save Pose"

    name: StringProperty(name="Name", default="Pose", description="Of the asset")

    def run(self, context: bpy.types.Context) -> str:
        """Makes the asset."""
        people = selected_people(context) or require_people(context)
        if len(people) != 1:
            raise InputError("Select the one person whose pose you want to keep.")
        if not self.name.strip():
            raise InputError("Give the pose a name.")
        saved = assets.write_catalogues()
        assets.add_pose(self.name.strip(), current_pose(people[0]), people[0])
        return f"{self.name.strip()} is in the library." + ("" if saved else f" {_UNSAVED}")


class CROWDGAUSSIAN_OT_mark_people(SteppedOperator, bpy.types.Operator):
    """Mark each selected person (or everybody) as an asset with a picture, to use in other files"""

    bl_idname = "crowdgaussian.mark_people"
    bl_label = "Mark as Asset"

    clear: BoolProperty(name="Clear", default=False, description="Take the mark away instead")

    def steps(self, context: bpy.types.Context) -> Steps:
        """Marks one after the other; when stopped, marks are taken back."""
        people = require_people(context)
        if self.clear:
            for person in people:
                assets.unmark_person(person)
            return None
        outside = next((p for p in people if p.index < 0), None)
        if outside is not None:
            raise InputError(
                f"{outside.name} is not in a collection of their own; move rig, splats and body "
                "back into one."
            )
        saved = assets.write_catalogues()
        fresh, done = [p for p in people if p.collection.asset_data is None], False
        try:
            for number, person in enumerate(people):
                yield number / len(people), person.name
                assets.mark_person(person)
            done = True
        finally:
            if not done:
                for person in fresh:
                    assets.unmark_person(person)
        marked = f"{count_people(len(people))} in the Asset Browser."
        return marked if saved else f"{marked} {_UNSAVED}"


CLASSES = (
    CROWDGAUSSIAN_OT_apply_pose,
    CROWDGAUSSIAN_OT_add_pose_library,
    CROWDGAUSSIAN_OT_save_pose,
    CROWDGAUSSIAN_OT_mark_people,
)
