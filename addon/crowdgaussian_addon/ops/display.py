# SPDX-License-Identifier: GPL-3.0-or-later
"""Operators of the panel Display: what people show, in which light and engine."""

from typing import Any

import bpy
from bpy.props import BoolProperty, EnumProperty, FloatProperty
from crowdgaussian_shared.errors import SettingError

from ..scene import static_splats
from ..scene.people import Person, all_people, require_people
from ..scene.render.display import Where, set_level, splat_objects
from ..scene.render.relight import set_lit
from ..scene.render.settings import set_engine, set_render_mode
from ..scene.splats.build import set_input
from ..scene.splats.nodes.project import INPUT_MAX_SIZE, INPUT_MIN_SIZE
from ..scene.splats.upgrade import outdated_splats, upgrade_splats
from .base import SimpleOperator, SteppedOperator, Steps, count_people

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


CLASSES = (
    CROWDGAUSSIAN_OT_set_display,
    CROWDGAUSSIAN_OT_set_lit,
    CROWDGAUSSIAN_OT_limit_splats,
    CROWDGAUSSIAN_OT_set_engine,
    CROWDGAUSSIAN_OT_set_colours,
    CROWDGAUSSIAN_OT_upgrade_splats,
    CROWDGAUSSIAN_OT_convert_to_native,
)
