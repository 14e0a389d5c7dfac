# SPDX-License-Identifier: GPL-3.0-or-later
"""Exporting people as splats: PLY, SPZ, SOG, glTF; one frame, or a range as PLYs."""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import bpy
from bpy.props import BoolProperty, EnumProperty, IntProperty, StringProperty
from crowdgaussian_shared.errors import CrowdGaussianError, InputError

from ..jobs.local_server import run_backend
from ..scene.export.folder import export_path, file_groups, file_names, first_lines, frame_path
from ..scene.export.splats import (
    Cast,
    cast_copy,
    cast_person,
    cast_static,
    write_ply,
)
from ..scene.layout.scatter import is_copy
from ..scene.motion.record import each_frame
from ..scene.people import Person, require_people, selected_people
from ..scene.roster import shown_people
from ..scene.static_splats import static_splats
from . import state
from .base import Result, SteppedOperator, Steps, count_people

# What all exports share: a file browser, then steps that show how far they are


class ExportOperator(SteppedOperator):
    """An operator that writes files and leaves the scene alone; implement steps()."""

    bl_options = {"REGISTER"}
    modes = {"OBJECT", "POSE"}
    default_name = "crowd"

    filepath: StringProperty(subtype="FILE_PATH", options={"SKIP_SAVE"})
    check_existing: BoolProperty(default=True, options={"HIDDEN", "SKIP_SAVE"})
    hidden: BoolProperty(
        name="Hidden People",
        default=False,
        description="With nobody selected: also people whom viewport or render do not show",
    )

    def people(self, context: bpy.types.Context) -> list[Person]:
        """The selected people, or everybody who is shown, or really everybody.

        Raises:
            InputError: there is nobody, or a selected person has lost their rig.
        """
        people = require_people(context)
        if self.hidden or selected_people(context):
            return people
        shown = shown_people(context.scene, people)
        if not shown:
            raise InputError("Everybody is hidden; show somebody, or turn Hidden People on.")
        return shown

    def ending(self) -> str:
        """Of the files, with its dot; empty for a folder."""
        raise NotImplementedError

    def prepare(self, context: bpy.types.Context) -> None:
        """Fills in options from the scene, before the file browser opens."""

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> Result:
        """Opens the file browser, unless the file is given."""
        if self.filepath:
            return super().invoke(context, event)
        blend = bpy.data.filepath
        folder = os.path.dirname(blend) if blend else str(Path.home())
        stem = Path(blend).stem if blend else self.default_name
        self.filepath = os.path.join(folder, stem + self.ending())
        self.prepare(context)
        self._browsed = True
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def check(self, _context: bpy.types.Context) -> bool:
        """In the file browser: the name gets the ending of the format."""
        if not self.ending() or not os.path.basename(self.filepath):
            return False
        wanted = str(export_path(self.filepath, self.ending()))
        changed = wanted != self.filepath
        self.filepath = wanted
        return changed

    def execute(self, context: bpy.types.Context) -> Result:
        """All at once from scripts; from the file browser in steps, as an operator of its own."""
        if bpy.app.background or context.window is None or not getattr(self, "_browsed", False):
            return super().execute(context)
        module, name = (
            self.bl_idname.split("_OT_")
            if "_OT_" in self.bl_idname
            else (self.bl_idname.split("."))
        )
        again = getattr(getattr(bpy.ops, module.lower()), name)
        try:
            keywords: Any = self.as_keywords  # which is said to return nothing
            return again("INVOKE_DEFAULT", **keywords())
        except RuntimeError as error:
            return self._fail(str(error).removeprefix("Error: ").strip())

    def target(self) -> Path:
        """The file to write.

        Raises:
            InputError: no file name.
        """
        path = bpy.path.abspath(self.filepath)
        if path.startswith("//"):
            raise InputError("Save the file first, or give the whole path.")
        return export_path(os.path.abspath(path) if path.strip() else "", self.ending())


def convert_by_backend(sources: list[Path], target: Path) -> Iterator[None]:
    """PLYs of the scene frame become one file of another format; yields while the backend works.

    Raises:
        CrowdGaussianError: there is no backend, or it said what is wrong.
    """
    arguments = ["export", *map(str, sources), "--source-axes", "scene", "-o", str(target)]
    try:
        yield from run_backend(chosen_backend(), arguments)
    except CrowdGaussianError as error:
        if str(error).startswith("No backend"):
            raise type(error)(
                f"{target.suffix[1:].upper()} is written by the backend. {error}"
            ) from error
        raise


def chosen_backend() -> str:
    """The backend that the preferences name; empty when none is chosen."""
    preferences = state.preferences()
    path = getattr(preferences, "backend", "") or os.environ.get("CROWDGAUSSIAN_BACKEND", "")
    return bpy.path.abspath(path) if path else ""


# The frame range of an export: its options, and everybody recorded in one walk through it

_MOST_FRAMES = 100_000


class Recorder(Protocol):
    """Takes down something of one person at the current frame."""

    def record(self) -> None:
        """Adds the current frame."""


class FrameRange:
    """First and last frame, mixed into an operator."""

    frame_start: IntProperty(name="Start", default=1, description="First frame")
    frame_end: IntProperty(name="End", default=250, description="Last frame")
    frame_step: IntProperty(name="Step", default=1, min=1, description="Every so many frames")

    def prepare(self, context: bpy.types.Context) -> None:
        """The frame range of the scene."""
        self.frame_start, self.frame_end = context.scene.frame_start, context.scene.frame_end

    def draw_frames(self, layout: bpy.types.UILayout) -> None:
        """The options."""
        for name in ("frame_start", "frame_end", "frame_step"):
            layout.prop(self, name)

    def frame_range(self) -> list[int]:
        """The frames, in order.

        Raises:
            InputError: none, or too many.
        """
        frames = range(self.frame_start, self.frame_end + 1, self.frame_step)
        if not 0 < len(frames) <= _MOST_FRAMES:
            raise InputError(
                f"The frame range {self.frame_start} to {self.frame_end} holds {len(frames)} "
                "frames; choose another one."
            )
        return list(frames)


def record(
    context: bpy.types.Context, frames: list[int], recorders: Sequence[Recorder]
) -> Iterator[tuple[float, str]]:
    """Lets every recorder see every frame; takes the first nine tenths of the progress."""
    with closing(each_frame(context.scene, frames)) as walk:
        for number, frame in enumerate(walk):
            yield 0.9 * number / len(frames), f"Frame {frame}"
            for recorder in recorders:
                recorder.record()


FORMATS = (
    ("PLY", "PLY", "3D Gaussian Splatting PLY: exact, read by every splat program"),
    ("SPZ", "SPZ", "Compressed to about a tenth, with small losses; written by the backend"),
    (
        "SOG",
        "SOG",
        "The smallest, for PlayCanvas and SuperSplat; written by the backend",
    ),
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

    format: EnumProperty(name="Format", items=FORMATS, default="PLY", description="Of the files")
    axes: EnumProperty(
        name="Axes",
        items=AXES,
        default="opencv",
        description="Of a PLY; SPZ and glTF are y up by definition, a SOG is y down",
    )
    separate: BoolProperty(
        name="File per Person",
        default=False,
        description="One file for each person instead of one for all",
    )
    animation: BoolProperty(
        name="Frame Range",
        default=False,
        description="One PLY for each frame instead of the current frame",
    )

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
        layout.prop(self, "hidden")
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

    def _chosen(
        self, context: bpy.types.Context
    ) -> list[tuple[Callable, Person | bpy.types.Object]]:
        """Who is read by what: those selected, else everybody with their scattered copies."""
        selected = getattr(context, "selected_objects", None) or ()
        static, copies = static_splats(selected), [obj for obj in selected if is_copy(obj)]
        people: list[Person] = []
        if selected_people(context) or not (static or copies):
            people = self.people(context)
        if not (static or copies or selected_people(context)):
            copies = [obj for obj in context.scene.objects if is_copy(obj)]
            copies = [obj for obj in copies if self.hidden or _is_seen(obj)]
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
            write_ply(path, casts, self.axes)
            return
        with tempfile.TemporaryDirectory(prefix="crowdgaussian-") as folder:
            # The nodes of a glTF get the names of these files.
            parts = file_names(Path(folder), [cast.name for cast in casts], ".ply")
            for part, cast in zip(parts, casts):
                write_ply(part, [cast], "scene")
                yield
            yield from convert_by_backend(parts, path)

    def _frames(self, context: bpy.types.Context) -> list[int]:
        if not self.animation:
            return [context.scene.frame_current]
        if self.format != "PLY":
            raise InputError(
                "A frame range is written as PLY; choose PLY, or turn Frame Range off."
            )
        return self.frame_range()


def _is_seen(copy: bpy.types.Object) -> bool:
    return copy.visible_get() and not copy.hide_render


class CROWDGAUSSIAN_OT_doctor(SteppedOperator, bpy.types.Operator):
    """Have the backend check what this computer has: packages, networks, memory, folders, ports"""

    bl_idname = "crowdgaussian.doctor"
    bl_label = "Check This Computer"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        """In every mode: nothing of the scene is touched."""
        return True

    def steps(self, _context: bpy.types.Context) -> Steps:
        """Runs `crowdgaussian doctor`, whose last line says what is wrong and what to do."""
        for _ in run_backend(chosen_backend(), ["doctor"]):
            yield 0.5, "Looking at packages, networks, memory, folders and ports"
        return "All is well; `crowdgaussian doctor` on the command line says more."


CLASSES = (
    CROWDGAUSSIAN_OT_doctor,
    CROWDGAUSSIAN_OT_export_splats,
)
