# SPDX-License-Identifier: GPL-3.0-or-later
"""Splats of people: selected, deleted, cropped, given other colours."""

from typing import Any

import bpy
import numpy as np
from bpy.props import (
    BoolProperty,
    EnumProperty,
    FloatProperty,
    FloatVectorProperty,
    StringProperty,
)
from crowdgaussian_shared.errors import InputError
from mathutils import Matrix, Vector

from ..scene.attributes import mesh_data
from ..scene.export.splats import centres_in_world
from ..scene.people import Person, require_people
from ..scene.render.display import keep_reduced, own_splats, renew_reduced
from ..scene.rig.armature import metres_per_unit
from ..scene.splats.edit import CROP, adrift, around, delete_splats, inside, selected
from ..scene.splats.read import read_gaussians
from ..scene.splats.recolour import (
    ColorChange,
    brightness,
    has_materials,
    recolour,
    select_faces,
    showing,
)
from .base import (
    CrowdOperator,
    SimpleOperator,
    SteppedOperator,
    Steps,
    count_people,
    select_only,
)

# Skin, hair, clothes and shoes of people: select their splats, give them other colours

MATERIAL_ITEMS = (
    ("upper", "Top", "Shirts, jackets, and dresses down to their hem"),
    ("lower", "Trousers", "Trousers, shorts, skirts"),
    ("shoes", "Shoes", "Shoes, with socks and boots"),
    ("hair", "Hair", "Hair"),
    ("skin", "Skin", "Face, hands, bare arms and legs"),
    ("other", "Other", "Hats, bags, whatever else is worn or held"),
)
_ANY_ITEMS = (
    ("all", "Everything", "The whole person"),
    ("selected", "Selected Splats", "What is selected in Edit Mode"),
)
_ANY = tuple(key for key, *_ in _ANY_ITEMS)  # for which nobody needs to know what splats show
NO_MATERIALS = (
    "Nobody chosen has materials; only people of this version's preset open do, so reconstruct "
    "their photo again."
)


def with_materials(people: list[Person]) -> list[Person]:
    """Those of the people whose splats say what they show."""
    meshes = [(person, person.splats) for person in people if person.splats is not None]
    return [person for person, obj in meshes if has_materials(mesh_data(obj))]


class _OnMaterial(CrowdOperator):
    """An operator about one material of the chosen people."""

    material: EnumProperty(
        name="Material", items=MATERIAL_ITEMS, default="upper", description="Which splats"
    )
    confidence: FloatProperty(
        name="Least Confidence",
        min=0.0,
        max=1.0,
        default=0.0,
        description="Leave out splats whose material is less sure than this",
    )

    def wearers(self, context: bpy.types.Context) -> list[Person]:
        """The chosen people who show the material.

        Raises:
            InputError: nobody has materials, or nobody shows this one.
        """
        people = [person for person in require_people(context) if person.splats is not None]
        if self.material not in _ANY:
            people = with_materials(people)
        if not people:
            raise InputError(NO_MATERIALS)
        shown = [person for person in people if self.of(mesh_data(person.splats)).any()]
        if not shown:
            items = (*MATERIAL_ITEMS, *_ANY_ITEMS)
            name = next(name for key, name, _ in items if key == self.material)
            raise InputError(f"No splat of those chosen is {name}; choose another material.")
        return shown

    def of(self, mesh: bpy.types.Mesh) -> np.ndarray:
        """The splats of a mesh that are meant.  # [N] bool"""
        if self.material == "all":
            return np.ones(len(mesh.polygons), bool)
        if self.material == "selected":
            return selected(mesh)
        return showing(mesh, self.material, self.confidence)


class CROWDGAUSSIAN_OT_select_material(_OnMaterial, SimpleOperator, bpy.types.Operator):
    """Select the splats of people that show skin, hair, clothes or shoes, in Edit Mode"""

    bl_idname = "crowdgaussian.select_material"
    bl_label = "Select by Material"

    edit: BoolProperty(
        name="Edit Mode", default=True, description="Go to Edit Mode, where the selection shows"
    )

    def run(self, context: bpy.types.Context) -> str:
        """Selects in every chosen person's mesh, and nothing else there."""
        people = self.wearers(context)
        count = 0
        for mesh in {mesh_data(person.splats) for person in people}:
            chosen = self.of(mesh)
            select_faces(mesh, chosen)
            count += int(chosen.sum())
        if self.edit:
            edit_mode(context, [person.splats for person in people])
        return f"{count} splats of {count_people(len(people))} selected."


def edit_mode(context: bpy.types.Context, objects: list[bpy.types.Object]) -> None:
    """Edit Mode of those objects that can be seen, faces selected.

    Raises:
        InputError: none can be seen.
    """
    shown = [obj for obj in objects if obj.name in context.view_layer.objects and obj.visible_get()]
    if not shown:
        raise InputError("The splats are hidden; set Display to Full first.")
    if context.mode != "OBJECT":
        bpy.ops.object.mode_set(mode="OBJECT")
    select_only(context, shown)
    context.tool_settings.mesh_select_mode = (False, False, True)
    bpy.ops.object.mode_set(mode="EDIT")


class CROWDGAUSSIAN_OT_recolour(_OnMaterial, SimpleOperator, bpy.types.Operator):
    """Give people's skin, hair, clothes or shoes another colour. Light and shade stay"""

    bl_idname = "crowdgaussian.recolour"
    bl_label = "Recolour"

    modes = {"OBJECT", "POSE", "EDIT_MESH"}

    material: EnumProperty(
        name="Material",
        items=(*MATERIAL_ITEMS, *_ANY_ITEMS),
        default="upper",
        description="Which splats",
    )
    method: EnumProperty(
        name="Method",
        default="COLOUR",
        description="What the new colours are",
        items=(
            ("COLOUR", "Colour", "One colour, in the light and shade that is there"),
            ("SHIFT", "Shift", "Another hue, saturation and brightness; patterns stay"),
        ),
    )
    colour: FloatVectorProperty(
        name="Colour",
        subtype="COLOR_GAMMA",
        size=3,
        min=0.0,
        max=1.0,
        default=(0.1, 0.25, 0.6),
        description="Of the cloth in medium light",
    )
    hue: FloatProperty(
        name="Hue", min=-0.5, max=0.5, default=0.0, description="Turn of the hue, 0.5 is opposite"
    )
    saturation: FloatProperty(
        name="Saturation", min=0.0, soft_max=2.0, default=1.0, description="0 is grey, 1 as it is"
    )
    value: FloatProperty(
        name="Value", min=0.0, soft_max=2.0, default=1.0, description="0 is black, 1 as it is"
    )

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> Any:
        """Asks for material and colour."""
        return context.window_manager.invoke_props_dialog(self)

    def draw(self, _context: bpy.types.Context) -> None:
        """The dialog and the redo panel: only what the method uses."""
        layout = self.layout
        layout.use_property_split = True
        used = {"COLOUR": ("colour",), "SHIFT": ("hue", "saturation", "value")}[self.method]
        for name in ("material", "method", *used, "confidence"):
            layout.prop(self, name)

    def run(self, context: bpy.types.Context) -> str:
        """Changes the meshes of the chosen people; copies that share them keep theirs."""
        if context.mode == "EDIT_MESH":
            bpy.ops.object.mode_set(mode="OBJECT")
        people = self.wearers(context)
        done: set[bpy.types.Mesh] = set()
        for person in people:
            meshes = own_splats(person, people)
            if meshes[0] in done:
                continue
            done.add(meshes[0])
            change = self._change(meshes[0])
            for mesh in meshes[:1] if self.material == "selected" else meshes:
                recolour(mesh, self.of(mesh), change)
        for person in people:
            if self.material == "selected":
                renew_reduced(person, edited=True)
            person.splats.update_tag()
        return f"{count_people(len(people))} recoloured."

    def _change(self, mesh: bpy.types.Mesh) -> ColorChange:
        if self.method == "SHIFT":
            return ColorChange.shift(self.hue, self.saturation, self.value)
        return ColorChange.to_colour(np.array(self.colour), brightness(mesh, self.of(mesh)))


# Splats chosen by what they are or where: selected, deleted, or kept alone

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
        if editing:
            bpy.ops.object.mode_set(mode="OBJECT")
        people = [person for person in require_people(context) if person.splats is not None]
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
    CROWDGAUSSIAN_OT_select_material,
    CROWDGAUSSIAN_OT_recolour,
)
