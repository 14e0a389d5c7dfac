# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on's preferences: which server, and where results are kept."""

import bpy
from bpy.props import EnumProperty, StringProperty

from ..ops import state
from .server import draw_state
from .text import draw_text

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
        name="Backend", subtype="FILE_PATH", update=_other_server,
        description="The CrowdGaussian project folder after `make setup`, or the Python of the "
        "environment that the backend is installed in",
    )
    pairing: StringProperty(
        name="Pairing Line", subtype="PASSWORD", update=_other_server,
        description="The line that `crowdgaussian keys new NAME` printed on the server; a secret",
    )
    address: StringProperty(
        name="Address", update=_other_server,
        description="Such as tcp://gpu.example.org:5555; empty when the pairing line names it",
    )
    cache: StringProperty(
        name="Cache Folder", subtype="DIR_PATH", update=_other_cache,
        description="Where jobs and scene folders are kept; empty: the extension's own folder",
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
