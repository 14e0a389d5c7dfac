# SPDX-License-Identifier: GPL-3.0-or-later
"""Scattering copies of people, and turning a copy into a person of their own."""

import bpy
import numpy as np
from bpy.props import BoolProperty, EnumProperty, FloatProperty, IntProperty, StringProperty
from crowdgaussian_shared.errors import InputError

from ..scene.layout.instances import make_person
from ..scene.layout.scatter import (
    Places,
    ScatterOptions,
    is_copy,
    places_along_curve,
    places_on_surface,
    scatter,
)
from ..scene.people import ROLE, require_people
from .base import SimpleOperator, SteppedOperator, Steps
from .layout import object_named


class CROWDGAUSSIAN_OT_scatter(SteppedOperator, bpy.types.Operator):
    """Scatter copies of the chosen people over a mesh or along a curve; copies share memory"""

    bl_idname = "crowdgaussian.scatter"
    bl_label = "Scatter Copies"
    modes = {"OBJECT"}

    over: EnumProperty(
        name="Where",
        description="What the copies stand on",
        items=(
            ("SURFACE", "Over a Surface", "Anywhere on a mesh that is not too steep"),
            ("CURVE", "Along a Curve", "In a line, facing where the curve leads"),
        ),
    )
    target: StringProperty(name="Object", description="The mesh or the curve")
    count: IntProperty(
        name="Copies",
        default=20,
        min=1,
        soft_max=200,
        max=10000,
        description="How many; fewer where there is no room",
    )
    spacing: FloatProperty(
        name="Spacing",
        default=0.7,
        min=0.0,
        soft_max=3.0,
        unit="LENGTH",
        description="On a surface: the least distance between two copies",
    )
    width: FloatProperty(
        name="Width",
        default=0.3,
        min=0.0,
        soft_max=5.0,
        unit="LENGTH",
        description="On a curve: how far copies may stand beside it",
    )
    variants: IntProperty(
        name="Variants",
        default=2,
        min=1,
        max=10,
        description="Different poses of each person; each costs memory, copies do not",
    )
    bend: FloatProperty(
        name="Pose Variation",
        default=0.12,
        min=0.0,
        soft_max=0.5,
        subtype="ANGLE",
        description="How far arms, neck and back of the variants turn at random",
    )
    delay: IntProperty(
        name="Time Offset",
        default=24,
        min=0,
        soft_max=250,
        subtype="TIME",
        description="At most so many frames a variant's motion is ahead",
    )
    turn: FloatProperty(
        name="Turn",
        default=0.3,
        min=0.0,
        max=np.pi,
        subtype="ANGLE",
        description="At most so far copies turn away from their heading",
    )
    size: FloatProperty(
        name="Size Variation",
        default=0.05,
        min=0.0,
        max=0.5,
        subtype="FACTOR",
        description="At most so much larger or smaller",
    )
    reduced: BoolProperty(
        name="Reduced Splats",
        default=False,
        description="Copies show a quarter of the splats: for the distance",
    )
    seed: IntProperty(name="Seed", default=0, min=0, description="Another number, another crowd")

    def steps(self, context: bpy.types.Context) -> Steps:
        """Finds places, makes actors, instances them."""
        people = require_people(context)
        rng = np.random.default_rng(self.seed)
        places = self._places(context, rng)
        options = ScatterOptions(
            self.variants, self.delay, self.bend, self.turn, self.size, self.reduced, self.seed
        )
        yield from scatter(context.scene, people, places, options)
        missing = self.count - len(places.points)
        return f"There was no room for {missing} of {self.count} copies." if missing else None

    def _places(self, context: bpy.types.Context, rng: np.random.Generator) -> Places:
        if self.over == "CURVE":
            curve = object_named(context, self.target, "curve")
            return places_along_curve(curve, self.count, self.width, rng)
        surface = object_named(context, self.target, "surface")
        return places_on_surface(surface, self.count, self.spacing, rng)


class CROWDGAUSSIAN_OT_make_real(SimpleOperator, bpy.types.Operator):
    """Turn the selected copies into people with rigs of their own"""

    bl_idname = "crowdgaussian.make_real"
    bl_label = "Make Real"
    modes = {"OBJECT"}

    @classmethod
    def unavailable(cls, context: bpy.types.Context) -> str:
        """Grey unless a copy is selected."""
        copies = any(is_copy(obj) for obj in context.selected_objects)
        return "" if copies else "Select a scattered copy first."

    def run(self, context: bpy.types.Context) -> str:
        """Every selected copy."""
        copies = [obj for obj in context.selected_objects if is_copy(obj)]
        for copy in copies:
            if not any(part.type == "ARMATURE" for part in copy.instance_collection.objects):
                raise InputError(
                    f"The rig behind {copy.name} was deleted; undo that or scatter again."
                )
        for copy in copies:
            person = make_person(copy)
            context.scene.collection.children.link(person)
            for obj in person.objects:
                if obj.type == "ARMATURE":
                    obj.select_set(True)
                    context.view_layer.objects.active = obj
                elif obj.get(ROLE) == "body":
                    obj.hide_viewport = False
                    obj.hide_set(True)  # as after an import
        return f"{len(copies)} people made" if len(copies) > 1 else "1 person made"


CLASSES = (CROWDGAUSSIAN_OT_scatter, CROWDGAUSSIAN_OT_make_real)
