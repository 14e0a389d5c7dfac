# SPDX-License-Identifier: GPL-3.0-or-later
"""The naked body under the splats: skinned to the same rig, never in a render by itself."""

import bpy
import numpy as np
from crowdgaussian_shared.avatar import Avatar
from crowdgaussian_shared.axes import convert_points
from crowdgaussian_shared.skeleton import JOINT_NAMES

from .attributes import make_mesh, write_vertex_groups
from .rig import bind_to_rig, rest_offset


def build_body(avatar: Avatar, rig: bpy.types.Object, name: str) -> bpy.types.Object:
    """The body mesh of a person, bound to their rig; the caller links it to a collection."""
    body = avatar.body
    vertices = convert_points(body.vertices.astype(np.float64), "scene", "blender")
    mesh = make_mesh(name, vertices + rest_offset(rig), body.faces)
    mesh.shade_smooth()
    obj = bpy.data.objects.new(name, mesh)
    write_vertex_groups(obj, JOINT_NAMES, body.skin_joints, body.skin_weights)
    bind_to_rig(obj, rig)
    obj.hide_render = True
    return obj


def cast_shadows(bodies: list[bpy.types.Object], enabled: bool) -> None:
    """Let bodies throw the shadows of their people without being seen themselves (Cycles)."""
    for body in bodies:
        body.hide_render = not enabled
        body.visible_camera = not enabled
        body.visible_diffuse = not enabled
        body.visible_glossy = not enabled
