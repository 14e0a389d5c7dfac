# SPDX-License-Identifier: GPL-3.0-or-later
"""Motion files and the motion of other rigs, on the selected people or on everybody."""

from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Any

import bpy
from bpy.props import BoolProperty, EnumProperty, FloatProperty, IntProperty, StringProperty
from crowdgaussian_shared.errors import InputError
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX, JOINT_NAMES, find_joints
from crowdgaussian_shared.motion.bvh import read_bvh
from crowdgaussian_shared.motion.motion import Motion
from crowdgaussian_shared.motion.read import ReadOptions, read_motion
from crowdgaussian_shared.motion.retarget import UNITS, Source, retarget

from ..scene.motion.apply import MotionOptions, play_motion, scene_fps
from ..scene.motion.record import IMPORTED, ordered_bones, record_file, record_rig
from ..scene.people import NOBODY, has_people, require_people
from .base import Result, SimpleOperator, SteppedOperator, Steps
from .state import choices

# A table of bones, as a text that artists edit: a joint and what it is called, a line each

TABLE = "Bone Table"


def table_of(context: bpy.types.Context) -> dict[str, str]:
    """Joints and their bones in the scene's table; empty without one.

    Raises:
        InputError: a line is no joint with a bone.
    """
    text = choices(context, "crowdgaussian_motion").table
    called: dict[str, str] = {}
    for number, line in enumerate(text.lines if text is not None else (), start=1):
        said = line.body.split("#")[0].strip()
        joint, _, bone = (part.strip() for part in said.partition("="))
        if said and joint not in JOINT_INDEX:
            raise InputError(f"Line {number} of {text.name} names no joint: {said[:60]}.")
        if bone:
            called[joint] = bone
    return called


class CROWDGAUSSIAN_OT_bone_table(SimpleOperator, bpy.types.Operator):
    """Make a text that says which bone of the chosen rig or file is which joint, to be edited"""

    bl_idname = "crowdgaussian.bone_table"
    bl_label = "Make Bone Table"

    def run(self, context: bpy.types.Context) -> str:
        """What is known is filled in; the bones that are left stand below."""
        motion = choices(context, "crowdgaussian_motion")
        names, parents = self._skeleton(motion)
        found = find_joints(names, parents)
        lines = ["# joint = bone; an empty line leaves it to the rules"]
        lines += [f"{joint} = {names[found[k]] if k in found else ''}"
                  for k, joint in enumerate(JOINT_NAMES)]  # fmt: skip
        left = [name for k, name in enumerate(names) if k not in found.values()]
        lines += ["# Bones that are no joint yet:", *(f"# {name}" for name in left)]
        text = bpy.data.texts.new(TABLE)
        text.write("\n".join(lines) + "\n")
        motion.table = text
        return f"{len(found)} of 55 joints are known; edit {text.name} in the Text Editor."

    def _skeleton(self, motion: Any) -> tuple[list[str], list[int]]:
        """Names and parents of the panel's rig, or of its BVH."""
        if motion.rig is not None:
            bones = ordered_bones(motion.rig)
            names = [bone.name for bone in bones]
            return names, [names.index(b.parent.name) if b.parent else -1 for b in bones]
        path = bpy.path.abspath(motion.path)
        if not path.lower().endswith(".bvh"):
            raise InputError("Choose a BVH, or the rig that moves; import an FBX for its rig.")
        joints = read_bvh(path).joints
        return [joint.name for joint in joints], [joint.parent for joint in joints]


# The redo options of operators that put a motion on people

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

    root: EnumProperty(
        name="Root",
        items=_ROOT,
        default="PELVIS",
        description="Whether people travel with the motion",
    )
    start: EnumProperty(
        name="Start", items=_START, default="PERSON", description="Where the motion begins"
    )
    feet: BoolProperty(
        name="Hold Feet", default=True, description="Feet that stand in the motion do not slide"
    )
    floor: BoolProperty(
        name="On the Floor",
        default=True,
        description="Put the lowest sole on the floor below the person; "
        "otherwise heights are those of the motion",
    )
    hands: BoolProperty(
        name="Hands off the Body",
        default=True,
        description="Hands that would sink into the trunk go round it",
    )
    repeats: IntProperty(
        name="Repeat",
        default=1,
        min=1,
        max=1000,
        description="How often the motion is played in a row",
    )
    overlap: FloatProperty(
        name="Seam",
        default=0.25,
        min=0.0,
        max=5.0,
        unit="TIME_ABSOLUTE",
        description="Seconds over which the end turns into the next beginning",
    )
    first_frame: IntProperty(
        name="First Frame", default=1, description="Where the first person starts"
    )
    offset: IntProperty(
        name="Offset",
        default=0,
        description="Frames from the start of one person to that of the next",
    )
    spread: IntProperty(
        name="Random Delay",
        default=0,
        min=0,
        max=10_000,
        description="Each person starts later by up to so many frames",
    )
    seed: IntProperty(name="Seed", default=0, min=0, description="Another seed, other delays")
    blend_in: IntProperty(
        name="From Photo Pose",
        default=0,
        min=0,
        max=10_000,
        description="Frames over which the photo's pose turns into the motion",
    )
    blend_out: IntProperty(
        name="To Photo Pose",
        default=0,
        min=0,
        max=10_000,
        description="Frames over which the motion returns to the photo's pose",
    )
    frame_range: BoolProperty(
        name="Set Frame Range",
        default=True,
        description="The scene's first and last frame become the motion's",
    )

    layer: BoolProperty(
        name="Add to the Motion There",
        default=True,
        description="Over a motion that people have already, as a strip of the NLA that goes on "
        "from where they are at its first frame; off: instead of that motion",
    )
    strip_in: IntProperty(
        name="Blend In",
        default=12,
        min=0,
        max=10_000,
        description="Frames over which a strip takes over from what plays below it",
    )
    strip_out: IntProperty(
        name="Blend Out",
        default=0,
        min=0,
        max=10_000,
        description="Frames over which it gives back to what plays below; 0 holds its last pose",
    )

    def motion_options(self) -> MotionOptions:
        """What was chosen."""
        names = MotionOptions.__dataclass_fields__
        return MotionOptions(**{name: getattr(self, name) for name in names})

    def draw_settings(self, layout: bpy.types.UILayout) -> None:
        """The options, in groups."""
        layout.use_property_split = True
        layout.use_property_decorate = False
        for group in (("root", "start", "feet", "floor", "hands"), ("repeats", "overlap"),
                      ("first_frame", "offset", "spread", "seed"), ("blend_in", "blend_out"),
                      ("layer", "strip_in", "strip_out"), ("frame_range",)):  # fmt: skip
            column = layout.column(align=True)
            for name in group:
                column.prop(self, name)


_UP = (
    ("auto", "Find Out", "From how the person stands"),
    ("y", "Y", "Y points up"),
    ("z", "Z", "Z points up, as in AMASS"),
    ("-y", "-Y", "Y points down, as in a camera's frame"),
)
_UNIT = (("GUESS", "Find Out", "From the length of the legs"),
         *((name.upper(), name.title(), f"The file is in {name}") for name in UNITS))  # fmt: skip
_ENDINGS = "*.npz;*.bvh;*.json;*.fbx;*.glb;*.gltf;*.pkl;*.pt"  # the last: told what to do with


class CROWDGAUSSIAN_OT_choose_motion(bpy.types.Operator):
    """Choose a motion: AMASS or SMPL-X .npz, .bvh, .fbx, .glb, or a folder of LHM's JSON files"""

    bl_idname = "crowdgaussian.choose_motion"
    bl_label = "Choose Motion"
    bl_options = {"INTERNAL", "UNDO"}

    filepath: StringProperty(subtype="FILE_PATH", options={"SKIP_SAVE"})
    filter_glob: StringProperty(default=_ENDINGS, options={"HIDDEN"})

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> Result:
        """Opens the file browser where the last motion was."""
        self.filepath = choices(context, "crowdgaussian_motion").path
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: bpy.types.Context) -> Result:
        """Keeps the path in the scene."""
        choices(context, "crowdgaussian_motion").path = self.filepath.rstrip("/\\")
        return {"FINISHED"}


class CROWDGAUSSIAN_OT_apply_motion(MotionSettings, SteppedOperator, bpy.types.Operator):
    """Play a motion file on the selected people, or on everybody when nobody is selected"""

    bl_idname = "crowdgaussian.apply_motion"
    bl_label = "Apply Motion"

    filepath: StringProperty(
        name="Motion",
        subtype="FILE_PATH",
        options={"SKIP_SAVE"},
        description="The motion file; empty for the panel's",
    )
    up: EnumProperty(
        name="Up Axis", items=_UP, default="auto", description="Which axis of the file points up"
    )
    fps: FloatProperty(
        name="Frame Rate",
        default=0.0,
        min=0.0,
        max=1000.0,
        description="Frames a second in the file; 0 takes what the file says",
    )
    unit: EnumProperty(name="Unit", items=_UNIT, default="GUESS", description="Of lengths in a BVH")

    @classmethod
    def unavailable(cls, context: bpy.types.Context) -> str:
        """There must be somebody."""
        return "" if has_people(context.scene) else NOBODY

    def steps(self, context: bpy.types.Context) -> Steps:
        """Reads, fits, writes keys."""
        people = require_people(context)
        path = self.filepath or choices(context, "crowdgaussian_motion").path
        if not path:
            raise InputError("Choose a motion file first.")
        yield 0.0, "Reading"
        whole = Path(bpy.path.abspath(path))
        if whole.suffix.lower() in IMPORTED:
            motion = yield from _watch(record_file(whole, table_of(context)), whole.name)
            yield from _play(self, context, people, motion)
            return _told(motion, len(people))
        unit = None if self.unit == "GUESS" else UNITS[self.unit.lower()]
        options = ReadOptions(self.up, self.fps or None, unit, table_of(context))
        motion = read_motion(whole, options)
        yield from _play(self, context, people, motion)
        return _told(motion, len(people))

    def draw(self, _context: bpy.types.Context) -> None:
        """The redo panel."""
        self.draw_settings(self.layout)
        column = self.layout.column(align=True)
        for name in ("filepath", "up", "fps", "unit"):
            column.prop(self, name)


class CROWDGAUSSIAN_OT_apply_rig_motion(MotionSettings, SteppedOperator, bpy.types.Operator):
    """Play the action of another rig (named as by Mixamo, Rigify, Unreal and others) on people"""

    bl_idname = "crowdgaussian.apply_rig_motion"
    bl_label = "Apply Rig's Action"

    rig: StringProperty(
        name="Rig",
        options={"SKIP_SAVE"},
        description="Name of the armature that moves; empty for the panel's",
    )

    def steps(self, context: bpy.types.Context) -> Steps:
        """Records, retargets, fits, writes keys."""
        rig = self._rig(context)
        people = [person for person in require_people(context) if person.rig != rig]
        if not people:
            raise InputError(f"{rig.name} is the only person; choose somebody to follow.")
        walk = record_rig(rig, scene_fps(context.scene), called=table_of(context))
        motion = yield from _watch(walk, rig.name)
        yield from _play(self, context, people, motion)
        return _told(motion, len(people))

    def draw(self, _context: bpy.types.Context) -> None:
        """The redo panel."""
        self.draw_settings(self.layout)

    def _rig(self, context: bpy.types.Context) -> bpy.types.Object:
        rig = choices(context, "crowdgaussian_motion").rig
        if self.rig:
            rig = bpy.data.objects.get(self.rig)
        if rig is None or rig.type != "ARMATURE":
            raise InputError("Choose the rig whose action people shall follow.")
        return rig


def _watch(walk: Generator[float | Source, None, None], name: str):
    """Follow a recording of another rig -> its motion."""
    motion = None
    with closing(walk):
        for news in walk:
            if isinstance(news, Source):
                motion = retarget(news)
            else:
                yield 0.5 * news, f"Watching {name}"
    return motion


def _play(settings: MotionSettings, context: bpy.types.Context, people, motion: Motion):
    with closing(play_motion(context.scene, people, motion, settings.motion_options())) as steps:
        for fraction, text in steps:
            yield 0.5 + 0.5 * fraction, text


def _told(motion: Motion, count: int) -> str:
    people = "1 person" if count == 1 else f"{count} people"
    played = f"{Path(motion.name).stem}, {motion.seconds:.1f} s, plays on {people}."
    return " ".join((played, *motion.notes))


CLASSES = (
    CROWDGAUSSIAN_OT_choose_motion,
    CROWDGAUSSIAN_OT_bone_table,
    CROWDGAUSSIAN_OT_apply_motion,
    CROWDGAUSSIAN_OT_apply_rig_motion,
)
