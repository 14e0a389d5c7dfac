# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures as numpy arrays: Blender's image files in and out, labels, layers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import blf
import bpy
import imbuf
import numpy as np


def read_picture(path: Path) -> np.ndarray:
    """The file's own values, straight alpha, top row first.  # [H, W, 4] float32, 0..1"""
    image = bpy.data.images.load(str(path), check_existing=False)
    image.colorspace_settings.name = "Non-Color"  # type: ignore[assignment]  # set at run time
    width, height = image.size
    values = np.empty(width * height * 4, np.float32)
    image.pixels.foreach_get(values)  # type: ignore[attr-defined]  # an array of them
    bpy.data.images.remove(image)
    return values.reshape(height, width, 4)[::-1].copy()


def encode_png(colours: np.ndarray, scratch: Path) -> bytes:
    """PNG bytes of sRGB values.

    Args:
        colours: [H, W, 3] 0..1, top row first.
        scratch: a folder for a temporary file.
    """
    height, width, _ = colours.shape
    image = bpy.data.images.new("picture", width, height, alpha=False)
    rgba = np.ones((height, width, 4), np.float32)
    rgba[..., :3] = colours[::-1].clip(0.0, 1.0)
    image.pixels.foreach_set(rgba.ravel())  # type: ignore[attr-defined]  # an array of them
    image.filepath_raw = str(scratch / "picture.png")
    image.file_format = "PNG"
    image.save()
    bpy.data.images.remove(image)
    return (scratch / "picture.png").read_bytes()


def over(front: np.ndarray, back: np.ndarray) -> np.ndarray:
    """Straight-alpha picture over an opaque one.  # [H, W, 4], [H, W, 3] -> [H, W, 3]"""
    alpha = front[..., 3:]
    return front[..., :3] * alpha + back * (1.0 - alpha)


def resize(colours: np.ndarray, width: int, height: int) -> np.ndarray:
    """Shrink by averaging over areas, enlarge by repeating.  # [H, W, C] -> [height, width, C]"""
    for axis, size in ((0, height), (1, width)):
        length = colours.shape[axis]
        edges = np.linspace(0, length, size + 1)
        sums = np.concatenate([0 * colours.take([0], axis), colours.cumsum(axis)], axis)
        low = np.floor(edges).astype(int).clip(0, length - 1)
        part = (edges - low).reshape([-1, 1, 1] if axis == 0 else [1, -1, 1])
        at_edges = sums.take(low, axis) * (1 - part) + sums.take(low + 1, axis) * part
        colours = np.diff(at_edges, axis=axis) * (size / length)
    return colours


def soften(values: np.ndarray, radius: int = 2) -> np.ndarray:
    """Mean over a square around each pixel.  # [H, W, C] -> [H, W, C]"""
    for axis in (0, 1):
        pad = [(radius, radius) if a == axis else (0, 0) for a in range(3)]
        padded = np.pad(values, pad, mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * radius + 1, axis)
        values = windows.mean(axis=-1)
    return values


def label(text: str, size: int, scratch: Path) -> np.ndarray:
    """White text on nothing, as high as its letters.  # [h, w, 4] float32"""
    blf.size(0, size)
    width, _ = blf.dimensions(0, text)
    height = round(1.5 * size)
    canvas = imbuf.new((round(width) + 4, height))
    blf.color(0, 1.0, 1.0, 1.0, 1.0)
    blf.position(0, 2, 0.4 * size, 0)
    bound: Any = blf.bind_imbuf  # which is said to return nothing
    with bound(0, canvas, display_name="sRGB"):
        blf.draw_buffer(0, text)
    path = scratch / "label.png"
    imbuf.write(canvas, filepath=str(path))
    return read_picture(path)


# One picture of many: labelled cells in rows of four

_COLUMNS = 4
_CELL = (480, 360)  # width, height in pixels
_GAP = 6
_BAR = 30  # height of the title's bar
_LETTERS = 17
_PAPER = 0.14  # sRGB grey


@dataclass(frozen=True)
class Cell:
    """A picture with its title."""

    title: str
    colours: np.ndarray  # [H, W, 3] sRGB 0..1


def contact_sheet(cells: list[Cell], scratch: Path) -> np.ndarray:
    """All cells on dark paper, each fitted into its frame.  # [H, W, 3] sRGB"""
    width, height = _CELL
    rows = -(-len(cells) // _COLUMNS)
    step_x, step_y = width + _GAP, height + _BAR + _GAP
    sheet = np.full((rows * step_y + _GAP, _COLUMNS * step_x + _GAP, 3), _PAPER)
    for number, cell in enumerate(cells):
        x = _GAP + number % _COLUMNS * step_x
        y = _GAP + number // _COLUMNS * step_y
        _paste(sheet, _fit(cell.colours, width, height), x, y + _BAR)
        _write(sheet, label(cell.title, _LETTERS, scratch), x, y)
    return sheet


def _fit(colours: np.ndarray, width: int, height: int) -> np.ndarray:
    """Scale to lie inside the frame, centred on paper.  # [height, width, 3]"""
    high, wide, _ = colours.shape
    factor = min(width / wide, height / high)
    small = resize(colours, max(1, round(wide * factor)), max(1, round(high * factor)))
    frame = np.full((height, width, 3), _PAPER)
    _paste(frame, small, (width - small.shape[1]) // 2, (height - small.shape[0]) // 2)
    return frame


def _paste(sheet: np.ndarray, colours: np.ndarray, x: int, y: int) -> None:
    height, width, _ = colours.shape
    sheet[y : y + height, x : x + width] = colours


def _write(sheet: np.ndarray, text: np.ndarray, x: int, y: int) -> None:
    height, width = min(text.shape[0], _BAR), min(text.shape[1], _CELL[0])
    area = sheet[y : y + height, x : x + width]
    area[:] = over(text[:height, :width], area)
