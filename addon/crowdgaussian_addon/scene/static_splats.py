# SPDX-License-Identifier: GPL-3.0-or-later
"""Splats without a rig: what other programs made, as one object that stands where it is put."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, cast

import bpy
import numpy as np
from crowdgaussian_shared.errors import InputError
from crowdgaussian_shared.geometry.avatar import Gaussians
from crowdgaussian_shared.geometry.axes import convert_gaussians
from crowdgaussian_shared.geometry.skinning import skin_gaussians

from .attributes import mesh_data, write_attribute
from .people import NATIVE, ROLE, Person, read_avatar, read_transforms, read_weights
from .rig.armature import REST_OFFSET, UNIT, rest_offset, unit_of
from .splats.build import (
    MODIFIER,
    add_nodes,
    build_mesh,
    dress,
    set_modifier_input,
    write_splat_weights,
)
from .splats.material import CORNER
from .splats.nodes.skin import INPUT_RIG, can_skin, native_group


def build_static_splats(gaussians: Gaussians, name: str, unit: float = 1.0) -> bpy.types.Object:
    """A splat object of Gaussians in the scene frame; the caller links it to a collection.

    Args:
        gaussians: metres.
        name: wanted object name.
        unit: metres in a unit of the scene; the object's scale makes up for it.
    """
    obj = bpy.data.objects.new(name, build_mesh(gaussians, np.zeros(3), name, True))
    obj[REST_OFFSET] = [0.0, 0.0, 0.0]  # to read_gaussians they are their own rig
    if unit != 1.0:
        obj[UNIT] = unit
        obj.scale = (1 / unit,) * 3
    dress(obj, None, gaussians.sh_degree)
    return obj


def static_splats(objects: Iterable[bpy.types.Object]) -> list[bpy.types.Object]:
    """Those of the objects that are splats without a rig."""
    meshes = (obj for obj in objects if obj.type == "MESH" and obj.get(REST_OFFSET) is not None)
    return [obj for obj in meshes if CORNER in mesh_data(obj).attributes]


# Blender's own splats: point clouds of type "3D Gaussian Splats" (Blender 5.3)


@dataclass(frozen=True)
class NativeFormat:
    """Attribute names of Blender's splats. An alpha of 5.3 had others: keep them here only."""

    position: str = "position"  # FLOAT_VECTOR, metres
    scale: str = "scale"  # FLOAT_VECTOR, linear standard deviations
    rotation: str = "rotation"  # QUATERNION, wxyz
    base: str = "radiance:base"  # FLOAT4: degree 0 and opacity
    band: str = "radiance:sh_"  # FLOAT_VECTOR, radiance:sh_0..14: all but degree 0
    kind: str = "GAUSSIAN"  # part of the point cloud's type


FORMAT = NativeFormat()
_TYPE_PROPERTIES = ("type", "pointcloud_type", "draw_type")


def why_not() -> str:
    """Why people cannot be converted in this Blender; empty where they can."""
    if _native_type() is not None:
        return ""
    version = ".".join(map(str, bpy.app.version[:2]))
    return f"Blender {version} has no native Gaussian splats; 5.3 or later has."


def posed_in_world(person: Person) -> Gaussians:
    """The person's Gaussians where and how they are now, in Blender's world.

    Raises:
        InputError: splats, body or bones were deleted.
    """
    avatar = read_avatar(person)
    transforms = read_transforms(person.rig)
    transforms[:, :3] /= unit_of(person.rig)
    posed = skin_gaussians(avatar.gaussians, avatar.skin_joints, avatar.skin_weights, transforms)
    return convert_gaussians(posed, "scene", "blender")


def make_native(gaussians: Gaussians, name: str) -> bpy.types.Object:
    """A point cloud of splats; the caller links it to a collection.

    Args:
        gaussians: N Gaussians in Blender's world; the object's own transform is the identity.
        name: wanted object name.
    """
    cloud = bpy.data.pointclouds.new(name)
    cloud.resize(len(gaussians))  # type: ignore[attr-defined]  # Blender 5.2
    write_attribute(cloud, FORMAT.position, "FLOAT_VECTOR", "POINT", gaussians.means)
    write_attribute(cloud, FORMAT.scale, "FLOAT_VECTOR", "POINT", gaussians.scales)
    write_attribute(cloud, FORMAT.rotation, "QUATERNION", "POINT", gaussians.quats)
    base = np.c_[gaussians.sh[:, 0], gaussians.opacities]
    kind: Any = "FLOAT4"  # since Blender 5.2
    write_attribute(cloud, FORMAT.base, kind, "POINT", base)
    for k in range(1, gaussians.sh.shape[1]):
        write_attribute(cloud, f"{FORMAT.band}{k - 1}", "FLOAT_VECTOR", "POINT", gaussians.sh[:, k])
    native = _native_type()
    if native is not None:
        setattr(cloud, *native)
    return bpy.data.objects.new(name, cloud)


def make_following(person: Person) -> bpy.types.Object:
    """A point cloud of splats that moves with the person's bones; the caller links it.

    It has the colours of degree 0: Blender does not turn harmonics with bones.

    Raises:
        InputError: the splats were deleted, or this Blender's nodes cannot read bones.
    """
    if not can_skin():
        raise InputError("In this Blender nodes cannot read bones; 5.2 and later can.")
    gaussians = convert_gaussians(read_avatar(person).gaussians, "scene", "blender")
    joints, weights = read_weights(person.splats, vertices_per_row=4)
    means = gaussians.means + rest_offset(person.rig)
    rest = replace(gaussians, means=means.astype(np.float32), sh=gaussians.sh[:, :1])
    obj = make_native(rest, f"{person.name} native splats")
    cloud = cast(bpy.types.PointCloud, obj.data)
    write_splat_weights(cloud, "POINT", joints, weights)
    obj.parent = person.rig
    obj.matrix_parent_inverse = person.splats.matrix_parent_inverse
    obj.matrix_basis = person.splats.matrix_basis
    nodes = native_group(FORMAT.position, FORMAT.rotation, FORMAT.scale)
    set_modifier_input(add_nodes(obj, MODIFIER, nodes), INPUT_RIG, person.rig)
    obj[ROLE] = NATIVE
    return obj


def _native_type() -> tuple[str, str] | None:
    """The property and value that make splats of a point cloud, where Blender has them."""
    properties = bpy.types.PointCloud.bl_rna.properties
    for name in _TYPE_PROPERTIES:
        items = getattr(properties.get(name), "enum_items", ())
        for item in items:
            if FORMAT.kind in item.identifier.upper() or FORMAT.kind in item.name.upper():
                return name, item.identifier
    return None
