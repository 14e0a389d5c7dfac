# SPDX-License-Identifier: GPL-3.0-or-later
"""The floor of the crowd: a plane that catches shadows, out of renders until it is wanted."""

import bpy
import numpy as np

from .attributes import make_mesh

_MARGIN = 3.0  # metres of floor around the people
_QUAD = np.array([[0, 1, 2, 3]], np.int32)


def build_ground(places: np.ndarray, height: float, name: str) -> bpy.types.Object:
    """A shadow-catching plane under all people; the caller links it to a collection.

    Args:
        places: [P, 3] metres, Blender's axes, where people stand; may be empty.
        height: metres.
        name: wanted object name.
    """
    places = places if len(places) else np.zeros((1, 3))
    low, high = places.min(axis=0) - _MARGIN, places.max(axis=0) + _MARGIN
    corners = [(low[0], low[1]), (high[0], low[1]), (high[0], high[1]), (low[0], high[1])]
    vertices = np.array([(x, y, height) for x, y in corners])
    obj = bpy.data.objects.new(name, make_mesh(name, vertices, _QUAD))
    obj.display_type = "WIRE"
    obj.hide_render = True
    obj.is_shadow_catcher = True
    return obj
