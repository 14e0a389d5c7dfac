# SPDX-License-Identifier: GPL-3.0-or-later
"""People: one-click poses, selecting, duplicating, deleting, hiding; bodies as obstacles."""

import bpy
from bpy.props import (
    BoolProperty,
    EnumProperty,
    FloatVectorProperty,
    IntProperty,
    StringProperty,
)
from crowdgaussian_shared.errors import InputError
from mathutils import Vector

from ..scene.attributes import mesh_data
from ..scene.people import (
    PHOTO_POSE,
    Person,
    all_people,
    people_without_rig,
    require_people,
    selected_people,
)
from ..scene.poses.library import to_photo_pose, to_rest_pose
from ..scene.render.display import splat_objects
from ..scene.rig import body
from ..scene.rig.armature import metres_per_unit
from ..scene.roster import (
    broken_people,
    delete_person,
    delete_rest,
    duplicate_person,
    is_shown,
    rename_person,
    set_shown,
    settle_stray,
    strays,
)
from ..scene.shot import mend, needs_of
from ..scene.splats.build import weights_to_groups
from ..scene.splats.material import WEIGHTS
from .base import CrowdOperator, Result, SimpleOperator, count_people, select_only


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


# People as things: duplicate, delete, rename, hide, isolate, mend

_ASIDE = (0.7, 0.0, 0.0)  # metres: a shoulder's width beside the person


class _OnSelected(CrowdOperator):
    """An operator about people who are selected: everybody would be too many by mistake."""

    modes = {"OBJECT"}

    @classmethod
    def unavailable(cls, context: bpy.types.Context) -> str:
        """Grey while nobody is selected."""
        reason = super().unavailable(context)
        return reason or ("" if selected_people(context) else "Select somebody first.")


class CROWDGAUSSIAN_OT_duplicate_person(_OnSelected, SimpleOperator, bpy.types.Operator):
    """Copy the selected people, each with a name, a rig and a motion of their own"""

    bl_idname = "crowdgaussian.duplicate_person"
    bl_label = "Duplicate"

    offset: FloatVectorProperty(
        name="Offset",
        subtype="TRANSLATION",
        default=_ASIDE,
        description="From where they stand, in metres",
    )
    share: BoolProperty(
        name="Share Splats",
        default=False,
        description="Use the same mesh: a smaller file, but edits show in both",
    )

    def run(self, context: bpy.types.Context) -> str:
        """Copies, and selects the copies."""
        people = selected_people(context)
        scene = context.scene
        offset = Vector(self.offset) / metres_per_unit(scene)
        copies = [duplicate_person(scene, person, offset, self.share) for person in people]
        select_only(context, [person.rig for person in copies])
        return f"{count_people(len(copies))} duplicated"


class CROWDGAUSSIAN_OT_paint_weights(_OnSelected, SimpleOperator, bpy.types.Operator):
    """Make the weights of the selected people's splats vertex groups, for Weight Paint; slower"""

    bl_idname = "crowdgaussian.paint_weights"
    bl_label = "Weights to Paint"

    @classmethod
    def unavailable(cls, context: bpy.types.Context) -> str:
        """Grey where the weights are vertex groups already."""
        reason = super().unavailable(context)
        return reason or ("" if _by_nodes(context) else "They can be painted already.")

    def run(self, context: bpy.types.Context) -> str:
        """An Armature modifier carries them then, in place of the nodes."""
        splats = _by_nodes(context)
        for obj in splats:
            weights_to_groups(obj)
        return f"{len(splats)} splat objects have vertex groups now"


def _by_nodes(context: bpy.types.Context) -> list[bpy.types.Object]:
    """Splats of selected people whose weights are attributes that may be changed."""
    splats = (obj for person in selected_people(context) for obj in splat_objects(person))
    meshes = ((obj, mesh_data(obj)) for obj in splats)
    return [obj for obj, mesh in meshes if mesh.library is None and WEIGHTS in mesh.attributes]


class CROWDGAUSSIAN_OT_delete_person(_OnSelected, SimpleOperator, bpy.types.Operator):
    """Remove the selected people with rig, splats and body"""

    bl_idname = "crowdgaussian.delete_person"
    bl_label = "Delete"

    def run(self, context: bpy.types.Context) -> str:
        """What else hangs on their rigs stays where it is."""
        people = selected_people(context)
        for person in people:
            delete_person(person)
        return f"{count_people(len(people))} deleted"


class CROWDGAUSSIAN_OT_rename_person(_OnSelected, SimpleOperator, bpy.types.Operator):
    """Give the selected person another name: collection, rig, splats and body"""

    bl_idname = "crowdgaussian.rename_person"
    bl_label = "Rename"

    name: StringProperty(name="Name", description="The new name")

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> Result:
        """Asks for the name."""
        self.name = selected_people(context)[0].name
        return context.window_manager.invoke_props_dialog(self)

    def run(self, context: bpy.types.Context) -> None:
        """The first of the selected."""
        if not self.name.strip():
            raise InputError("The name is empty; type one.")
        rename_person(selected_people(context)[0], self.name.strip())


class CROWDGAUSSIAN_OT_hide_person(SimpleOperator, bpy.types.Operator):
    """Hide this person in viewports and renders, or show them again"""

    bl_idname = "crowdgaussian.hide_person"
    bl_label = "Hide or Show"

    person: IntProperty(
        name="Person", min=0, description="Their number in the list", options={"SKIP_SAVE"}
    )
    hide: BoolProperty(
        name="Hide", default=True, description="Off shows them", options={"SKIP_SAVE"}
    )

    def run(self, context: bpy.types.Context) -> None:
        """Their whole collection."""
        people = all_people(context.scene)
        if self.person >= len(people):
            raise InputError("This person is not in the scene any more.")
        set_shown(_whole(people[self.person]), not self.hide)


class CROWDGAUSSIAN_OT_isolate_person(SimpleOperator, bpy.types.Operator):
    """Hide everybody who is not selected; once more shows everybody"""

    bl_idname = "crowdgaussian.isolate_person"
    bl_label = "Isolate"
    modes = {"OBJECT"}

    def run(self, context: bpy.types.Context) -> None:
        """Viewports and renders alike."""
        chosen = {person.rig for person in selected_people(context)}
        people = [p for p in all_people(context.scene) if p.index >= 0]
        others = [person for person in people if person.rig not in chosen]
        if not chosen or not any(is_shown(person) for person in others):
            others = []
        for person in people:
            wanted = person not in others
            if is_shown(person) != wanted:
                set_shown(person, wanted)


class CROWDGAUSSIAN_OT_mend_people(SimpleOperator, bpy.types.Operator):
    """Give rigs that were duplicated by hand splats of their own; delete splats without a rig"""

    bl_idname = "crowdgaussian.mend_people"
    bl_label = "Mend People"
    modes = {"OBJECT"}

    @classmethod
    def unavailable(cls, context: bpy.types.Context) -> str:
        """Grey while nobody is broken."""
        return "" if broken_people(context.scene) else "Everybody has rig and splats."

    def run(self, context: bpy.types.Context) -> str:
        """First those that can be made whole."""
        scene = context.scene
        made = [rig for rig in strays(scene) if settle_stray(scene, rig) is not None]
        lost = people_without_rig(scene)
        for collection in lost:
            delete_rest(collection)
        return f"{count_people(len(made))} made whole, the rest of {len(lost)} deleted"


def _whole(person: Person) -> Person:
    if person.index < 0:
        raise InputError(f"{person.name} has no collection of their own; press Mend People first.")
    return person


CLASSES = (
    CROWDGAUSSIAN_OT_rest_pose,
    CROWDGAUSSIAN_OT_photo_pose,
    CROWDGAUSSIAN_OT_select_person,
    CROWDGAUSSIAN_OT_body_shadow,
    CROWDGAUSSIAN_OT_body_collision,
    CROWDGAUSSIAN_OT_duplicate_person,
    CROWDGAUSSIAN_OT_paint_weights,
    CROWDGAUSSIAN_OT_delete_person,
    CROWDGAUSSIAN_OT_rename_person,
    CROWDGAUSSIAN_OT_hide_person,
    CROWDGAUSSIAN_OT_isolate_person,
    CROWDGAUSSIAN_OT_mend_people,
)
