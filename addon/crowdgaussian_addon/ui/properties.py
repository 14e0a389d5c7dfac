# SPDX-License-Identifier: GPL-3.0-or-later
"""The panel's choices, kept in the scene."""

import bpy
from bpy.props import EnumProperty, IntProperty, StringProperty

from ..ops import state
from ..ops.reconstruct import QUALITY_ITEMS, REFINEMENT_HINT, REFINEMENT_ITEMS

_NUMBERS = {"open": 0, "paper": 1}  # what a .blend file stores for a preset
_TITLES = {"open": "Open", "paper": "Paper"}
_OPEN = [("open", "Open", "Everything bundled with the backend", 0)]
_items: list[tuple[str, str, str, int]] = _OPEN  # Blender keeps no strings of its own


def _preset_items(_self: object, _context: object) -> list[tuple[str, str, str, int]]:
    """What the server offers; the bundled preset while there is none."""
    global _items
    welcome = state.session().server.welcome
    offered = welcome.presets if welcome else ()
    items = [(p.name, _TITLES.get(p.name, p.name), p.licence or p.missing,
              _NUMBERS.get(p.name, 2 + index)) for index, p in enumerate(offered)]
    if items and items != _items:
        _items = items
    return _items


def _tidy_path(self: bpy.types.PropertyGroup, _context: object) -> None:
    """A path that was pasted may have quotes around it."""
    tidy = self.photo.strip().strip("\"'")
    if tidy != self.photo:
        self.photo = tidy


class CrowdGaussianChoice(bpy.types.PropertyGroup):
    """What the Reconstruct button uses."""

    photo: StringProperty(name="Photo", description="A photo that shows people", update=_tidy_path)
    preset: EnumProperty(name="Preset", description="Which models do the work",
                         items=_preset_items)
    quality: EnumProperty(name="Quality", items=QUALITY_ITEMS, default="NORMAL",
                          description="Splats per person, and time")
    most_people: IntProperty(name="Most People", min=0, max=1000, default=0,
                             description="At most so many people, the surest; 0 for everybody")
    refinement: EnumProperty(name="Refinement", items=REFINEMENT_ITEMS, default="PRESET",
                             description=REFINEMENT_HINT)
