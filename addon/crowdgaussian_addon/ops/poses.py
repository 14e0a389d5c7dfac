# SPDX-License-Identifier: GPL-3.0-or-later
"""Posing: controls of rigs, poses taken and kept, their library; people as assets."""

from collections.abc import Generator
from contextlib import closing

import bpy
from bpy.props import BoolProperty, EnumProperty, FloatProperty, StringProperty
from crowdgaussian_shared.errors import InputError

from ..scene.people import Person, all_people, require_people, selected_people
from ..scene.poses import assets
from ..scene.poses.library import current_pose, find_pose, pose_assets, pose_names, take_pose
from ..scene.rig import ik
from ..scene.rig.read_pose import Recording, motion_range, moving_frames, record
from .base import CrowdOperator, SimpleOperator, SteppedOperator, Steps, count_people

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


# Controls of rigs: add, switch between IK and FK, remove

_LIMBS = (
    ("ALL", "Arms and Legs", "All four limbs"),
    ("ARMS", "Arms", "Both arms"),
    ("LEGS", "Legs", "Both legs"),
)


def have_controls(context: bpy.types.Context) -> bool:
    """Whether anybody has IK controls."""
    return any(ik.limbs_with_controls(p.rig) for p in all_people(context.scene))


class _OnControls(CrowdOperator):
    """An operator about controls that are there."""

    @classmethod
    def unavailable(cls, context: bpy.types.Context) -> str:
        """Grey while nobody has controls."""
        reason = super().unavailable(context)
        if not reason and not have_controls(context):
            reason = "Nobody has IK controls; add them first."
        return reason


class CROWDGAUSSIAN_OT_add_ik(SteppedOperator, bpy.types.Operator):
    """Add controls to the selected people, or to everybody: IK, root, foot roll, finger curl."""

    bl_idname = "crowdgaussian.add_ik"
    bl_label = "Add Controls"
    bl_description = (
        "Add controls to the selected people, or to everybody: IK for arms and legs, a root, "
        "foot roll, a curl for each hand. The pose stays as it is"
    )

    limbs: EnumProperty(name="Limbs", items=_LIMBS, description="Which limbs get controls")
    motion: BoolProperty(
        name="Follow the Motion",
        default=True,
        description="Key the controls over the whole motion of a person who moves; "
        "otherwise they hold this frame's hands and feet still",
    )
    root: BoolProperty(
        name="Root", default=True, description="A bone at the feet that moves the whole person"
    )
    fingers: BoolProperty(
        name="Fingers", default=True, description="A control for each hand that curls its fingers"
    )

    def steps(self, context: bpy.types.Context) -> Steps:
        """Records the motion first; the rigs change at the end, all at once."""
        people = require_people(context)
        rigs = [person.rig for person in people]
        for rig in rigs:
            ik.require_editable(rig)
        recording = yield from _record(context, rigs if self.motion else [])
        for rig in rigs:
            present = ik.limbs_with_controls(rig)
            wanted = [n for n in ik.all_limbs(self.limbs) if n not in present]
            ik.add_controls(rig, ik.all_limbs(self.limbs), self.root, self.fingers)
            ik.key_recording(rig, wanted, _own(rig, recording), on_controls=True)
        return None


class CROWDGAUSSIAN_OT_remove_ik(_OnControls, SteppedOperator, bpy.types.Operator):
    """Take controls away. People keep the pose and the motion that the controls gave them"""

    bl_idname = "crowdgaussian.remove_ik"
    bl_label = "Remove Controls"

    limbs: EnumProperty(name="Limbs", items=_LIMBS, description="Which limbs lose their controls")

    def steps(self, context: bpy.types.Context) -> Steps:
        """Records the motion first; the rigs change at the end, all at once."""
        rigs = [person.rig for person in _with_controls(require_people(context))]
        for rig in rigs:
            ik.require_editable(rig)
        recording = yield from _record(context, rigs)
        for rig in rigs:
            present = ik.limbs_with_controls(rig)
            doomed = [n for n in ik.all_limbs(self.limbs) if n in present]
            own = _own(rig, recording)
            followed = ik.followed_parts(rig, doomed, own)
            ik.remove_controls(rig, doomed, followed)
            ik.keep_parts(rig, followed)
            ik.key_recording(rig, followed, own, on_controls=False)
        return None


class CROWDGAUSSIAN_OT_switch_ik(_OnControls, SimpleOperator, bpy.types.Operator):
    """Let limbs follow their IK controls, or turn them by their own bones."""

    bl_idname = "crowdgaussian.switch_ik"
    bl_label = "Switch IK and FK"
    bl_description = (
        "Let limbs follow their IK controls, or turn them by their own bones. "
        "The pose of this frame does not jump"
    )

    limbs: EnumProperty(name="Limbs", items=_LIMBS, description="Which limbs are switched")
    to: EnumProperty(
        name="To",
        description="What moves the limbs from now on",
        items=(
            ("IK", "IK", "Hands and feet are put where their controls are"),
            ("FK", "FK", "Upper arms, forearms, thighs and shins are turned one by one"),
        ),
    )

    def run(self, context: bpy.types.Context) -> None:
        """Snaps, then switches."""
        for person in _with_controls(require_people(context)):
            present = ik.limbs_with_controls(person.rig)
            names = [n for n in ik.all_limbs(self.limbs) if n in present]
            for name in names:
                ik.switch_controls(person.rig, name, self.to == "IK")
            if self.to == "FK":
                ik.keep_parts(person.rig, names)


def _with_controls(people: list[Person]) -> list[Person]:
    return [person for person in people if ik.limbs_with_controls(person.rig)]


def _record(
    context: bpy.types.Context, rigs: list[bpy.types.Object]
) -> Generator[tuple[float, str], None, Recording]:
    """Everybody's pose in all frames in which they move."""
    frames = moving_frames(rigs)
    recording: Recording = {}
    for done, (frame, noted) in enumerate(record(context.scene, rigs, frames)):
        recording = noted
        yield (done + 1) / (len(frames) + 1), f"frame {frame}"
    return recording


def _own(rig: bpy.types.Object, recording: Recording) -> Recording:
    """The part of a recording in which a rig's own keys say anything."""
    frames = motion_range(rig)
    if frames is None or frames[0] == frames[1]:
        return {}
    return {f: poses for f, poses in recording.items() if frames[0] <= f <= frames[1]}


CLASSES = (
    CROWDGAUSSIAN_OT_add_ik,
    CROWDGAUSSIAN_OT_remove_ik,
    CROWDGAUSSIAN_OT_switch_ik,
    CROWDGAUSSIAN_OT_apply_pose,
    CROWDGAUSSIAN_OT_add_pose_library,
    CROWDGAUSSIAN_OT_save_pose,
    CROWDGAUSSIAN_OT_mark_people,
)
