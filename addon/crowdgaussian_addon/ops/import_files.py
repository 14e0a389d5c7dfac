# SPDX-License-Identifier: GPL-3.0-or-later
"""Importing a scene folder: what the backend, or an export of ours, wrote to this disk."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import bpy
import numpy as np
from bpy.props import BoolProperty, EnumProperty, StringProperty
from crowdgaussian_shared.errors import (
    CrowdGaussianError,
    InputError,
    MissingFileError,
    SettingError,
)
from crowdgaussian_shared.formats.splat_ply import read_splat_file
from crowdgaussian_shared.geometry.axes import convert_gaussians
from crowdgaussian_shared.scene.folder import SceneFolder

from ..jobs.local_server import run_backend
from ..scene.importer import add_people, start_crowd
from ..scene.render.settings import prepare_render
from ..scene.rig.armature import metres_per_unit
from ..scene.shot import is_new_shot, needs_of
from ..scene.static_splats import build_static_splats
from .base import Result, SteppedOperator, Steps, count_people, select_only
from .export import AXES, chosen_backend
from .reconstruct import SHOT_HINT, SHOT_ITEMS
from .state import shot_of
from .viewport import greet


class CROWDGAUSSIAN_OT_import_scene(SteppedOperator, bpy.types.Operator):
    """Add everybody of a scene folder, with rigs, the photo's camera and the floor"""

    bl_idname = "crowdgaussian.import_scene"
    bl_label = "Import Scene Folder"
    modes = {"OBJECT"}

    directory: StringProperty(subtype="DIR_PATH", options={"SKIP_SAVE"})
    filter_folder: BoolProperty(default=True, options={"HIDDEN"})
    shot: EnumProperty(
        name="Shot", items=SHOT_ITEMS, default="AUTO", options={"SKIP_SAVE"}, description=SHOT_HINT
    )

    @classmethod
    def unavailable(cls, _context: bpy.types.Context) -> str:
        """An empty scene will do."""
        return ""

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> Result:
        """Opens the file browser, unless the folder is given."""
        if self.directory:
            return super().invoke(context, event)
        self.shot = shot_of(context.scene)
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def steps(self, context: bpy.types.Context) -> Steps:
        """Reads everybody first, and builds last: a stop before that leaves no trace."""
        folder = SceneFolder.open(Path(bpy.path.abspath(self.directory)))
        avatars, skipped = {}, []
        people = folder.info.people
        for index, person in enumerate(people):
            yield 0.5 * index / len(people), f"Reading person {index}"
            try:
                avatars[index] = folder.read_avatar(index)
            except CrowdGaussianError as error:
                skipped.append(person.error or str(error))
        if not avatars:
            why = f" ({skipped[0].rstrip('.')})" if skipped else ""
            raise InputError(
                f"{folder.path} has nobody to import{why}; reconstruct the photo to the end."
            )
        yield 0.5, f"Building {count_people(len(avatars))}"
        crowd = start_crowd(folder, self.shot)
        add_people(crowd, folder, avatars)
        greet(crowd)
        left_out = f", {len(skipped)} left out: {skipped[0]}" if skipped else ""
        to_do = "" if not needs_of(context.scene) else ". Look at Check Splats in the panel."
        return f"{count_people(len(avatars))} imported from {folder.path}{left_out}{to_do}"


# Importing splats that any program wrote, as an object without a rig

# The backend makes a PLY of these
_BY_BACKEND = (".spz", ".splat", ".ksplat", ".sog", ".glb", ".gltf", ".compressed.ply")
_MOST = 2_000_000  # splats: each is a face of four vertices


class CROWDGAUSSIAN_OT_import_splats(SteppedOperator, bpy.types.Operator):
    """Add the splats of a file from any program as one object: PLY, SPZ, SOG, glTF and others"""

    bl_idname = "crowdgaussian.import_splats"
    bl_label = "Import Splats"
    modes = {"OBJECT"}

    filepath: StringProperty(subtype="FILE_PATH", options={"SKIP_SAVE"})
    filter_glob: StringProperty(
        default="*.ply;*.spz;*.splat;*.ksplat;*.sog;*.glb;*.gltf", options={"HIDDEN"}
    )
    axes: EnumProperty(
        name="Axes", items=AXES, default="opencv", description="Which way is up in the file"
    )
    render: BoolProperty(
        name="Set Up Rendering",
        default=True,
        options={"SKIP_SAVE"},
        description="Render with Cycles, and let it see through as many splats as they need",
    )

    @classmethod
    def unavailable(cls, _context: bpy.types.Context) -> str:
        """An empty scene will do."""
        return ""

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> Result:
        """Opens the file browser, unless the file is given."""
        if self.filepath:
            return super().invoke(context, event)
        self.render = is_new_shot(context.scene, shot_of(context.scene))
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def steps(self, context: bpy.types.Context) -> Steps:
        """Reads and checks the whole file before anything is made."""
        path = Path(bpy.path.abspath(self.filepath))
        yield 0.0, f"Reading {path.name}"
        with tempfile.TemporaryDirectory() as folder:
            axes, source = self.axes, path
            if path.name.lower().endswith(_BY_BACKEND):
                source, axes = Path(folder) / "splats.ply", "scene"
                for _ in _as_ply(path, self.axes, source):
                    yield 0.2, f"The backend reads {path.name}"
            read = read_splat_file(source, _MOST)
        cloud = read.gaussians
        if not len(cloud):
            raise InputError(f"{path} holds 0 splats; choose a file of 1 to {_MOST}.")
        unit = metres_per_unit(context.scene)
        obj = build_static_splats(convert_gaussians(cloud, axes, "scene"), path.stem, unit)
        context.collection.objects.link(obj)
        if self.render:
            prepare_render(context.scene)
        select_only(context, [obj])
        size = np.ptp(cloud.means, axis=0).max()
        left_out = f"; {read.dropped} that are no splats left out" if read.dropped else ""
        return f"{len(cloud)} splats imported from {path.name}, {size:.1f} metres wide{left_out}"


def _as_ply(source: Path, axes: str, target: Path) -> Iterator[None]:
    """Another splat format becomes a PLY of the scene frame; yields while the backend works.

    Raises:
        CrowdGaussianError: there is no backend, or it said what is wrong.
    """
    if not source.is_file():
        raise MissingFileError(f"{source} does not exist; choose another file.")
    options = ["--source-axes", axes, "--axes", "scene"]
    try:
        yield from run_backend(
            chosen_backend(), ["export", str(source), *options, "-o", str(target)]
        )
    except SettingError as error:
        raise SettingError(f"{source.name} is read by the backend. {error}") from error


CLASSES = (
    CROWDGAUSSIAN_OT_import_scene,
    CROWDGAUSSIAN_OT_import_splats,
)
