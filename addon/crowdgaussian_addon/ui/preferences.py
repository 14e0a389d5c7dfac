# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on's preferences: which server, and where results are kept."""

import bpy
from bpy.props import EnumProperty, IntProperty, StringProperty

from ..ops import state
from ..ops.reconstruct import (
    QUALITY_ITEMS,
    REFINEMENT_HINT,
    REFINEMENT_ITEMS,
    SHOT_HINT,
    SHOT_ITEMS,
)
from ..ops.viewport import FIRST_LOOKS
from .base import draw_text
from .panel import draw_doctor, draw_state

_PLACES = (
    ("HERE", "This Computer", "The add-on starts and stops the server itself"),
    ("THERE", "Another One", "A server on another computer, reached with a pairing line"),
)


def _other_server(_self: object, _context: object) -> None:
    """The next use connects to the server that is named now."""
    state.session().close()


def _other_cache(_self: object, _context: object) -> None:
    state.close_session()


class CrowdGaussianPreferences(bpy.types.AddonPreferences):
    """Server and cache."""

    bl_idname = state.ADDON

    place: EnumProperty(name="Server", items=_PLACES, default="HERE", update=_other_server)
    backend: StringProperty(
        name="Backend",
        subtype="FILE_PATH",
        update=_other_server,
        description="The CrowdGaussian project folder after `make setup`, or the Python of the "
        "environment that the backend is installed in",
    )
    pairing: StringProperty(
        name="Pairing Line",
        subtype="PASSWORD",
        update=_other_server,
        description="The line that `crowdgaussian keys new NAME` printed on the server; a secret",
    )
    address: StringProperty(
        name="Address",
        update=_other_server,
        description="Such as tcp://gpu.example.org:5555; empty when the pairing line names it",
    )
    cache: StringProperty(
        name="Cache Folder",
        subtype="DIR_PATH",
        update=_other_cache,
        description="Where jobs and scene folders are kept; empty: the extension's own folder",
    )

    first_look: EnumProperty(
        name="First Look",
        items=FIRST_LOOKS,
        default="ASK",
        description="What the view does when the first people of a new shot come in",
    )

    def draw(self, context: bpy.types.Context) -> None:
        """The preferences page."""
        layout = self.layout
        layout.use_property_split = True
        layout.row().prop(self, "place", expand=True)
        if self.place == "HERE":
            layout.prop(self, "backend")
        else:
            layout.prop(self, "pairing")
            layout.prop(self, "address")
        self._draw_server(context)
        layout.separator()
        layout.prop(self, "first_look")
        layout.prop(self, "cache")
        if not self.cache:
            row = layout.split(factor=0.4)
            row.label(text="")
            row.label(text=str(state.cache_folder()))

    def _draw_server(self, context: bpy.types.Context) -> None:
        server = state.session().server
        row = self.layout.row()
        here = self.place == "HERE"
        if server.state == "stopped":
            text = "Start Server" if here else "Test Connection"
            row.operator("crowdgaussian.connect", text=text, icon="PLAY")
        else:
            text = "Stop Server" if here else "Disconnect"
            row.operator("crowdgaussian.disconnect", text=text, icon="SNAP_FACE")
        box = self.layout.box().column(align=True)
        draw_state(box, server)
        if server.sentence:
            draw_text(box, server.sentence, context)
            draw_doctor(box, context)


# The panel's choices, kept in the scene

_NUMBERS = {"open": 0, "paper": 1, "open-large": 2}  # what a .blend file stores for a preset
_TITLES = {"open": "Open", "open-large": "Open, Large", "paper": "Paper"}
_OPEN = [("open", "Open", "Everything bundled with the backend", 0)]
_items: list[tuple[str, str, str, int]] = _OPEN  # Blender keeps no strings of its own


def _preset_items(_self: object, _context: object) -> list[tuple[str, str, str, int]]:
    """What the server offers; the bundled preset while there is none."""
    global _items
    welcome = state.session().server.welcome
    offered = welcome.presets if welcome else ()
    items = [
        (
            p.name,
            _TITLES.get(p.name, p.name),
            p.licence or p.missing,
            _NUMBERS.get(p.name, len(_NUMBERS) + index),
        )
        for index, p in enumerate(offered)
    ]
    if items and items != _items:
        _items = items
    return _items


def _tidy_path(self: "CrowdGaussianChoice", _context: object) -> None:
    """A path that was pasted may have quotes around it."""
    tidy = self.photo.strip().strip("\"'")
    if tidy != self.photo:
        self.photo = tidy


class CrowdGaussianChoice(bpy.types.PropertyGroup):
    """What the Reconstruct button uses."""

    photo: StringProperty(name="Photo", description="A photo that shows people", update=_tidy_path)
    preset: EnumProperty(name="Preset", description="Which models do the work", items=_preset_items)
    quality: EnumProperty(
        name="Quality",
        items=QUALITY_ITEMS,
        default="NORMAL",
        description="Splats per person, and time",
    )
    most_people: IntProperty(
        name="Most People",
        min=0,
        max=1000,
        default=0,
        description="Keep this many people, the most confident; 0 keeps everybody",
    )
    refinement: EnumProperty(
        name="Refinement", items=REFINEMENT_ITEMS, default="PRESET", description=REFINEMENT_HINT
    )
    shot: EnumProperty(name="Shot", items=SHOT_ITEMS, default="AUTO", description=SHOT_HINT)
