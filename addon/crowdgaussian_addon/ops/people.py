# SPDX-License-Identifier: GPL-3.0-or-later
"""One-click poses, selecting people, and bodies as shadow casters and obstacles."""

import bpy
from bpy.props import BoolProperty, EnumProperty, IntProperty
from crowdgaussian_shared.errors import CrowdGaussianError

from ..scene.people import PHOTO_POSE, Person, all_people, require_people
from ..scene.poses.library import to_photo_pose, to_rest_pose
from ..scene.rig import body
from .base import SimpleOperator


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
            if PHOTO_POSE not in person.rig:
                raise CrowdGaussianError(
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

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Shift extends."""
        self.extend = event.shift
        return self.execute(context)

    def run(self, context: bpy.types.Context) -> None:
        """Selects and makes active."""
        people = all_people(context.scene)
        if self.person >= len(people):
            raise CrowdGaussianError("This person is not in the scene any more.")
        rig = people[self.person].rig
        if rig.name not in context.view_layer.objects or not rig.visible_get():
            raise CrowdGaussianError(f"{rig.name} is hidden; show it to select it.")
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

    def run(self, context: bpy.types.Context) -> None:
        """All chosen people, or nobody."""
        body.cast_shadows([p.body for p in _with_bodies(require_people(context))], self.enabled)


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
                raise CrowdGaussianError(f"{mesh.name} is not in this view layer; show it first.")
        for mesh in bodies:
            body.set_collision(context, mesh, self.kind)


def _with_bodies(people: list[Person]) -> list[Person]:
    for person in people:
        if person.body is None:
            raise CrowdGaussianError(
                f"{person.name} has no body mesh any more; undo that or import the crowd again."
            )
    return people


CLASSES = (
    CROWDGAUSSIAN_OT_rest_pose,
    CROWDGAUSSIAN_OT_photo_pose,
    CROWDGAUSSIAN_OT_select_person,
    CROWDGAUSSIAN_OT_body_shadow,
    CROWDGAUSSIAN_OT_body_collision,
)
