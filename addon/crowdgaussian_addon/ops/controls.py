# SPDX-License-Identifier: GPL-3.0-or-later
"""Controls of rigs: add, switch between IK and FK, remove."""

from collections.abc import Generator

import bpy
from bpy.props import BoolProperty, EnumProperty

from ..scene.people import Person, all_people, require_people
from ..scene.rig import ik
from ..scene.rig.read_pose import Recording, motion_range, moving_frames, record
from .base import CrowdOperator, SimpleOperator, SteppedOperator, Steps

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
)
