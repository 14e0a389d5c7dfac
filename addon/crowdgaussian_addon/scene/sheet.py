# SPDX-License-Identifier: GPL-3.0-or-later
"""One picture of many: labelled cells in rows of four."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .pixels import label, over, resize

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
