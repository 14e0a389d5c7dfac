# SPDX-License-Identifier: GPL-3.0-or-later
"""Exporting people as splats: PLY, SPZ, glTF; one frame, or a range as a sequence of PLYs."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import bpy
from bpy.props import BoolProperty, EnumProperty
from crowdgaussian_shared.errors import CrowdGaussianError

from ..export_names import file_groups, file_names, first_lines, frame_path
from ..scene.export_splats import (
    Cast,
    cast_copy,
    cast_person,
    cast_static,
    posed_together,
    write_ply,
)
from ..scene.frames import each_frame
from ..scene.people import Person, require_people, selected_people
from ..scene.scatter import is_copy
from ..scene.static_splats import static_splats
from .export_base import ExportOperator, convert_by_backend
from .frame_range import FrameRange
from .steps import Steps, count_people

FORMATS = (
    ("PLY", "PLY", "3D Gaussian Splatting PLY: exact, read by every splat program"),
    ("SPZ", "SPZ", "Compressed to about a tenth, with small losses; written by the backend"),
    ("GLB", "glTF (.glb)", "glTF 2.0 with KHR_gaussian_splatting; written by the backend"),
)
AXES = (
    ("opencv", "Y Down (3DGS)", "x right, y down, z forward: as splat programs expect a PLY, and "
     "as the scene folder's splats.ply"),
    ("scene", "Y Up", "x right, y up, z towards the viewer"),
    ("blender", "Z Up (Blender)", "x right, y away, z up: Blender's own axes"),
)  # fmt: skip


class CROWDGAUSSIAN_OT_export_splats(FrameRange, ExportOperator, bpy.types.Operator):
    """Write the selected people, or everybody, as posed splats for other programs"""

    bl_idname = "crowdgaussian.export_splats"
    bl_label = "Export Splats"

    format: EnumProperty(name="Format", items=FORMATS, default="PLY",
                         description="Of the files")
    axes: EnumProperty(name="Axes", items=AXES, default="opencv",
                       description="Of a PLY; SPZ and glTF are y up by definition")
    separate: BoolProperty(name="File per Person", default=False,
                           description="One file for each person instead of one for all")
    animation: BoolProperty(name="Frame Range", default=False,
                            description="One PLY for each frame instead of the current frame")

    def ending(self) -> str:
        """Of the format."""
        return f".{self.format.lower()}"

    def draw(self, _context: bpy.types.Context) -> None:
        """In the file browser's sidebar."""
        layout = self.layout
        layout.use_property_split = True
        layout.prop(self, "format")
        row = layout.row()
        row.active = self.format == "PLY"
        row.prop(self, "axes")
        layout.prop(self, "separate")
        column = layout.column()
        column.active = self.format == "PLY"
        column.prop(self, "animation")
        if self.animation:
            self.draw_frames(column)

    def steps(self, context: bpy.types.Context) -> Steps:
        """Reads people once, then poses and writes them for each frame."""
        target, frames = self.target(), self._frames(context)
        casts: list[Cast] = []
        chosen = self._chosen(context)
        for number, (cast, what) in enumerate(chosen):
            yield 0.2 * number / len(chosen), f"Reading {what.name}"
            casts.append(cast(what))
        groups = file_groups(target, [cast.name for cast in casts], casts, self.separate)
        written: list[Path] = []
        total = len(frames) * len(groups)
        with closing(each_frame(context.scene, frames)) as walk:
            for frame, (path, members) in ((f, g) for f in walk for g in groups.items()):
                path = frame_path(path, frame) if self.animation else path
                yield 0.2 + 0.8 * len(written) / total, f"Writing {path.name}"
                for _ in self._write(path, members):
                    yield 0.2 + 0.8 * len(written) / total, f"Writing {path.name}"
                written.append(path)
        return f"{count_people(len(casts))} exported: {first_lines(written)}"

    @staticmethod
    def _chosen(context: bpy.types.Context) -> list[tuple[Callable, Person | bpy.types.Object]]:
        """Who is read by what: those selected, else everybody with their scattered copies."""
        selected = getattr(context, "selected_objects", None) or ()
        static, copies = static_splats(selected), [obj for obj in selected if is_copy(obj)]
        people: list[Person] = []
        if selected_people(context) or not (static or copies):
            people = require_people(context)
        if not (static or copies or selected_people(context)):
            copies = [obj for obj in context.scene.objects if is_copy(obj)]
        actors: dict = {}
        return [
            *((cast_person, person) for person in people),
            *((lambda obj: cast_copy(obj, actors), obj) for obj in copies),
            *((cast_static, obj) for obj in static),
        ]

    @classmethod
    def unavailable(cls, context: bpy.types.Context) -> str:
        """Splats without a rig can be exported too."""
        return "" if static_splats(context.scene.objects) else super().unavailable(context)

    def _write(self, path: Path, casts: list[Cast]) -> Iterator[None]:
        if self.format == "PLY":
            write_ply(path, posed_together(casts), self.axes)
            return
        with tempfile.TemporaryDirectory(prefix="crowdgaussian-") as folder:
            # The nodes of a glTF get the names of these files.
            parts = file_names(Path(folder), [cast.name for cast in casts], ".ply")
            for part, cast in zip(parts, casts):
                write_ply(part, cast.posed(), "scene")
                yield
            yield from convert_by_backend(parts, path)

    def _frames(self, context: bpy.types.Context) -> list[int]:
        if not self.animation:
            return [context.scene.frame_current]
        if self.format != "PLY":
            raise CrowdGaussianError(
                "A frame range is written as PLY; choose PLY, or turn Frame Range off."
            )
        return self.frame_range()


CLASSES = (CROWDGAUSSIAN_OT_export_splats,)
