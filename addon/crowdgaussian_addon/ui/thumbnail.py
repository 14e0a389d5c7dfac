# SPDX-License-Identifier: GPL-3.0-or-later
"""A small picture of the chosen photo, made by Blender in the background."""

from pathlib import Path

import bpy.utils.previews

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"}
_previews: bpy.utils.previews.ImagePreviewCollection | None = None


def icon_of(photo: str) -> int:
    """The icon of a photo; 0 without one."""
    global _previews
    path = Path(bpy.path.abspath(photo)) if photo else None
    if path is None or path.suffix.lower() not in _SUFFIXES or not path.is_file():
        return 0
    key = f"{path}:{path.stat().st_mtime_ns}"
    if _previews is None:
        _previews = bpy.utils.previews.new()
    if key not in _previews:
        _previews.clear()
        _previews.load(key, str(path), "IMAGE")
    return _previews[key].icon_id


def clear() -> None:
    """Frees the picture."""
    global _previews
    if _previews is not None:
        bpy.utils.previews.remove(_previews)
        _previews = None
