# SPDX-License-Identifier: GPL-3.0-or-later
"""Where people stand and face: ground, distances, headings, overlaps."""

from typing import cast

import bpy
import numpy as np
from bpy.props import BoolProperty, EnumProperty, FloatProperty, IntProperty, StringProperty
from crowdgaussian_shared.errors import InputError

from ..scene.layout import transform
from ..scene.layout.overlap import convex_hull, disc, resolve_overlaps
from ..scene.layout.transform import drop_onto, ground_heights, posed_points
from ..scene.people import Person, all_people, require_people
from ..scene.render.photo_match import IMAGE, SOURCE, match_photo
from .base import SimpleOperator, SteppedOperator, Steps


def object_named(context: bpy.types.Context, name: str, what: str) -> bpy.types.Object:
    """An object of the scene.

    Raises:
        InputError: there is none of that name.
    """
    found: bpy.types.Object | None = context.scene.objects.get(name)
    if found is None:
        raise InputError(
            f'There is no object "{name}" in this scene; choose another {what}.'
            if name
            else f"No {what} is chosen; choose one above the button."
        )
    return found


class CROWDGAUSSIAN_OT_snap_to_ground(SteppedOperator, bpy.types.Operator):
    """Move people up or down until the lowest part of their posed body touches the ground"""

    bl_idname = "crowdgaussian.snap_to_ground"
    bl_label = "Snap to Ground"

    ground: StringProperty(name="Ground", description="A mesh object; empty for the plane z = 0")
    sink: FloatProperty(
        name="Sink",
        default=0.0,
        soft_min=0.0,
        soft_max=0.05,
        unit="LENGTH",
        description="How deep soles press into the ground",
    )

    def steps(self, context: bpy.types.Context) -> Steps:
        """Measures everybody, then moves everybody."""
        people = require_people(context)
        transform.require_movable(people)
        ground = object_named(context, self.ground, "ground") if self.ground else None
        heights, moves = ground_heights(ground), []
        for number, person in enumerate(people):
            yield number / len(people), person.name
            rise = drop_onto(posed_points(person), heights)
            if rise is None:
                raise InputError(
                    f"{person.name} is not above or below {self.ground}; move them over it or "
                    "choose another ground."
                )
            moves.append(rise - self.sink)
        for person, rise in zip(people, moves):
            transform.move(person, np.array([0.0, 0.0, rise]))
        return None


class CROWDGAUSSIAN_OT_spread(SimpleOperator, bpy.types.Operator):
    """Move people apart or together; everybody keeps facing where they face"""

    bl_idname = "crowdgaussian.spread"
    bl_label = "Spread or Gather"

    factor: FloatProperty(
        name="Distance",
        default=1.5,
        min=0.0,
        soft_max=4.0,
        description="Above 1 spreads, below 1 gathers",
    )
    along: EnumProperty(
        name="Along",
        description="In which direction distances change",
        items=(
            ("BOTH", "All Around", "In both directions of the floor"),
            ("X", "X", "Side by side only"),
            ("Y", "Y", "Depth only"),
        ),
    )
    centre: EnumProperty(
        name="From",
        description="What stays where it is",
        items=(
            ("MIDDLE", "Middle", "The middle of these people"),
            ("CURSOR", "3D Cursor", "The 3D cursor"),
        ),
    )

    def run(self, context: bpy.types.Context) -> None:
        """Scales places, not people."""
        people = require_people(context)
        transform.require_movable(people)
        places = np.array([transform.place_of(person) for person in people])
        cursor = np.array(context.scene.cursor.location)
        centre = cursor if self.centre == "CURSOR" else places.mean(axis=0)
        axes = np.array([self.along in ("BOTH", "X"), self.along in ("BOTH", "Y"), False])
        for person, place in zip(people, places):
            transform.move(person, (self.factor - 1.0) * (place - centre) * axes)


class CROWDGAUSSIAN_OT_face(SimpleOperator, bpy.types.Operator):
    """Turn people on the spot to face the camera, an object or a direction"""

    bl_idname = "crowdgaussian.face"
    bl_label = "Face"

    towards: EnumProperty(
        name="Towards",
        description="What they turn to",
        items=(
            ("CAMERA", "Camera", "The scene's camera"),
            ("OBJECT", "Object", "The object named below"),
            ("CURSOR", "3D Cursor", "The 3D cursor"),
            ("ACTIVE", "As the Active Person", "Where the active person faces"),
        ),
    )
    target: StringProperty(name="Object", description="Of this scene; used with Towards: Object")
    amount: FloatProperty(
        name="Amount",
        default=1.0,
        min=0.0,
        max=1.0,
        subtype="FACTOR",
        description="0 leaves them as they are, 1 turns them all the way",
    )
    away: BoolProperty(name="Turn Away", description="Show their backs instead")

    def run(self, context: bpy.types.Context) -> None:
        """Turns about the vertical through each pelvis."""
        people = require_people(context)
        transform.require_movable(people)
        wanted = [self._heading(context, person) + np.pi * self.away for person in people]
        for person, heading in zip(people, wanted):
            angle = heading - transform.facing_of(person)
            angle = (angle + np.pi) % (2 * np.pi) - np.pi
            transform.turn(person, self.amount * angle)

    def _heading(self, context: bpy.types.Context, person: Person) -> float:
        if self.towards == "ACTIVE":
            return self._active_heading(context)
        if self.towards == "CURSOR":
            place = context.scene.cursor.location
        elif self.towards == "OBJECT":
            place = object_named(context, self.target, "object").matrix_world.translation
        elif context.scene.camera is None:
            raise InputError("The scene has no camera; add one or choose something else.")
        else:
            place = context.scene.camera.matrix_world.translation
        x, y, _ = np.array(place) - transform.place_of(person)
        return float(np.arctan2(x, -y)) if np.hypot(x, y) > 1e-6 else transform.facing_of(person)

    def _active_heading(self, context: bpy.types.Context) -> float:
        people = all_people(context.scene)
        model = next((p for p in people if context.object in p.objects), None)
        if model is None:
            raise InputError("Nobody is active; click the person to follow last.")
        return transform.facing_of(model)


class CROWDGAUSSIAN_OT_resolve_overlaps(SteppedOperator, bpy.types.Operator):
    """Move people on the floor, as little as needed, until nobody overlaps"""

    bl_idname = "crowdgaussian.resolve_overlaps"
    bl_label = "Resolve Overlaps"

    outline: EnumProperty(
        name="Outline",
        description="What must not overlap",
        items=(
            ("BODY", "Whole Body", "The outline of the posed body seen from above"),
            ("DISC", "Disc", "A circle around each person"),
        ),
    )
    radius: FloatProperty(
        name="Radius",
        default=0.3,
        min=0.01,
        soft_max=1.0,
        unit="LENGTH",
        description="Of the circle; used with Outline: Disc",
    )
    gap: FloatProperty(
        name="Gap",
        default=0.05,
        min=0.0,
        soft_max=1.0,
        unit="LENGTH",
        description="Space to leave between two people",
    )

    def steps(self, context: bpy.types.Context) -> Steps:
        """Selected people move; the others are in the way."""
        chosen = require_people(context)
        transform.require_movable(chosen)
        people, rigs = all_people(context.scene), {person.rig for person in chosen}
        outlines, centres = [], []
        for number, person in enumerate(people):
            yield 0.9 * number / len(people), person.name
            centres.append(transform.place_of(person)[:2])
            outlines.append(
                disc(centres[-1], self.radius)
                if self.outline == "DISC"
                else convex_hull(posed_points(person)[:, :2])
            )
        movable = np.array([person.rig in rigs for person in people])
        moves, solved = resolve_overlaps(outlines, np.array(centres), movable, self.gap)
        for person, offset in zip(people, moves):
            if np.any(offset):
                transform.move(person, np.append(offset, 0.0))
        return None if solved else "There is too little room; some people still overlap."


# The match check: what the scene shows from the photo's camera, beside the photo


class CROWDGAUSSIAN_OT_match_photo(SteppedOperator, bpy.types.Operator):
    """Render what the photo's camera sees now and compare it with the photo, in an Image Editor"""

    bl_idname = "crowdgaussian.match_photo"
    bl_label = "Match Check"
    modes = {"OBJECT", "POSE"}

    view: EnumProperty(
        name="Show",
        description="How the two pictures are shown",
        items=(
            ("SIDE", "Side by Side", "The photo on the left, the render on the right"),
            ("BLEND", "Overlay", "Half of each"),
            ("DIFFERENCE", "Difference", "Grey where they agree, four times amplified"),
        ),
    )
    width: IntProperty(
        name="Width",
        default=512,
        min=16,
        soft_max=2048,
        max=8192,
        subtype="PIXEL",
        description="Of the render",
    )

    @classmethod
    def unavailable(cls, context: bpy.types.Context) -> str:
        """Grey without a crowd that knows its photo."""
        reason = super().unavailable(context)
        known = any(c.get(SOURCE) is not None for c in context.scene.collection.children_recursive)
        return reason if reason or known else "No crowd of this scene knows its photo."

    def steps(self, context: bpy.types.Context) -> Steps:
        """Renders, compares, shows."""
        match = yield from match_photo(context.scene, self.width, self.view)
        _show_image(context)
        inside = "the photo's masks" if match.masks else "the rendered people"
        return f'{match.psnr:.1f} dB inside {inside}; see the image "{IMAGE}"'


def _show_image(context: bpy.types.Context) -> None:
    """In an Image Editor of this window, if there is one."""
    areas = context.screen.areas if context.screen is not None else ()
    area = next((area for area in areas if area.type == "IMAGE_EDITOR"), None)
    if area is not None:
        cast(bpy.types.SpaceImageEditor, area.spaces.active).image = bpy.data.images[IMAGE]


CLASSES = (
    CROWDGAUSSIAN_OT_snap_to_ground,
    CROWDGAUSSIAN_OT_spread,
    CROWDGAUSSIAN_OT_face,
    CROWDGAUSSIAN_OT_resolve_overlaps,
    CROWDGAUSSIAN_OT_match_photo,
)
