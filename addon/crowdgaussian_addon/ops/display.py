# SPDX-License-Identifier: GPL-3.0-or-later
"""Operators of the panels Display and Materials: what people show, in which colours, and how."""

from typing import Any

import bpy
import numpy as np
from bpy.props import BoolProperty, EnumProperty, FloatProperty, FloatVectorProperty
from crowdgaussian_shared.errors import InputError, SettingError

from ..scene import static_splats
from ..scene.attributes import mesh_data
from ..scene.people import Person, all_people, require_people
from ..scene.render.display import Where, own_splats, set_level, splat_objects
from ..scene.render.relight import set_lit
from ..scene.render.settings import set_engine, set_render_mode
from ..scene.splats.build import set_input
from ..scene.splats.nodes.project import INPUT_MAX_SIZE, INPUT_MIN_SIZE
from ..scene.splats.recolour import (
    ColorChange,
    brightness,
    has_materials,
    recolour,
    select_faces,
    showing,
)
from ..scene.splats.upgrade import outdated_splats, upgrade_splats
from .base import CrowdOperator, SimpleOperator, SteppedOperator, Steps, count_people

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
    """Copy people, as they are posed now, into Blender's own splats, which hold still"""

    bl_idname = "crowdgaussian.convert_to_native"
    bl_label = "Convert to Native Splats"

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
            clouds.append((person, static_splats.posed_in_world(person)))
        for person, cloud in clouds:
            person.collection.objects.link(
                static_splats.make_native(cloud, f"{person.name} native splats")
            )
            set_level(person, "BODY", ("VIEWPORT", "RENDER"))
            person.body.hide_render = True
            person.body.hide_set(True)
        return f"Converted {count_people(len(clouds))}; their rigs no longer move what you see."


# Skin, hair, clothes and shoes of people: select their splats, give them other colours

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


CLASSES = (
    CROWDGAUSSIAN_OT_select_material,
    CROWDGAUSSIAN_OT_recolour,
    CROWDGAUSSIAN_OT_set_display,
    CROWDGAUSSIAN_OT_set_lit,
    CROWDGAUSSIAN_OT_limit_splats,
    CROWDGAUSSIAN_OT_set_engine,
    CROWDGAUSSIAN_OT_set_colours,
    CROWDGAUSSIAN_OT_upgrade_splats,
    CROWDGAUSSIAN_OT_convert_to_native,
)
