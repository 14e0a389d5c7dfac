# SPDX-License-Identifier: GPL-3.0-or-later
"""One-click poses, selecting people, IK controls, bodies as shadow casters and obstacles."""

from collections.abc import Generator

import bpy
from bpy.props import BoolProperty, EnumProperty, IntProperty
from crowdgaussian_shared.errors import InputError

from ..scene.people import PHOTO_POSE, Person, all_people, require_people
from ..scene.poses.library import to_photo_pose, to_rest_pose
from ..scene.rig import body, ik
from ..scene.shot import mend, needs_of
from .base import CrowdOperator, Result, SimpleOperator, SteppedOperator, Steps


class CROWDGAUSSIAN_OT_rest_pose(SimpleOperator, bpy.types.Operator):
    """Stand people upright with straight arms, on the spot."""

    bl_idname = "crowdgaussian.rest_pose"
    bl_label = "Rest Pose"
    bl_description = (
        "Stand people upright with straight arms, on the spot. "
        "Their motion is taken off but stays in the file"
    )

    def run(self, context: bpy.types.Context) -> None:
        """All chosen people."""
        for person in require_people(context):
            to_rest_pose(person.rig)


class CROWDGAUSSIAN_OT_photo_pose(SimpleOperator, bpy.types.Operator):
    """Bring back the pose of the photo. A motion is taken off but stays in the file"""

    bl_idname = "crowdgaussian.photo_pose"
    bl_label = "Photo Pose"

    back: BoolProperty(
        name="Back to the Photo's Place",
        default=False,
        description="Also put them where they stood in the photo",
    )

    def run(self, context: bpy.types.Context) -> None:
        """All chosen people, or nobody."""
        people = require_people(context)
        for person in people:
            if person.rig.get(PHOTO_POSE) is None:
                raise InputError(
                    f"{person.name} comes from an older file that does not hold the photo's pose; "
                    "import the crowd again."
                )
        for person in people:
            to_photo_pose(person.rig, self.back)


class CROWDGAUSSIAN_OT_select_person(SimpleOperator, bpy.types.Operator):
    """Select this person's rig. Shift-click adds to the selection"""

    bl_idname = "crowdgaussian.select_person"
    bl_label = "Select Person"
    modes = {"OBJECT"}

    person: IntProperty(
        name="Person", min=0, description="Their number in the list", options={"SKIP_SAVE"}
    )
    extend: BoolProperty(
        name="Extend", description="Keep the others selected", options={"SKIP_SAVE"}
    )

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> Result:
        """Shift extends."""
        self.extend = event.shift
        return self.execute(context)

    def run(self, context: bpy.types.Context) -> None:
        """Selects and makes active."""
        people = all_people(context.scene)
        if self.person >= len(people):
            raise InputError("This person is not in the scene any more.")
        rig = people[self.person].rig
        if rig.name not in context.view_layer.objects or not rig.visible_get():
            raise InputError(f"{rig.name} is hidden; show it to select it.")
        if not self.extend:
            for obj in context.selected_objects:
                obj.select_set(False)
        rig.select_set(True)
        context.view_layer.objects.active = rig


class CROWDGAUSSIAN_OT_body_shadow(SimpleOperator, bpy.types.Operator):
    """Let the body meshes throw the shadows of their people, unseen themselves."""

    bl_idname = "crowdgaussian.body_shadow"
    bl_label = "Body Shadows"
    bl_description = (
        "Let the body meshes throw the shadows of their people, unseen themselves. "
        "Splats never throw any"
    )

    enabled: BoolProperty(name="Shadows", default=True, description="Off takes the shadows away")

    def run(self, context: bpy.types.Context) -> str | None:
        """All chosen people, or nobody; the crowd's ground catches them where nothing else does."""
        body.cast_shadows([p.body for p in _with_bodies(require_people(context))], self.enabled)
        if not any(need.kind == "GROUND" for need in needs_of(context.scene)):
            return None
        mend(context.scene, "GROUND")
        return "The ground is in renders now, to catch the shadows of lights that you add."


class CROWDGAUSSIAN_OT_body_collision(SimpleOperator, bpy.types.Operator):
    """Make the body meshes obstacles for cloth, particles and rigid bodies, or stop that"""

    bl_idname = "crowdgaussian.body_collision"
    bl_label = "Body Collision"
    modes = {"OBJECT"}

    kind: EnumProperty(
        name="Obstacle For",
        description="What collides with the bodies",
        items=(
            ("SOFT", "Cloth and Particles", "A Collision modifier after the skinning"),
            ("RIGID", "Rigid Bodies", "A passive, animated rigid body in the mesh's shape"),
            ("NONE", "Nothing", "Take the obstacle away"),
        ),
    )

    def run(self, context: bpy.types.Context) -> None:
        """All chosen people, or nobody."""
        bodies = [person.body for person in _with_bodies(require_people(context))]
        for mesh in bodies:
            if mesh.name not in context.view_layer.objects:
                raise InputError(f"{mesh.name} is not in this view layer; show it first.")
        for mesh in bodies:
            body.set_collision(context, mesh, self.kind)


def _with_bodies(people: list[Person]) -> list[Person]:
    for person in people:
        if person.body is None:
            raise InputError(
                f"{person.name} has no body mesh any more; undo that or import the crowd again."
            )
    return people


# IK controls of arms and legs: add, switch, remove

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
    """Add IK controls to the arms and legs of the selected people, or of everybody."""

    bl_idname = "crowdgaussian.add_ik"
    bl_label = "Add IK Controls"
    bl_description = (
        "Add IK controls to the arms and legs of the selected people, or of everybody. "
        "The pose stays as it is"
    )

    limbs: EnumProperty(name="Limbs", items=_LIMBS, description="Which limbs get controls")
    motion: BoolProperty(
        name="Follow the Motion",
        default=True,
        description="Key the controls over the whole motion of a person who moves; "
        "otherwise they hold this frame's hands and feet still",
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
            ik.add_controls(rig, wanted)
            ik.key_recording(rig, wanted, _own(rig, recording), on_controls=True)
        return None


class CROWDGAUSSIAN_OT_remove_ik(_OnControls, SteppedOperator, bpy.types.Operator):
    """Take IK controls away. The limbs keep the pose and the motion that the controls gave them"""

    bl_idname = "crowdgaussian.remove_ik"
    bl_label = "Remove IK Controls"

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
            followed = [n for n in doomed if ik.ik_is_on(rig, n)]
            ik.remove_controls(rig, doomed)
            ik.keep_limbs(rig, followed)
            ik.key_recording(rig, followed, _own(rig, recording), on_controls=False)
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
                ik.keep_limbs(person.rig, names)


def _with_controls(people: list[Person]) -> list[Person]:
    return [person for person in people if ik.limbs_with_controls(person.rig)]


def _record(
    context: bpy.types.Context, rigs: list[bpy.types.Object]
) -> Generator[tuple[float, str], None, ik.Recording]:
    """Everybody's pose in all frames in which they move."""
    frames = ik.moving_frames(rigs)
    recording: ik.Recording = {}
    for done, (frame, noted) in enumerate(ik.record(context.scene, rigs, frames)):
        recording = noted
        yield (done + 1) / (len(frames) + 1), f"frame {frame}"
    return recording


def _own(rig: bpy.types.Object, recording: ik.Recording) -> ik.Recording:
    """The part of a recording in which a rig's own keys say anything."""
    frames = ik.motion_range(rig)
    if frames is None or frames[0] == frames[1]:
        return {}
    return {f: poses for f, poses in recording.items() if frames[0] <= f <= frames[1]}


CLASSES = (
    CROWDGAUSSIAN_OT_rest_pose,
    CROWDGAUSSIAN_OT_photo_pose,
    CROWDGAUSSIAN_OT_select_person,
    CROWDGAUSSIAN_OT_body_shadow,
    CROWDGAUSSIAN_OT_body_collision,
    CROWDGAUSSIAN_OT_add_ik,
    CROWDGAUSSIAN_OT_remove_ik,
    CROWDGAUSSIAN_OT_switch_ik,
)
