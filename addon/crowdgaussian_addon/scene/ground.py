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
    x, y, _ = (high - low) / 2
    corners = np.array([(-x, -y, 0), (x, -y, 0), (x, y, 0), (-x, y, 0)])
    obj = bpy.data.objects.new(name, make_mesh(name, corners, _QUAD))
    obj.location = (*(low + high)[:2] / 2, height)
    obj.display_type = "WIRE"
    obj.hide_render = True
    obj.is_shadow_catcher = True
    return obj
