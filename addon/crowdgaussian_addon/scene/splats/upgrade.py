# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of older versions: their splats get this version's nodes, materials and attributes."""

import bpy
import numpy as np
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.geometry.axes import convert_quats

from ..attributes import mesh_data, read_attribute, write_attribute
from .build import follow, get_inputs, set_input, splat_modifier, weights_to_groups
from .material import (
    COLOUR,
    ROTATION,
    SCALE,
    SOLID,
    VERSION_KEY,
    is_scene_linear,
    set_blended,
    set_scene_linear,
    splat_material,
)
from .nodes.graph import group_inputs
from .nodes.project import is_current, is_splat_group, splat_node_group
from .nodes.skin import INPUT_RIG, can_skin
from .read import read_gaussians
from .recolour import write_solid

_MATERIAL = "CrowdGaussian Splats v1"  # the only older material; it carries no version


def outdated_splats() -> list[bpy.types.Object]:
    """Splat objects of this file with nodes of an older version, as far as they can be changed."""
    found = []
    for obj in bpy.data.objects:
        modifier = splat_modifier(obj) if obj.type == "MESH" and obj.library is None else None
        if modifier is not None and not is_current(modifier.node_group):
            found.append(obj)
    return found


def upgrade_splats() -> int:
    """Bring all splats of the file up to date; those of newer add-ons and libraries stay.

    Returns:
        How many objects were changed.
    """
    objects = outdated_splats()
    for obj in objects:
        _upgrade_nodes(obj, _upgrade_mesh(obj))
        if not can_skin():  # saved by a Blender whose nodes read bones
            weights_to_groups(obj)
        follow(obj)
    _replace_materials()
    for tree in [t for t in bpy.data.node_groups if is_splat_group(t) and not t.users]:
        bpy.data.node_groups.remove(tree)
    return len(objects)


def _upgrade_mesh(obj: bpy.types.Object) -> int:
    """Write the attributes that are new -> the degree of the splats' harmonics."""
    mesh = mesh_data(obj)
    try:
        gaussians = read_gaussians(obj)
    except CrowdGaussianError:  # edited beyond recognition: it keeps working without harmonics
        return 0
    if mesh.library is None and ROTATION not in mesh.attributes:
        quats = convert_quats(gaussians.quats.astype(np.float64), "scene", "blender")
        write_attribute(mesh, ROTATION, "QUATERNION", "FACE", quats)
        write_attribute(mesh, SCALE, "FLOAT_VECTOR", "FACE", gaussians.scales)
    look = read_attribute(mesh, COLOUR)
    if mesh.library is None and SOLID not in mesh.attributes and look is not None:
        write_solid(mesh, look)
    return gaussians.sh_degree


def _upgrade_nodes(obj: bpy.types.Object, degree: int) -> None:
    modifier = splat_modifier(obj)
    inputs = get_inputs(modifier)
    modifier.node_group = splat_node_group(degree)
    # All of them: a value of the old group stays behind under the number of a new input.
    for socket in group_inputs(modifier.node_group):
        if hasattr(socket, "default_value") and socket.name != INPUT_RIG:
            set_input(obj, socket.name, inputs.get(socket.name, socket.default_value))


def _replace_materials() -> None:
    for old in list(bpy.data.materials):
        if not _is_outdated(old):
            continue
        linear, blended = is_scene_linear(old), old.surface_render_method == "BLENDED"
        old.user_remap(splat_material())
        set_scene_linear(linear)
        set_blended(blended)
        bpy.data.materials.remove(old)


def _is_outdated(material: bpy.types.Material) -> bool:
    if (
        material.library is not None
        or material.node_tree is None
        or material.get(VERSION_KEY) is not None
    ):
        return False
    return material.name.startswith(_MATERIAL)
