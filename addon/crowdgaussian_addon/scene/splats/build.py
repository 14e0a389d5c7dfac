# SPDX-License-Identifier: GPL-3.0-or-later
"""One person's Gaussians as a mesh of skinned quads.

Each Gaussian is a face of four vertices: the centre c, and c + s_x x, c + s_y y, c + s_z z along
its axes. Centre and axes are carried by the same blended affine of the bones, so the covariance
follows any pose exactly: by the nodes, from weights that are attributes of the face (nodes/skin),
or by an Armature modifier, from vertex groups, where Blender's nodes cannot read bones and where
weights are to be painted. The nodes turn the quads to the camera afterwards.
"""

from collections.abc import Callable
from typing import Literal, cast

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

from ..attributes import (
    make_mesh,
    mesh_data,
    rounded,
    rounded_weights,
    write_attribute,
    write_vertex_groups,
)
from ..rig.armature import bind_to_rig, rest_offset
from .material import (
    ALPHA_CUTOFF,
    COLOUR,
    CORNER,
    JOINT,
    LOOK_STEP,
    MIN_SCALE,
    REACH_STEP,
    ROTATION,
    SCALE,
    SH_PREFIX,
    SIZE_STEP,
    SLOTS,
    TIP_STEP,
    WEIGHTS,
    set_blended,
    splat_material,
)
from .nodes.graph import group_inputs
from .nodes.project import INPUT_DEPTH_SORT, INPUT_FOOTPRINT, is_splat_group, splat_node_group
from .nodes.skin import INPUT_RIG, can_skin
from .read import read_gaussians as read_gaussians
from .read import read_splat_weights
from .recolour import write_materials, write_solid

MODIFIER = "Splats"
Input = float | bool | bpy.types.Object | None
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
    write_weights(obj, avatar.skin_joints, avatar.skin_weights)
    dress(obj, rig, avatar.gaussians.sh_degree)
    return obj


def build_mesh(
    gaussians: Gaussians, offset: np.ndarray, name: str, exact: bool = False
) -> bpy.types.Mesh:
    """Quads with everything that the nodes and the material read, without weights.

    Args:
        gaussians: N canonical Gaussians.
        offset: [3] metres, rig.rest_offset.
        name: wanted mesh name.
        exact: of any size and place; else of people, to the steps that material tells. Harmonics
            are always kept exactly, as their directions are told by the quads' thinnest edges.
    """
    kept = _as_it_is if exact or gaussians.sh_degree > 0 else rounded
    count = len(gaussians)
    points = quad_points(gaussians) + offset  # [N, 4, 3]
    faces = np.arange(4 * count, dtype=np.int32).reshape(count, 4)
    points[:, 1:] = kept(points[:, 1:], TIP_STEP)
    mesh = make_mesh(name, points.reshape(-1, 3), faces)
    _write_look(mesh, gaussians, kept)
    mesh.materials.append(splat_material())
    return mesh


def dress(obj: bpy.types.Object, rig: bpy.types.Object | None, degree: int) -> None:
    """What makes an object of a splat mesh: rig (if there is one), nodes, visibility."""
    if rig is not None:
        bind_to_rig(obj, rig)
    add_nodes(obj, MODIFIER, splat_node_group(degree))
    follow(obj)
    _only_the_camera_sees(obj)


def write_weights(obj: bpy.types.Object, joints: np.ndarray, weights: np.ndarray) -> None:
    """Let N splats hang on joints [N, 4] by weights [N, 4], in the form that plays fastest here."""
    if not can_skin():
        write_vertex_groups(obj, JOINT_NAMES, joints, weights, vertices_per_row=4)
        return
    write_splat_weights(mesh_data(obj), "FACE", joints, weights)


def write_splat_weights(
    data: bpy.types.Mesh | bpy.types.PointCloud,
    domain: Literal["FACE", "POINT"],
    joints: np.ndarray,
    weights: np.ndarray,
) -> None:
    """Joints and weights [N, 4] as attributes of N faces or points, for the nodes."""
    for slot in range(SLOTS):
        write_attribute(data, f"{JOINT}{slot}", "INT8", domain, joints[:, slot])
    write_attribute(data, WEIGHTS, "FLOAT_COLOR", domain, rounded_weights(weights))


def weights_to_groups(obj: bpy.types.Object) -> None:
    """Weights as vertex groups: to be painted, and for Blenders whose nodes cannot read bones."""
    mesh = mesh_data(obj)
    weights = read_splat_weights(mesh)
    if weights is None:
        return
    for name in (WEIGHTS, *(f"{JOINT}{slot}" for slot in range(SLOTS))):
        mesh.attributes.remove(mesh.attributes[name])
    write_vertex_groups(obj, JOINT_NAMES, *weights, vertices_per_row=4)
    for user in bpy.data.objects:
        if user.data == mesh:
            follow(user)


def follow(obj: bpy.types.Object) -> None:
    """Let nodes or Armature modifier carry a splat object, as its weights are stored.

    To be called when it got another mesh, or its Armature modifier another rig.
    """
    by_nodes = can_skin() and WEIGHTS in mesh_data(obj).attributes
    rig = None
    for modifier in obj.modifiers:
        if isinstance(modifier, bpy.types.ArmatureModifier):
            modifier.show_viewport = modifier.show_render = not by_nodes
            rig = rig or modifier.object
    for modifier in obj.modifiers:
        if isinstance(modifier, bpy.types.NodesModifier):
            set_modifier_input(modifier, INPUT_RIG, rig if by_nodes else None)
    obj.update_tag()


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


def set_input(obj: bpy.types.Object, name: str, value: Input) -> None:
    """Set an input of the splat nodes by its name."""
    set_modifier_input(splat_modifier(obj), name, value)
    obj.update_tag()


def set_modifier_input(modifier: bpy.types.NodesModifier, name: str, value: Input) -> None:
    """Set an input of any group of nodes by its name; nothing where it has none of that name."""
    identifier = _identifiers(modifier).get(name) if modifier.node_group is not None else None
    if identifier is None:
        return
    if hasattr(modifier, "properties"):  # Blender 5.2 and later
        getattr(modifier.properties.inputs, identifier).value = value
    else:
        modifier[identifier] = value


def copy_inputs(source: bpy.types.Object, target: bpy.types.Object) -> None:
    """Give splats the looks of others: all inputs of their nodes but the rig."""
    for name, value in get_inputs(splat_modifier(source)).items():
        if name != INPUT_RIG:
            set_modifier_input(splat_modifier(target), name, value)
    target.update_tag()


def get_inputs(modifier: bpy.types.NodesModifier) -> dict[str, Input]:
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


def _as_it_is(values: np.ndarray, _step: float) -> np.ndarray:
    return values


def _write_look(
    mesh: bpy.types.Mesh,
    gaussians: Gaussians,
    kept: Callable[[np.ndarray, float], np.ndarray],
) -> None:
    """Quad corners, colour and opacity, and the view-dependent bands if there are any."""
    opacities = np.clip(gaussians.opacities, 0.0, 1.0)
    quats = convert_quats(gaussians.quats.astype(np.float64), "scene", "blender")
    write_attribute(mesh, ROTATION, "QUATERNION", "FACE", kept(quats, LOOK_STEP))
    sizes = kept(gaussians.scales, SIZE_STEP)
    write_attribute(mesh, SCALE, "FLOAT_VECTOR", "FACE", sizes)
    reach = np.sqrt(2 * np.log(np.maximum(opacities / ALPHA_CUTOFF, 1.0)))  # [N], std deviations
    reach = np.ceil(reach / REACH_STEP) * REACH_STEP
    corners = _CORNERS * reach[:, None, None]  # [N, 4, 3]
    write_attribute(mesh, CORNER, "FLOAT_VECTOR", "POINT", corners)
    look = kept(np.c_[sh_to_colour(gaussians.sh), opacities], LOOK_STEP)
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
