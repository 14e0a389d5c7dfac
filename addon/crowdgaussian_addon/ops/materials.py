# SPDX-License-Identifier: GPL-3.0-or-later
"""Skin, hair, clothes and shoes of people: select their splats, give them other colours."""

from typing import Any

import bpy
import numpy as np
from bpy.props import BoolProperty, EnumProperty, FloatProperty, FloatVectorProperty
from crowdgaussian_shared.errors import InputError

from ..scene.attributes import mesh_data
from ..scene.people import Person, require_people
from ..scene.render.display import own_splats
from ..scene.splats.recolour import (
    ColorChange,
    brightness,
    has_materials,
    recolour,
    select_faces,
    showing,
)
from .base import CrowdOperator, SimpleOperator, count_people

MATERIAL_ITEMS = (
    ("upper", "Top", "Shirts, jackets, and dresses down to their hem"),
    ("lower", "Trousers", "Trousers, shorts, skirts"),
    ("shoes", "Shoes", "Shoes, with socks and boots"),
    ("hair", "Hair", "Hair"),
    ("skin", "Skin", "Face, hands, bare arms and legs"),
    ("other", "Other", "Hats, bags, whatever else is worn or held"),
)
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
        people = with_materials(require_people(context))
        if not people:
            raise InputError(NO_MATERIALS)
        shown = [person for person in people if self.of(mesh_data(person.splats)).any()]
        if not shown:
            name = next(name for key, name, _ in MATERIAL_ITEMS if key == self.material)
            raise InputError(f"No splat of those chosen is {name}; choose another material.")
        return shown

    def of(self, mesh: bpy.types.Mesh) -> np.ndarray:
        """The splats of a mesh that are meant.  # [N] bool"""
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
            _edit(context, [person.splats for person in people])
        return f"{count} splats of {count_people(len(people))} selected."


def _edit(context: bpy.types.Context, objects: list[bpy.types.Object]) -> None:
    """Edit Mode of those objects that can be seen, faces selected.

    Raises:
        InputError: none can be seen.
    """
    shown = [obj for obj in objects if obj.name in context.view_layer.objects and obj.visible_get()]
    if not shown:
        raise InputError("The splats are hidden; set Display to Full first.")
    if context.mode != "OBJECT":
        bpy.ops.object.mode_set(mode="OBJECT")
    for obj in context.selected_objects:
        obj.select_set(False)
    for obj in shown:
        obj.select_set(True)
    context.view_layer.objects.active = shown[0]
    context.tool_settings.mesh_select_mode = (False, False, True)
    bpy.ops.object.mode_set(mode="EDIT")


class CROWDGAUSSIAN_OT_recolour(_OnMaterial, SimpleOperator, bpy.types.Operator):
    """Give people's skin, hair, clothes or shoes another colour. Light and shade stay"""

    bl_idname = "crowdgaussian.recolour"
    bl_label = "Recolour"

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
        people = self.wearers(context)
        done: set[bpy.types.Mesh] = set()
        for person in people:
            meshes = own_splats(person, people)
            if meshes[0] in done:
                continue
            done.add(meshes[0])
            change = self._change(meshes[0])
            for mesh in meshes:
                recolour(mesh, self.of(mesh), change)
        for person in people:
            person.splats.update_tag()
        return f"{count_people(len(people))} recoloured."

    def _change(self, mesh: bpy.types.Mesh) -> ColorChange:
        if self.method == "SHIFT":
            return ColorChange.shift(self.hue, self.saturation, self.value)
        return ColorChange.to_colour(np.array(self.colour), brightness(mesh, self.of(mesh)))


CLASSES = (CROWDGAUSSIAN_OT_select_material, CROWDGAUSSIAN_OT_recolour)
