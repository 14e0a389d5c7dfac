# SPDX-License-Identifier: GPL-3.0-or-later
"""Colours of people: splats of a material or a part of the body, recoloured and painted."""

from typing import Any

import bpy
import numpy as np
from bpy.props import BoolProperty, EnumProperty, FloatProperty, FloatVectorProperty
from crowdgaussian_shared.errors import InputError
from crowdgaussian_shared.geometry.skeleton import PARTS

from ..scene.attributes import mesh_data
from ..scene.people import Person, all_people, read_weights, require_people, with_splats
from ..scene.render.display import own_splats, renew_reduced
from ..scene.render.viewport import Look, largest_view, show_as
from ..scene.splats.build import get_inputs, set_input, splat_modifier
from ..scene.splats.edit import selected
from ..scene.splats.material import SOLID
from ..scene.splats.nodes.project import INPUT_DEPTH_SORT
from ..scene.splats.recolour import (
    ColorChange,
    brightness,
    has_materials,
    moved_by,
    recolour,
    select_faces,
    showing,
    take_paint,
)
from .base import CrowdOperator, SimpleOperator, count_people, select_only

# Skin, hair, clothes, shoes and parts of the body: select their splats, recolour them

MATERIAL_ITEMS = (
    ("upper", "Top", "Shirts, jackets, and dresses down to their hem"),
    ("lower", "Trousers", "Trousers, shorts, skirts"),
    ("shoes", "Shoes", "Shoes, with socks and boots"),
    ("hair", "Hair", "Hair"),
    ("skin", "Skin", "Face, hands, bare arms and legs"),
    ("other", "Other", "Hats, bags, whatever else is worn or held"),
)
PART_ITEMS = (
    ("head", "Head", "Head and neck, with hair and hats"),
    ("torso", "Torso", "From the shoulders to the hips"),
    ("arms", "Arms", "Arms to the wrists"),
    ("hands", "Hands", "Hands"),
    ("legs", "Legs", "Legs to the ankles"),
    ("feet", "Feet", "Feet"),
)  # what bones move, so everybody has them
_ANY_ITEMS = (
    ("all", "Everything", "The whole person"),
    ("selected", "Selected Splats", "What is selected in Edit Mode"),
)
_ITEMS = (*MATERIAL_ITEMS, *PART_ITEMS, *_ANY_ITEMS)
_MATERIALS = tuple(key for key, *_ in MATERIAL_ITEMS)  # the others need no knowledge of clothes
NO_MATERIALS = (
    "Nobody chosen has materials; only people of this version's preset open do, so reconstruct "
    "their photo again."
)


def with_materials(people: list[Person]) -> list[Person]:
    """Those of the people whose splats say what they show."""
    return [person for person in with_splats(people) if has_materials(mesh_data(person.splats))]


class _OnMaterial(CrowdOperator):
    """An operator about one material, or one part of the body, of the chosen people."""

    material: EnumProperty(
        name="Material",
        items=(*MATERIAL_ITEMS, *PART_ITEMS),
        default="upper",
        description="Which splats",
    )
    confidence: FloatProperty(
        name="Least Confidence",
        min=0.0,
        max=1.0,
        default=0.0,
        description="Leave out splats whose material is less sure than this",
    )

    def wearers(self, context: bpy.types.Context) -> list[tuple[Person, np.ndarray]]:
        """The chosen people who show the material, with the splats that do, [N] bool.

        Raises:
            InputError: nobody has materials, or nobody shows this one.
        """
        people = with_splats(require_people(context))
        if self.material in _MATERIALS:
            people = with_materials(people)
        if not people:
            raise InputError(NO_MATERIALS)
        meant = [(person, self.of(person)) for person in people]
        shown = [(person, chosen) for person, chosen in meant if chosen.any()]
        if not shown:
            name = next(name for key, name, _ in _ITEMS if key == self.material)
            raise InputError(f"No splat of those chosen is {name}; choose another material.")
        return shown

    def of(self, person: Person) -> np.ndarray:
        """The splats of a person that are meant.  # [N] bool"""
        mesh = mesh_data(person.splats)
        if self.material in PARTS:
            return moved_by(self.material, *read_weights(person.splats, vertices_per_row=4))
        if self.material == "all":
            return np.ones(len(mesh.polygons), bool)
        if self.material == "selected":
            return selected(mesh)
        return showing(mesh, self.material, self.confidence)


class CROWDGAUSSIAN_OT_select_material(_OnMaterial, SimpleOperator, bpy.types.Operator):
    """Select the splats of what people wear or show, or of a part of their bodies, in Edit Mode"""

    bl_idname = "crowdgaussian.select_material"
    bl_label = "Select by Material"
    modes = {"OBJECT", "POSE", "EDIT_MESH"}

    edit: BoolProperty(
        name="Edit Mode", default=True, description="Go to Edit Mode, where the selection shows"
    )

    def run(self, context: bpy.types.Context) -> str:
        """Selects in every chosen person's mesh, and nothing else there."""
        leave_edit_mode(context)
        wearers = self.wearers(context)
        chosen = {mesh_data(person.splats): those for person, those in wearers}
        for mesh, those in chosen.items():
            select_faces(mesh, those)
        count = sum(int(those.sum()) for those in chosen.values())
        if self.edit:
            edit_mode(context, [person.splats for person, _ in wearers])
        return f"{count} splats of {count_people(len(wearers))} selected."


def leave_edit_mode(context: bpy.types.Context) -> None:
    """What was edited reaches the mesh."""
    if context.mode == "EDIT_MESH":
        bpy.ops.object.mode_set(mode="OBJECT")


def edit_mode(context: bpy.types.Context, objects: list[bpy.types.Object]) -> None:
    """Edit Mode of those objects that can be seen, faces selected.

    Raises:
        InputError: none can be seen.
    """
    shown = _in_view(context, objects)
    if context.mode != "OBJECT":
        bpy.ops.object.mode_set(mode="OBJECT")
    select_only(context, shown)
    context.tool_settings.mesh_select_mode = (False, False, True)
    bpy.ops.object.mode_set(mode="EDIT")


def _in_view(context: bpy.types.Context, objects: list[bpy.types.Object]) -> list[bpy.types.Object]:
    shown = [obj for obj in objects if obj.name in context.view_layer.objects and obj.visible_get()]
    if not shown:
        raise InputError("The splats are hidden; set Display to Full first.")
    return shown


class CROWDGAUSSIAN_OT_recolour(_OnMaterial, SimpleOperator, bpy.types.Operator):
    """Give splats another colour: clothes, skin, hair, parts of the body, or what is selected"""

    bl_idname = "crowdgaussian.recolour"
    bl_label = "Recolour"

    modes = {"OBJECT", "POSE", "EDIT_MESH"}

    material: EnumProperty(
        name="Material",
        items=_ITEMS,
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
            ("PAINT", "Paint", "One colour all over, as paint covers light and shade"),
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
    mix: FloatProperty(
        name="Mix", min=0.0, max=1.0, default=1.0, subtype="FACTOR",
        description="How much of the new colours; 0 leaves the old ones",
    )  # fmt: skip

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> Any:
        """Asks for material and colour."""
        return context.window_manager.invoke_props_dialog(self)

    def draw(self, _context: bpy.types.Context) -> None:
        """The dialog and the redo panel: only what the method uses."""
        layout = self.layout
        layout.use_property_split = True
        used = ("hue", "saturation", "value") if self.method == "SHIFT" else ("colour",)
        sure = ("confidence",) if self.material in _MATERIALS else ()
        for name in ("material", "method", *used, "mix", *sure):
            layout.prop(self, name)

    def run(self, context: bpy.types.Context) -> str:
        """Changes the meshes of the chosen people; copies that share them keep theirs."""
        leave_edit_mode(context)
        wearers = self.wearers(context)
        people = [person for person, _ in wearers]
        done: set[bpy.types.Mesh] = set()
        for person, chosen in wearers:
            mesh, *reduced = own_splats(person, people)
            if mesh in done:
                continue
            done.add(mesh)
            change = self._change(mesh, chosen)
            recolour(mesh, chosen, change)
            for other in reduced if self.material in _MATERIALS else ():
                recolour(other, showing(other, self.material, self.confidence), change)
        for person in people:
            if self.material not in _MATERIALS:
                renew_reduced(person, edited=True)
            person.splats.update_tag()
        return f"{count_people(len(people))} recoloured."

    def _change(self, mesh: bpy.types.Mesh, chosen: np.ndarray) -> ColorChange:
        colour = np.array(self.colour)
        if self.method == "SHIFT":
            change = ColorChange.shift(self.hue, self.saturation, self.value)
        elif self.method == "PAINT":
            change = ColorChange.plain(colour)
        else:
            change = ColorChange.to_colour(colour, brightness(mesh, chosen))
        return change.faded(self.mix)


# Splats painted on by Blender's own brushes

PAINTED = "crowdgaussian_painted"  # property of splats being painted on: their Depth Sort before
_shading: list[Look] = []  # of the viewport, as it was before somebody painted


class CROWDGAUSSIAN_OT_paint_splats(SimpleOperator, bpy.types.Operator):
    """Paint on the active person's splats with Blender's brushes; pressed again, show the paint
    in renders and exports. In Edit Mode, only on what is selected"""

    bl_idname = "crowdgaussian.paint_splats"
    bl_label = "Paint"
    modes = {"OBJECT", "POSE", "EDIT_MESH", "PAINT_VERTEX"}

    def run(self, context: bpy.types.Context) -> str:
        """Into Vertex Paint, or out of it with the paint."""
        if context.mode == "PAINT_VERTEX":
            return self._finish(context)
        masked = context.mode == "EDIT_MESH"
        leave_edit_mode(context)
        people = with_splats(require_people(context))
        if not people:
            raise InputError("Their splats were deleted; undo that or import the crowd again.")
        person = next((p for p in people if context.active_object in (p.rig, p.splats)), people[0])
        self._start(context, person, masked)
        return f"Paint on {person.name}, then press Done."

    def _start(self, context: bpy.types.Context, person: Person, masked: bool) -> None:
        obj = _in_view(context, [person.splats])[0]
        mesh = own_splats(person, [person])[0]
        take_paint(mesh)
        mesh.attributes.active_color_name = SOLID
        mesh.use_paint_mask = masked
        if obj.get(PAINTED) is None:  # a brush reaches other splats than sorted ones show
            obj[PAINTED] = bool(get_inputs(splat_modifier(obj))[INPUT_DEPTH_SORT])
        set_input(obj, INPUT_DEPTH_SORT, False)
        select_only(context, [obj])
        bpy.ops.object.mode_set(mode="VERTEX_PAINT")
        view = largest_view(context.window_manager)
        if view is not None and view.shading.type != "SOLID":  # only there strokes show at once
            _shading[:] = [{"shading.type": view.shading.type}]
            view.shading.type = "SOLID"

    def _finish(self, context: bpy.types.Context) -> str:
        bpy.ops.object.mode_set(mode="OBJECT")
        count = 0
        for person in painted(context.scene):
            obj = person.splats
            count += take_paint(mesh_data(obj))
            mesh_data(obj).use_paint_mask = False
            renew_reduced(person, edited=True)
            set_input(obj, INPUT_DEPTH_SORT, bool(obj.pop(PAINTED)))
        view = largest_view(context.window_manager)
        if view is not None and _shading:
            show_as(view, _shading.pop())
        return f"{count} splats painted."


def painted(scene: bpy.types.Scene) -> list[Person]:
    """People who are being painted on."""
    people = all_people(scene)
    return [p for p in people if p.splats is not None and p.splats.get(PAINTED) is not None]


CLASSES = (
    CROWDGAUSSIAN_OT_select_material,
    CROWDGAUSSIAN_OT_recolour,
    CROWDGAUSSIAN_OT_paint_splats,
)
