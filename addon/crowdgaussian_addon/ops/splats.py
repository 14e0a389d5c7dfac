# SPDX-License-Identifier: GPL-3.0-or-later
"""Splats of people: how many show, in which light and engine; chosen, deleted, cropped."""

from typing import Any

import bpy
import numpy as np
from bpy.props import BoolProperty, EnumProperty, FloatProperty, StringProperty
from crowdgaussian_shared.errors import InputError, SettingError
from mathutils import Matrix, Vector

from ..scene import static_splats
from ..scene.attributes import mesh_data
from ..scene.export.splats import centres_in_world
from ..scene.people import Person, all_people, require_people, with_splats
from ..scene.render.display import (
    Where,
    keep_reduced,
    own_splats,
    renew_reduced,
    set_level,
    splat_objects,
)
from ..scene.render.relight import set_lit
from ..scene.render.settings import set_engine, set_render_mode
from ..scene.rig.armature import metres_per_unit
from ..scene.splats.build import set_input
from ..scene.splats.edit import CROP, adrift, around, delete_splats, inside, selected
from ..scene.splats.nodes.project import INPUT_MAX_SIZE, INPUT_MIN_SIZE
from ..scene.splats.read import read_gaussians
from ..scene.splats.recolour import select_faces
from ..scene.splats.upgrade import outdated_splats, upgrade_splats
from .base import SimpleOperator, SteppedOperator, Steps, count_people, select_only
from .recolour import edit_mode, leave_edit_mode

LEVELS = (
    ("BODY", "Body", "The body mesh alone: nothing of the splats is evaluated"),
    ("REDUCED", "Reduced", "A quarter of the splats, grown to cover the same"),
    ("FULL", "Full", "All splats"),
)
_WHERE = (
    ("VIEWPORT", "Viewport", "In 3D viewports"),
    ("RENDER", "Render", "In renders"),
    ("BOTH", "Both", "In viewports and renders"),
)
_WHO = (
    ("CHOSEN", "Chosen", "The selected people, or everybody when nobody is selected"),
    ("ALL", "Everybody", "Everybody in the scene"),
)


def _people(context: bpy.types.Context, who: str) -> list[Person]:
    return all_people(context.scene) if who == "ALL" else require_people(context)


class CROWDGAUSSIAN_OT_set_display(SteppedOperator, bpy.types.Operator):
    """Show people as body mesh, reduced splats or all splats"""

    bl_idname = "crowdgaussian.set_display"
    bl_label = "Set Display"
    level: EnumProperty(
        name="Level", items=LEVELS, default="FULL", description="How much of people is shown"
    )
    where: EnumProperty(
        name="Where", items=_WHERE, default="VIEWPORT", description="Where the level counts"
    )
    who: EnumProperty(name="Who", items=_WHO, default="CHOSEN", description="Whom this is about")

    @classmethod
    def description(cls, _context: bpy.types.Context, properties: Any) -> str:
        """The level's own words."""
        return next(text for key, _, text in LEVELS if key == properties.level)

    def steps(self, context: bpy.types.Context) -> Steps:
        """One person a step; making the reduced splats takes a moment the first time."""
        both: tuple[Where, ...] = ("VIEWPORT", "RENDER")
        where = both if self.where == "BOTH" else (self.where,)
        people = _people(context, self.who)
        for number, person in enumerate(people):
            yield number / len(people), person.name
            set_level(person, self.level, where)
        return None


class CROWDGAUSSIAN_OT_set_lit(SteppedOperator, bpy.types.Operator):
    """Let the scene's lights shade people, or let them glow in the light of the photo"""

    bl_idname = "crowdgaussian.set_lit"
    bl_label = "Shade by Lights"
    lit: BoolProperty(name="Shaded by Lights", default=True,
                      description="Splats take the normals of the body underneath")  # fmt: skip
    normals: BoolProperty(name="Normal Pass", default=False, options={"SKIP_SAVE"},
                          description="Off: renders show quads that face the camera in their "
                          "Normal pass; on: the body underneath, in unchanged colours")  # fmt: skip
    who: EnumProperty(name="Who", items=_WHO, default="CHOSEN", description="Whom this is about")

    def steps(self, context: bpy.types.Context) -> Steps:
        """One person a step."""
        people = _people(context, self.who)
        for number, person in enumerate(people):
            yield number / len(people), person.name
            set_lit(person, self.lit, self.normals)
        return None


class CROWDGAUSSIAN_OT_limit_splats(SimpleOperator, bpy.types.Operator):
    """Limit how thin and how large the splats of people may be"""

    bl_idname = "crowdgaussian.limit_splats"
    bl_label = "Limit Splat Sizes"
    least: FloatProperty(name="Thinnest", subtype="DISTANCE", min=0.0, soft_max=0.05, default=0.0,
                         description="Least standard deviation; 0 for no limit")  # fmt: skip
    most: FloatProperty(name="Largest", subtype="DISTANCE", min=0.0, soft_max=0.2, default=0.0,
                        description="Greatest standard deviation; 0 for no limit")  # fmt: skip
    who: EnumProperty(name="Who", items=_WHO, default="CHOSEN", description="Whom this is about")

    def run(self, context: bpy.types.Context) -> None:
        """Sets the nodes' inputs."""
        if 0 < self.most < self.least:
            raise SettingError("The largest size is below the thinnest; raise it or set 0.")
        for person in _people(context, self.who):
            for obj in splat_objects(person):
                set_input(obj, INPUT_MIN_SIZE, self.least)
                set_input(obj, INPUT_MAX_SIZE, self.most)


class CROWDGAUSSIAN_OT_set_engine(SimpleOperator, bpy.types.Operator):
    """Set the render engine up for splats"""

    bl_idname = "crowdgaussian.set_engine"
    bl_label = "Set Up Engine"
    engine: EnumProperty(name="Engine", description="What renders", items=(
        ("CYCLES", "Cycles", "Exact; enough transparent bounces, no depth sorting"),
        ("EEVEE", "EEVEE", "Faster with a GPU; splats are sorted by depth and blended"),
    ))  # fmt: skip

    def run(self, context: bpy.types.Context) -> None:
        """Sets the scene and everybody's nodes."""
        set_engine(context.scene, self.engine)


class CROWDGAUSSIAN_OT_set_colours(SimpleOperator, bpy.types.Operator):
    """Set colours, view transform and pixel filter together"""

    bl_idname = "crowdgaussian.set_colours"
    bl_label = "Set Up Colours"
    mode: EnumProperty(name="Colours", description="How splats are coloured", items=(
        ("photo", "Match the Photo", "Exactly the fitted colours: view transform Raw, no filter"),
        ("linear", "Scene Linear", "For people among lit objects: view transform Standard"),
    ))  # fmt: skip

    def run(self, context: bpy.types.Context) -> None:
        """Sets the scene and the materials."""
        set_render_mode(context.scene, self.mode)


class CROWDGAUSSIAN_OT_upgrade_splats(SimpleOperator, bpy.types.Operator):
    """Give splats of an older file the nodes and materials of this version"""

    bl_idname = "crowdgaussian.upgrade_splats"
    bl_label = "Upgrade Splats"

    @classmethod
    def unavailable(cls, context: bpy.types.Context) -> str:
        """Only where something is old."""
        reason = super().unavailable(context)
        return reason or ("" if outdated_splats() else "All splats are up to date.")

    def run(self, _context: bpy.types.Context) -> str:
        """Upgrades the whole file."""
        return f"Upgraded the splats of {upgrade_splats()} objects."


class CROWDGAUSSIAN_OT_convert_to_native(SteppedOperator, bpy.types.Operator):
    """Copy people into Blender's own splats, which move with the rigs or hold still"""

    bl_idname = "crowdgaussian.convert_to_native"
    bl_label = "Convert to Native Splats"

    moving: BoolProperty(
        name="Follow the Rig",
        default=True,
        description="Off: as they are posed now, with view-dependent colours, and still",
    )

    @classmethod
    def unavailable(cls, context: bpy.types.Context) -> str:
        """Only where Blender has splats."""
        return super().unavailable(context) or static_splats.why_not()

    def steps(self, context: bpy.types.Context) -> Steps:
        """All are computed before the first is made."""
        people = require_people(context)
        clouds = []
        for number, person in enumerate(people):
            yield number / len(people), person.name
            cloud = None if self.moving else static_splats.posed_in_world(person)
            clouds.append((person, cloud))
        for person, cloud in clouds:
            name = f"{person.name} native splats"
            person.collection.objects.link(
                static_splats.make_following(person)
                if cloud is None
                else static_splats.make_native(cloud, name)
            )
            set_level(person, "BODY", ("VIEWPORT", "RENDER"))
            person.body.hide_render = True
            person.body.hide_set(True)
        still = "" if self.moving else "; their rigs no longer move what you see"
        return f"Converted {count_people(len(clouds))}{still}."


# Splats chosen by what they are or where: selected, deleted, kept alone, decimated

_BY = (
    ("SELECTED", "Selected", "What is selected in Edit Mode"),
    ("INSIDE", "Inside", "What the box or the sphere holds, as people are posed now"),
    ("SIZE", "Size", "Splats that are larger than a limit"),
    ("OPACITY", "Opacity", "Splats that are fainter than a limit"),
    ("FLOATERS", "Floaters", "Small groups that hang together with nothing"),
)
_ACTIONS = (
    ("SELECT", "Select", "Select them in Edit Mode"),
    ("DELETE", "Delete", "Delete them"),
    ("KEEP", "Keep", "Delete all others"),
)
_MARGIN = 0.05  # metres: a box around people holds their splats, which reach beyond joints


class CROWDGAUSSIAN_OT_edit_splats(SimpleOperator, bpy.types.Operator):
    """Select or delete splats of the selected people, or of everybody, by size, opacity or place"""

    bl_idname = "crowdgaussian.edit_splats"
    bl_label = "Edit Splats"
    modes = {"OBJECT", "POSE", "EDIT_MESH"}

    by: EnumProperty(name="By", items=_BY, default="SELECTED", description="Which splats")
    action: EnumProperty(
        name="Action", items=_ACTIONS, default="SELECT", description="What becomes of them"
    )
    size: FloatProperty(
        name="Larger Than", subtype="DISTANCE", min=0.0, soft_max=0.2, default=0.012,
        description="Standard deviation; 1 in 200 is larger with 15,000 splats a person",
    )  # fmt: skip
    opacity: FloatProperty(
        name="Fainter Than", min=0.0, max=1.0, default=0.5, description="Of opacity, 1 is solid"
    )
    gap: FloatProperty(
        name="Gap", subtype="DISTANCE", min=0.005, soft_max=0.2, default=0.03,
        description="What is farther off belongs to another group",
    )  # fmt: skip
    share: FloatProperty(
        name="Smaller Than", min=0.0, max=1.0, default=0.01,
        description="Share of a person's splats below which a group floats",
    )  # fmt: skip
    gizmo: StringProperty(
        name="Box or Sphere", description="Name of an empty; without one the last that was added"
    )

    @classmethod
    def description(cls, _context: bpy.types.Context, properties: Any) -> str:
        """What this button would do."""
        words = {key: text for key, _, text in (*_BY, *_ACTIONS)}
        return f"{words[properties.by]}: {words[properties.action].lower()}"

    def draw(self, _context: bpy.types.Context) -> None:
        """The redo panel: only what counts."""
        used = {"SIZE": ("size",), "OPACITY": ("opacity",), "FLOATERS": ("gap", "share"),
                "INSIDE": ("gizmo",), "SELECTED": ()}[self.by]  # fmt: skip
        self.layout.use_property_split = True
        for name in ("by", "action", *used):
            self.layout.prop(self, name)

    def run(self, context: bpy.types.Context) -> str:
        """Chooses in everybody's splats before any is changed."""
        editing = context.mode == "EDIT_MESH"
        leave_edit_mode(context)
        people = with_splats(require_people(context))
        chosen = {person.rig: self._choose(context, person) for person in people}
        if self.action == "KEEP":
            chosen = {rig: ~those for rig, those in chosen.items()}
        touched = [person for person in people if chosen[person.rig].any()]
        count = sum(int(chosen[person.rig].sum()) for person in touched)
        if not count:
            raise InputError("No splat of those chosen is meant; nothing was changed.")
        if any(chosen[person.rig].all() for person in touched) and self.action != "SELECT":
            raise InputError("Somebody would lose all their splats; nothing was changed.")
        if self.action == "SELECT":
            for person in touched:
                select_faces(mesh_data(person.splats), chosen[person.rig])
            edit_mode(context, [person.splats for person in touched])
            return f"{count} splats of {count_people(len(touched))} selected."
        self._delete(touched, chosen)
        if editing:
            bpy.ops.object.mode_set(mode="EDIT")
        return f"{count} splats of {count_people(len(touched))} deleted."

    def _delete(self, people: list[Person], chosen: dict[bpy.types.Object, np.ndarray]) -> None:
        done: set[bpy.types.Mesh] = set()
        for person in people:
            mesh = own_splats(person, people)[0]
            if mesh not in done:
                done.add(mesh)
                delete_splats(mesh, chosen[person.rig])
        for person in people:
            renew_reduced(person)
            person.splats.update_tag()

    def _choose(self, context: bpy.types.Context, person: Person) -> np.ndarray:
        """[N] bool."""
        if self.by == "SELECTED":
            return selected(mesh_data(person.splats))
        if self.by == "INSIDE":
            return inside(centres_in_world(person), self._gizmo(context))
        gaussians = read_gaussians(person.splats)
        if self.by == "SIZE":
            return gaussians.scales.max(axis=1) > self.size
        if self.by == "OPACITY":
            return gaussians.opacities < self.opacity
        return adrift(gaussians.means, self.gap, self.share)

    def _gizmo(self, context: bpy.types.Context) -> bpy.types.Object:
        named: bpy.types.Object | None = context.scene.objects.get(self.gizmo)
        ours = [obj for obj in context.scene.objects if obj.get(CROP)]
        gizmo = named or (ours[-1] if ours else None)
        if gizmo is None or gizmo.type != "EMPTY":
            raise InputError("There is no box or sphere to crop by; add one first.")
        return gizmo


class CROWDGAUSSIAN_OT_add_crop(SimpleOperator, bpy.types.Operator):
    """Add a box or a sphere around the selected people, or everybody, to crop their splats by"""

    bl_idname = "crowdgaussian.add_crop"
    bl_label = "Add Crop"
    modes = {"OBJECT"}

    shape: EnumProperty(name="Shape", description="Of what crops", items=(
        ("CUBE", "Box", "Move, turn and scale it"),
        ("SPHERE", "Sphere", "Move and scale it"),
    ))  # fmt: skip

    def run(self, context: bpy.types.Context) -> None:
        """An empty, selected, in the scene's own collection."""
        clouds = [centres_in_world(person) for person in require_people(context)]
        place = around(np.concatenate(clouds), _MARGIN / metres_per_unit(context.scene))
        gizmo = bpy.data.objects.new("Crop", None)
        gizmo[CROP] = True
        gizmo.empty_display_type, gizmo.empty_display_size = self.shape, 1.0
        if self.shape == "SPHERE":
            reach = float(np.linalg.norm(np.array(place.to_scale())))
            place = Matrix.LocRotScale(place.to_translation(), None, Vector((reach,) * 3))
        context.scene.collection.objects.link(gizmo)
        gizmo.matrix_world = place
        select_only(context, [gizmo])


class CROWDGAUSSIAN_OT_decimate_splats(SteppedOperator, bpy.types.Operator):
    """Keep a quarter of people's splats, grown to cover what all of them cover"""

    bl_idname = "crowdgaussian.decimate_splats"
    bl_label = "Decimate"
    modes = {"OBJECT"}

    def steps(self, context: bpy.types.Context) -> Steps:
        """One person a step."""
        people = require_people(context)
        for number, person in enumerate(people):
            yield number / len(people), person.name
            keep_reduced(person)
        return f"{count_people(len(people))} decimated."


CLASSES = (
    CROWDGAUSSIAN_OT_edit_splats,
    CROWDGAUSSIAN_OT_add_crop,
    CROWDGAUSSIAN_OT_decimate_splats,
    CROWDGAUSSIAN_OT_set_display,
    CROWDGAUSSIAN_OT_set_lit,
    CROWDGAUSSIAN_OT_limit_splats,
    CROWDGAUSSIAN_OT_set_engine,
    CROWDGAUSSIAN_OT_set_colours,
    CROWDGAUSSIAN_OT_upgrade_splats,
    CROWDGAUSSIAN_OT_convert_to_native,
)
