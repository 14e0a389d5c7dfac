# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole .blend file or none, ready to look at when it is opened."""

import os
from pathlib import Path

import bpy
from crowdgaussian_shared.errors import disk_error


def start_empty_file() -> None:
    """Forget the startup file's cube, light and camera."""
    bpy.ops.wm.read_factory_settings(use_empty=True)


def start_new_file() -> None:
    """An empty file; add-ons and preferences stay as they are."""
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)


def save_blend(path: Path) -> None:
    """Save beside the target, then rename; the photo is kept as a relative path.

    Raises:
        ResourceError: the file cannot be written.
    """
    _show_camera_view()
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.{os.getpid()}.part.blend")
    try:
        bpy.ops.wm.save_as_mainfile(filepath=str(part), compress=True, relative_remap=True)
        os.replace(part, path)
    except (RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()[-1].rstrip(".")
        raise disk_error(
            error, f"{path} was not written ({reason}); free some space or choose another folder."
        ) from error
    finally:
        part.unlink(missing_ok=True)


def _show_camera_view() -> None:
    """Every 3D viewport looks through the photo's camera at rendered splats."""
    for screen in bpy.data.screens:
        for area in screen.areas:
            if area.type == "VIEW_3D":
                space = area.spaces.active
                space.shading.type = "MATERIAL"
                space.region_3d.view_perspective = "CAMERA"
