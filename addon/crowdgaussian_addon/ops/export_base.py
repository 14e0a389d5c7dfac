# SPDX-License-Identifier: GPL-3.0-or-later
"""What all exports share: a file browser, then steps that show how far they are."""

import os
from collections.abc import Iterator
from pathlib import Path

import bpy
from bpy.props import BoolProperty, StringProperty
from crowdgaussian_shared.errors import CrowdGaussianError

from ..backend_command import run_backend
from ..export_names import export_path
from . import state
from .steps import SteppedOperator


class ExportOperator(SteppedOperator):
    """An operator that writes files and leaves the scene alone; implement steps()."""

    bl_options = {"REGISTER"}
    modes = {"OBJECT", "POSE"}
    default_name = "crowd"

    filepath: StringProperty(subtype="FILE_PATH", options={"SKIP_SAVE"})
    check_existing: BoolProperty(default=True, options={"HIDDEN", "SKIP_SAVE"})

    def ending(self) -> str:
        """Of the files, with its dot; empty for a folder."""
        raise NotImplementedError

    def prepare(self, context: bpy.types.Context) -> None:
        """Fills in options from the scene, before the file browser opens."""

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
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

    def execute(self, context: bpy.types.Context) -> set[str]:
        """All at once from scripts; from the file browser in steps, as an operator of its own."""
        if bpy.app.background or context.window is None or not getattr(self, "_browsed", False):
            return super().execute(context)
        module, name = self.bl_idname.split("_OT_") if "_OT_" in self.bl_idname else (
            self.bl_idname.split("."))
        again = getattr(getattr(bpy.ops, module.lower()), name)
        try:
            return again("INVOKE_DEFAULT", **self.as_keywords())
        except RuntimeError as error:
            return self._fail(str(error).removeprefix("Error: ").strip())

    def target(self) -> Path:
        """The file to write.

        Raises:
            CrowdGaussianError: no file name.
        """
        path = bpy.path.abspath(self.filepath)
        if path.startswith("//"):
            raise CrowdGaussianError("Save the file first, or give the whole path.")
        return export_path(os.path.abspath(path) if path.strip() else "", self.ending())


def convert_by_backend(sources: list[Path], target: Path) -> Iterator[None]:
    """PLYs of the scene frame become one SPZ or glTF; yields while the backend works.

    Raises:
        CrowdGaussianError: there is no backend, or it said what is wrong.
    """
    arguments = ["export", *map(str, sources), "--source-axes", "scene", "-o", str(target)]
    try:
        yield from run_backend(chosen_backend(), arguments)
    except CrowdGaussianError as error:
        if str(error).startswith("No backend"):
            raise CrowdGaussianError(
                f"{target.suffix[1:].upper()} is written by the backend. {error}"
            ) from error
        raise


def chosen_backend() -> str:
    """The backend that the preferences name; empty when none is chosen."""
    preferences = state.preferences()
    path = getattr(preferences, "backend", "") or os.environ.get("CROWDGAUSSIAN_BACKEND", "")
    return bpy.path.abspath(path) if path else ""
