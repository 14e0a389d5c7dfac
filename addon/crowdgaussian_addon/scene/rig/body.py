# SPDX-License-Identifier: GPL-3.0-or-later
"""The naked body under the splats: skinned to the same rig, never in a render by itself."""

from typing import Literal

import bpy
import numpy as np
from crowdgaussian_shared.geometry.avatar import Avatar
from crowdgaussian_shared.geometry.axes import convert_points
from crowdgaussian_shared.geometry.skeleton import JOINT_NAMES

from ..attributes import PLACE_STEP, make_mesh, rounded, rounded_weights, write_vertex_groups
from ..context import override
from .armature import bind_to_rig, rest_offset


def build_body(avatar: Avatar, rig: bpy.types.Object, name: str) -> bpy.types.Object:
    """The body mesh of a person, bound to their rig; the caller links it to a collection."""
    body = avatar.body
    vertices = convert_points(body.vertices.astype(np.float64), "scene", "blender")
    mesh = make_mesh(name, rounded(vertices + rest_offset(rig), PLACE_STEP), body.faces)
    mesh.shade_smooth()
    obj = bpy.data.objects.new(name, mesh)
    write_vertex_groups(obj, JOINT_NAMES, body.skin_joints, rounded_weights(body.skin_weights))
    bind_to_rig(obj, rig)
    obj.hide_render = True
    return obj


def cast_shadows(bodies: list[bpy.types.Object], enabled: bool) -> None:
    """Let bodies throw the shadows of their people, seen by shadow rays and by nothing else."""
    for body in bodies:
        body.visible_shadow = True
        body.hide_render = not (enabled or has_collision(body))
        _hide_from_rays(body, enabled)
        if not enabled and has_collision(body):
            _only_collides(body)


def casts_shadow(body: bpy.types.Object) -> bool:
    """Whether a body throws shadows without being seen."""
    return not body.hide_render and not body.visible_diffuse and body.visible_shadow


def has_collision(body: bpy.types.Object) -> bool:
    """Whether a body is an obstacle of any kind."""
    return body.rigid_body is not None or any(m.type == "COLLISION" for m in body.modifiers)


def obstacle_kind(body: bpy.types.Object) -> Literal["SOFT", "RIGID", "NONE"]:
    """What a body is an obstacle for; see set_collision."""
    if body.rigid_body is not None:
        return "RIGID"
    return "SOFT" if any(m.type == "COLLISION" for m in body.modifiers) else "NONE"


def set_collision(
    context: bpy.types.Context, body: bpy.types.Object, kind: Literal["SOFT", "RIGID", "NONE"]
) -> None:
    """Make a body an obstacle for cloth and particles, for rigid bodies, or for nothing.

    An obstacle has to be evaluated, so its eye is opened; it is drawn as a box, and no ray sees it
    in renders.

    Args:
        context: of the view layer that the body is in.
        body: a person's body mesh.
        kind: what collides with it.
    """
    for modifier in [m for m in body.modifiers if m.type == "COLLISION"]:
        body.modifiers.remove(modifier)
    shadow = casts_shadow(body)
    if body.rigid_body is not None:
        with override(object=body, active_object=body, selected_objects=[body]):
            bpy.ops.rigidbody.object_remove()
    if kind == "NONE":
        body.display_type = "TEXTURED"
        body.hide_set(True)
        body.visible_shadow = True
        cast_shadows([body], shadow)
        return
    body.hide_viewport = False
    body.hide_set(False)
    body.display_type = "BOUNDS"
    if kind == "SOFT":
        body.modifiers.new("Collision", "COLLISION")
    else:
        _add_rigid_body(context, body)
    cast_shadows([body], shadow)


def _add_rigid_body(context: bpy.types.Context, body: bpy.types.Object) -> None:
    with override(object=body, active_object=body, selected_objects=[body]):
        bpy.ops.rigidbody.object_add(type="PASSIVE")
    rigid = body.rigid_body
    rigid.kinematic, rigid.collision_shape, rigid.mesh_source = True, "MESH", "DEFORM"
    rigid.use_deform = True


def _only_collides(body: bpy.types.Object) -> None:
    """In renders for the simulation's sake, seen by no ray at all."""
    _hide_from_rays(body, True)
    body.visible_shadow = False


def _hide_from_rays(body: bpy.types.Object, hidden: bool) -> None:
    for kind in ("camera", "diffuse", "glossy", "transmission", "volume_scatter"):
        setattr(body, f"visible_{kind}", not hidden)
