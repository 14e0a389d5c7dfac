# SPDX-License-Identifier: GPL-3.0-or-later
"""Starting, stopping and testing the server."""

import bpy
from crowdgaussian_shared.errors import CrowdGaussianError

from . import state


class CROWDGAUSSIAN_OT_connect(bpy.types.Operator):
    """Start the server on this computer, or connect to the one in the preferences"""

    bl_idname = "crowdgaussian.connect"
    bl_label = "Connect"
    bl_options = {"INTERNAL"}

    def execute(self, _context: bpy.types.Context) -> set[str]:
        """Begins; the panel and the preferences show what comes of it."""
        state.complain("")
        try:
            state.session().open(state.find_target())
        except CrowdGaussianError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class CROWDGAUSSIAN_OT_disconnect(bpy.types.Operator):
    """Stop the server on this computer, or let go of the other one; unfinished jobs are paused"""

    bl_idname = "crowdgaussian.disconnect"
    bl_label = "Disconnect"
    bl_options = {"INTERNAL"}

    def execute(self, _context: bpy.types.Context) -> set[str]:
        """Ends the connection, and our own server with it."""
        state.session().close()
        return {"FINISHED"}


CLASSES = (CROWDGAUSSIAN_OT_connect, CROWDGAUSSIAN_OT_disconnect)
