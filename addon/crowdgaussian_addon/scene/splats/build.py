# SPDX-License-Identifier: GPL-3.0-or-later
"""One person's Gaussians as a mesh of skinned quads.

Each Gaussian is a face of four vertices: the centre c, and c + s_x x, c + s_y y, c + s_z z along
its axes, all with the same vertex-group weights. An ordinary Armature modifier then carries centre
and axes by the same blended affine, so the covariance follows any pose exactly; splat_nodes turns
the quads to the camera afterwards.
"""

from typing import cast

import bpy
import numpy as np
from crowdgaussian_shared.geometry.avatar import Avatar, Gaussians
from crowdgaussian_shared.geometry.axes import (
    BLENDER_FROM_SCENE,
    convert_orientations,
    convert_points,
    convert_quats,
)
from crowdgaussian_shared.geometry.rotations import quat_to_matrix
from crowdgaussian_shared.geometry.sh import rotate_sh, sh_to_colour
from crowdgaussian_shared.geometry.skeleton import JOINT_NAMES

from ..attributes import make_mesh, write_attribute, write_vertex_groups
from ..rig.armature import bind_to_rig, rest_offset
from .material import (
    ALPHA_CUTOFF,
    COLOUR,
    CORNER,
    MIN_SCALE,
    ROTATION,
    SCALE,
    SH_PREFIX,
    set_blended,
    splat_material,
)
from .nodes.graph import group_inputs
from .nodes.project import INPUT_DEPTH_SORT, INPUT_FOOTPRINT, is_splat_group, splat_node_group
from .read import read_gaussians as read_gaussians
from .recolour import write_materials, write_solid

MODIFIER = "Splats"
_CORNERS = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], np.float32)


def build_splats(avatar: Avatar, rig: bpy.types.Object, name: str) -> bpy.types.Object:
    """The splat object of a person, bound to their rig; the caller links it to a collection.

    Args:
        avatar: canonical Gaussians with their weights.
        rig: the person's armature from rig.build_rigs.
        name: wanted object name.
    """
    mesh = build_mesh(avatar.gaussians, rest_offset(rig), name)
    write_materials(mesh, avatar.materials)
    obj = bpy.data.objects.new(name, mesh)
    write_vertex_groups(
        obj, JOINT_NAMES, avatar.skin_joints, avatar.skin_weights, vertices_per_row=4
    )
    dress(obj, rig, avatar.gaussians.sh_degree)
    return obj


def build_mesh(gaussians: Gaussians, offset: np.ndarray, name: str) -> bpy.types.Mesh:
    """Quads with everything that the nodes and the material read, without weights.

    Args:
        gaussians: N canonical Gaussians.
        offset: [3] metres, rig.rest_offset.
        name: wanted mesh name.
    """
    count = len(gaussians)
    points = quad_points(gaussians) + offset  # [N, 4, 3]
    faces = np.arange(4 * count, dtype=np.int32).reshape(count, 4)
    mesh = make_mesh(name, points.reshape(-1, 3), faces)
    _write_look(mesh, gaussians)
    mesh.materials.append(splat_material())
    return mesh


def dress(obj: bpy.types.Object, rig: bpy.types.Object | None, degree: int) -> None:
    """What makes an object of a splat mesh: rig (if there is one), nodes, visibility."""
    if rig is not None:
        bind_to_rig(obj, rig)
    add_nodes(obj, MODIFIER, splat_node_group(degree))
    _only_the_camera_sees(obj)


def add_nodes(
    obj: bpy.types.Object, name: str, group: bpy.types.NodeTree
) -> bpy.types.NodesModifier:
    """A new modifier that runs a group of geometry nodes."""
    modifier = cast(bpy.types.NodesModifier, obj.modifiers.new(name, "NODES"))
    modifier.node_group = group
    return modifier


def quad_points(gaussians: Gaussians) -> np.ndarray:
    """The skinned points c, c + s_x x, c + s_y y, c + s_z z in Blender's axes.  # [N, 4, 3]"""
    centres = convert_points(gaussians.means.astype(np.float64), "scene", "blender")
    axes = quat_to_matrix(gaussians.quats.astype(np.float64))  # [N, 3, 3], columns
    axes = convert_orientations(axes, "scene", "blender")
    axes = axes * np.maximum(gaussians.scales, MIN_SCALE)[:, None, :]
    tips = centres[:, None, :] + axes.transpose(0, 2, 1)
    return np.concatenate([centres[:, None, :], tips], axis=1)


def splat_modifier(obj: bpy.types.Object | None) -> bpy.types.NodesModifier | None:
    """The modifier of our nodes, of any version and name; None if the object has none."""
    modifiers = obj.modifiers if obj is not None else ()
    nodes = (m for m in modifiers if isinstance(m, bpy.types.NodesModifier))
    return next((m for m in nodes if is_splat_group(m.node_group)), None)


def is_splats(obj: bpy.types.Object) -> bool:
    """Whether an object is a splat mesh with its nodes."""
    return obj.type == "MESH" and splat_modifier(obj) is not None


def set_footprint(obj: bpy.types.Object, metres: float) -> None:
    """The least blur of a person's splats: what one photo pixel covered where they stood."""
    set_input(obj, INPUT_FOOTPRINT, float(metres))


def set_depth_sort(objects: list[bpy.types.Object], enabled: bool) -> None:
    """EEVEE: sorted and blended (smooth) or dithered (faster). Cycles needs neither."""
    for obj in objects:
        set_input(obj, INPUT_DEPTH_SORT, enabled)
    set_blended(enabled)


def set_input(obj: bpy.types.Object, name: str, value: float | bool) -> None:
    """Set an input of the splat nodes by its name."""
    modifier = splat_modifier(obj)
    identifier = _identifiers(modifier)[name]
    if hasattr(modifier, "properties"):  # Blender 5.2 and later
        getattr(modifier.properties.inputs, identifier).value = value
    else:
        modifier[identifier] = value
    obj.update_tag()


def get_inputs(modifier: bpy.types.NodesModifier) -> dict[str, float | bool]:
    """All inputs of the splat nodes by name."""
    if hasattr(modifier, "properties"):
        inputs = modifier.properties.inputs
        return {
            name: getattr(inputs, identifier).value
            for name, identifier in _identifiers(modifier).items()
        }
    return {
        name: modifier[identifier]
        for name, identifier in _identifiers(modifier).items()
        if identifier in modifier.keys()
    }


def _identifiers(modifier: bpy.types.NodesModifier) -> dict[str, str]:
    return {
        socket.name: socket.identifier
        for socket in group_inputs(modifier.node_group)
        if socket.socket_type != "NodeSocketGeometry"
    }


def _write_look(mesh: bpy.types.Mesh, gaussians: Gaussians) -> None:
    """Quad corners, colour and opacity, and the view-dependent bands if there are any."""
    opacities = np.clip(gaussians.opacities, 0.0, 1.0)
    quats = convert_quats(gaussians.quats.astype(np.float64), "scene", "blender")
    write_attribute(mesh, ROTATION, "QUATERNION", "FACE", quats)
    write_attribute(mesh, SCALE, "FLOAT_VECTOR", "FACE", gaussians.scales)
    reach = np.sqrt(2 * np.log(np.maximum(opacities / ALPHA_CUTOFF, 1.0)))  # [N], std deviations
    corners = _CORNERS * reach[:, None, None]  # [N, 4, 3]
    write_attribute(mesh, CORNER, "FLOAT_VECTOR", "POINT", corners)
    look = np.c_[sh_to_colour(gaussians.sh), opacities]
    write_attribute(mesh, COLOUR, "FLOAT_COLOR", "FACE", look)
    write_solid(mesh, look)
    if gaussians.sh_degree > 0:
        turned = rotate_sh(gaussians.sh, BLENDER_FROM_SCENE.astype(gaussians.sh.dtype))
        for k in range(1, turned.shape[1]):
            write_attribute(mesh, f"{SH_PREFIX}{k}", "FLOAT_VECTOR", "FACE", turned[:, k])


def _only_the_camera_sees(obj: bpy.types.Object) -> None:
    """Splats carry their own light: they neither shade, mirror nor shadow anything in Cycles."""
    obj.visible_diffuse = False
    obj.visible_glossy = False
    obj.visible_transmission = False
    obj.visible_volume_scatter = False
    obj.visible_shadow = False
