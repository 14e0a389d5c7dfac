# SPDX-License-Identifier: Apache-2.0
"""Pictures of the panels: Blender in a window, cut to what the text is about."""

import json
from pathlib import Path

import numpy as np
from _support.blender.window import make_debian, read_xwd, run_blender, write_png

from guide.renders import save_jpeg

_TABS = 30  # pixels on the right of the sidebar
_PANELS = ("people", "layout", "motion", "display", "export")


def photograph(shared: Path, debian: Path, out: Path) -> None:
    """guide_panel_*.png.

    Args:
        shared: with addon.zip, panel_driver.py, scene/ and out/.
        debian: from make_debian.
        out: folder of the pictures.
    """
    make_debian(debian)
    said = run_blender(
        debian, shared, "panel_driver.py", "/mnt/test/addon.zip", "/mnt/test/scene", "/mnt/test/out"
    )
    found = shared / "out"
    if (found / "error.txt").exists() or not (found / "places.json").exists():
        raise SystemExit(said[-2000:] + (found / "error.txt").read_text())
    places = json.loads((found / "places.json").read_text())
    for name in _PANELS:
        pixels = sidebar(read_xwd(found / f"{name}.xwd"), places[name])
        write_png(out / f"guide_panel_{name}.png", pixels)
    screen = read_xwd(found / "window.xwd").astype(np.float32) / 255
    save_jpeg(out / "guide_window.jpg", screen, quality=75)


def sidebar(screen: np.ndarray, place: list[int]) -> np.ndarray:
    """The panels without the empty space below them.  # [H, W, 3]"""
    x, y, width, height = place
    top = screen.shape[0] - y - height
    panels = screen[top : top + height, x : x + width - _TABS]
    empty = (panels == panels[-2, 10]).all(axis=(1, 2))
    last = np.flatnonzero(~empty[:-4])[-1]
    return np.ascontiguousarray(panels[: last + 8])
