# SPDX-License-Identifier: GPL-3.0-or-later
"""The redo options of operators that put a motion on people."""

import bpy
from bpy.props import BoolProperty, EnumProperty, FloatProperty, IntProperty

from ..scene.motion import MotionOptions

_ROOT = (
    ("PELVIS", "Walk", "People go where the motion goes"),
    ("IN_PLACE", "In Place", "People stay on the spot"),
)
_START = (
    ("PERSON", "Where They Stand", "From where each person stands, the way they face"),
    ("FILE", "As in the File", "At the places of the motion; everybody on the same spot"),
)


class MotionSettings:
    """Mixed into an operator."""

    root: EnumProperty(name="Root", items=_ROOT, default="PELVIS",
                       description="Whether people travel with the motion")
    start: EnumProperty(name="Start", items=_START, default="PERSON",
                        description="Where the motion begins")
    feet: BoolProperty(name="Hold Feet", default=True,
                       description="Feet that stand in the motion do not slide")
    floor: BoolProperty(name="On the Floor", default=True,
                        description="Put the lowest sole on the floor below the person; "
                        "otherwise heights are those of the motion")
    repeats: IntProperty(name="Repeat", default=1, min=1, max=1000,
                         description="How often the motion is played in a row")
    overlap: FloatProperty(name="Seam", default=0.25, min=0.0, max=5.0, unit="TIME_ABSOLUTE",
                           description="Seconds over which the end turns into the next beginning")
    first_frame: IntProperty(name="First Frame", default=1,
                             description="Where the first person starts")
    offset: IntProperty(name="Offset", default=0,
                        description="Frames from the start of one person to that of the next")
    spread: IntProperty(name="Random Delay", default=0, min=0, max=10_000,
                        description="Each person starts later by up to so many frames")
    seed: IntProperty(name="Seed", default=0, min=0, description="Another seed, other delays")
    blend_in: IntProperty(name="From Photo Pose", default=0, min=0, max=10_000,
                          description="Frames over which the photo's pose turns into the motion")
    blend_out: IntProperty(name="To Photo Pose", default=0, min=0, max=10_000,
                           description="Frames over which the motion returns to the photo's pose")
    frame_range: BoolProperty(name="Set Frame Range", default=True,
                              description="The scene's first and last frame become the motion's")

    def motion_options(self) -> MotionOptions:
        """What was chosen."""
        names = MotionOptions.__dataclass_fields__
        return MotionOptions(**{name: getattr(self, name) for name in names})

    def draw_settings(self, layout: bpy.types.UILayout) -> None:
        """The options, in groups."""
        layout.use_property_split = True
        layout.use_property_decorate = False
        for group in (("root", "start", "feet", "floor"), ("repeats", "overlap"),
                      ("first_frame", "offset", "spread", "seed"), ("blend_in", "blend_out"),
                      ("frame_range",)):  # fmt: skip
            column = layout.column(align=True)
            for name in group:
                column.prop(self, name)
