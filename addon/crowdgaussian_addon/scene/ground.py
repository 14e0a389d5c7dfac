# SPDX-License-Identifier: GPL-3.0-or-later
"""The floor of the crowd: a plane that catches shadows, out of renders until it is wanted."""

import bpy
import numpy as np

from .attributes import make_mesh

GROUND = "crowdgaussian_ground"  # object property: this is the floor of a crowd
_MARGIN = 3.0  # metres of floor around the people
_QUAD = np.array([[0, 1, 2, 3]], np.int32)


def build_ground(height: float, name: str) -> bpy.types.Object:
    """A shadow-catching plane; the caller links it to a collection and then covers people.

    Args:
        height: metres.
        name: wanted object name.
    """
    mesh = make_mesh(name, np.zeros((4, 3)), _QUAD)
    obj = bpy.data.objects.new(name, mesh)
    obj.location = (0.0, 0.0, height)
    obj.display_type = "WIRE"
    obj.hide_render = True
    obj.is_shadow_catcher = True
    obj[GROUND] = True
    cover_people(obj, np.zeros((1, 3)))
    return obj


def cover_people(ground: bpy.types.Object, places: np.ndarray) -> None:
    """Make the plane just large enough for all people, with a margin.

    Args:
        ground: from build_ground; left alone when its mesh was edited.
        places: [P, 3] metres, Blender's axes, where people stand.
    """
    if len(ground.data.vertices) != 4 or not len(places):
        return
    low, high = places.min(axis=0) - _MARGIN, places.max(axis=0) + _MARGIN
    x, y, _ = (high - low) / 2
    corners = np.array([(-x, -y, 0), (x, -y, 0), (x, y, 0), (-x, y, 0)], np.float32)
    ground.data.vertices.foreach_set("co", corners.ravel())
    ground.data.update()
    ground.location.xy = (low + high)[:2] / 2
