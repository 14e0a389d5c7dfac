# SPDX-License-Identifier: GPL-3.0-or-later
"""Exporting rigs with bodies, motions, and whole scene folders."""

import os
from pathlib import Path

import bpy
from bpy.props import BoolProperty, EnumProperty
from crowdgaussian_shared.errors import InputError
from crowdgaussian_shared.geometry.skeleton import joint_names
from crowdgaussian_shared.motion.bvh import CENTIMETRES, write_motion_bvh
from crowdgaussian_shared.motion.npz import write_motion_npz

from ..scene.export.folder import file_groups, first_lines, write_folder
from ..scene.export.rigs import FORMATS, Take, write_rigs
from ..scene.motion.record import Recording
from .base import Steps, count_people
from .export import ExportOperator, FrameRange, record

_UNITS = {"CENTIMETRES": CENTIMETRES, "METRES": 1.0}  # how many make a metre


# What bones are called, with the words for it
_NAMES = {
    "SMPLX": ("SMPL-X", "As in this scene: pelvis, left_hip, left_knee"),
    "RIGIFY": ("Rigify", "As in its human metarig: spine, thigh.L, shin.L"),
    "UNREAL": ("Unreal", "As in its mannequins: pelvis, thigh_l, calf_l"),
    "MIXAMO": ("Mixamo", "As in its downloads: mixamorig:Hips, mixamorig:LeftUpLeg"),
}
_NAME_ITEMS = [(key, *words) for key, words in _NAMES.items()]


class CROWDGAUSSIAN_OT_export_rigs(FrameRange, ExportOperator, bpy.types.Operator):
    """Write rigs and body meshes of the selected people, or everybody, for other 3D programs"""

    bl_idname = "crowdgaussian.export_rigs"
    bl_label = "Export Rigs and Bodies"

    format: EnumProperty(name="Format", default="FBX", description="Of the files", items=(
        ("FBX", "FBX", "For Unreal, Unity, Maya and most others"),
        ("GLB", "glTF (.glb)", "glTF 2.0 in one file"),
    ))  # fmt: skip
    names: EnumProperty(
        name="Bone Names", default="SMPLX", items=_NAME_ITEMS, description="What bones are called"
    )
    animation: BoolProperty(
        name="Animation",
        default=False,
        description="Bake the frame range; off: the pose of this frame",
    )
    separate: BoolProperty(
        name="File per Person",
        default=False,
        description="One file for each person instead of one for all",
    )

    def ending(self) -> str:
        """Of the format."""
        return FORMATS[self.format]

    def draw(self, _context: bpy.types.Context) -> None:
        """In the file browser's sidebar."""
        layout = self.layout
        layout.use_property_split = True
        layout.prop(self, "format")
        layout.prop(self, "names")
        layout.prop(self, "hidden")
        layout.prop(self, "separate")
        layout.prop(self, "animation")
        if self.animation:
            self.draw_frames(layout)

    def steps(self, context: bpy.types.Context) -> Steps:
        """Records the bones, then lets Blender's exporter write copies of the rigs."""
        target, people = self.target(), self.people(context)
        frames = self.frame_range() if self.animation else [context.scene.frame_current]
        takes = [Take(person) for person in people]
        yield from record(context, frames, takes)
        groups = file_groups(target, [person.name for person in people], takes, self.separate)
        for number, (path, members) in enumerate(groups.items()):
            yield 0.9 + 0.1 * number / len(groups), f"Writing {path.name}"
            write_rigs(path, self.format, members, frames, self.names.lower())
        return f"{count_people(len(people))} exported: {first_lines(list(groups))}"


class CROWDGAUSSIAN_OT_export_motion(FrameRange, ExportOperator, bpy.types.Operator):
    """Write what the selected people, or everybody, do in a range of frames; a file per person"""

    bl_idname = "crowdgaussian.export_motion"
    bl_label = "Export Motion"
    default_name = "motion"

    format: EnumProperty(name="Format", default="NPZ", description="Of the files", items=(
        ("NPZ", "SMPL-X (.npz)", "Poses of the 55 joints as AMASS writes them"),
        ("BVH", "BVH", "Biovision hierarchy: skeleton and motion, read by most 3D programs"),
    ))  # fmt: skip
    unit: EnumProperty(name="Unit", default="CENTIMETRES", description="Of a BVH", items=(
        ("CENTIMETRES", "Centimetres", "As most programs expect; scale 0.01 in Blender's importer"),
        ("METRES", "Metres", "As Blender's own BVH importer reads it"),
    ))  # fmt: skip
    names: EnumProperty(
        name="Joint Names", default="SMPLX", items=_NAME_ITEMS, description="In a BVH"
    )

    def ending(self) -> str:
        """Of the format."""
        return f".{self.format.lower()}"

    def draw(self, _context: bpy.types.Context) -> None:
        """In the file browser's sidebar."""
        layout = self.layout
        layout.use_property_split = True
        layout.prop(self, "format")
        if self.format == "BVH":
            layout.prop(self, "unit")
            layout.prop(self, "names")
        layout.prop(self, "hidden")
        self.draw_frames(layout)

    def steps(self, context: bpy.types.Context) -> Steps:
        """Records everybody at once, then writes one file after the other."""
        target, people, frames = self.target(), self.people(context), self.frame_range()
        recordings = [Recording(person) for person in people]
        yield from record(context, frames, recordings)
        render = context.scene.render
        fps = render.fps / render.fps_base
        groups = file_groups(
            target, [person.name for person in people], recordings, separate=len(people) > 1
        )
        for number, (path, (recording,)) in enumerate(groups.items()):
            yield 0.9 + 0.1 * number / len(groups), f"Writing {path.name}"
            if self.format == "NPZ":
                write_motion_npz(path, recording.motion(fps), recording.rest_joints)
                continue
            motion, rest, names = recording.motion(fps), recording.rest_joints, self.names.lower()
            write_motion_bvh(path, motion, rest, _UNITS[self.unit], joint_names(names))
        written = first_lines(list(groups))
        return f"{len(frames)} frames of {count_people(len(people))} exported: {written}"


class CROWDGAUSSIAN_OT_export_scene(ExportOperator, bpy.types.Operator):
    """Write the selected people, or everybody, as a scene folder that can be imported again"""

    bl_idname = "crowdgaussian.export_scene"
    bl_label = "Export Scene Folder"
    default_name = "crowd_scene"

    def ending(self) -> str:
        """A folder has none."""
        return ""

    def target(self) -> Path:
        """The folder to write.

        Raises:
            InputError: no name.
        """
        path = bpy.path.abspath(self.filepath).rstrip("/\\")
        if not path.strip() or path.startswith("//"):
            raise InputError("No folder was named; type a new folder's name.")
        return Path(os.path.abspath(path))

    def steps(self, context: bpy.types.Context) -> Steps:
        """One person after the other into a folder that gets its name when it is whole."""
        target, people = self.target(), self.people(context)
        yield from write_folder(target, people)
        return f"{count_people(len(people))} exported: {target}"


CLASSES = (
    CROWDGAUSSIAN_OT_export_rigs,
    CROWDGAUSSIAN_OT_export_motion,
    CROWDGAUSSIAN_OT_export_scene,
)
