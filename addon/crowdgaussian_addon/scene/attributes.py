# SPDX-License-Identifier: GPL-3.0-or-later
"""Between numpy arrays and Blender meshes: geometry, attributes and vertex groups."""

from typing import TYPE_CHECKING, Any, cast

import bpy
import numpy as np

from .context import aside, override

if TYPE_CHECKING:
    from bpy.stub_internal.rna_enums import AttributeDomainItems, AttributeTypeItems

# data_type of an attribute -> (property that foreach_set fills, numpy dtype, values per element)
_LAYOUT = {
    "INT8": ("value", np.int8, 1),
    "INT": ("value", np.int32, 1),
    "FLOAT": ("value", np.float32, 1),
    "FLOAT_VECTOR": ("vector", np.float32, 3),
    "QUATERNION": ("value", np.float32, 4),
    "FLOAT4": ("vector", np.float32, 4),
    "FLOAT_COLOR": ("color", np.float32, 4),
    "BYTE_COLOR": ("color_srgb", np.float32, 4),
}


# What an object holds, for those who know of which type the object is


def mesh_data(obj: bpy.types.Object) -> bpy.types.Mesh:
    """The mesh of a mesh object."""
    return cast(bpy.types.Mesh, obj.data)


def armature_data(rig: bpy.types.Object) -> bpy.types.Armature:
    """The armature of an armature object."""
    return cast(bpy.types.Armature, rig.data)


def camera_data(camera: bpy.types.Object) -> bpy.types.Camera:
    """The camera of a camera object."""
    return cast(bpy.types.Camera, camera.data)


# Geometry and attributes


def values_of(attribute: bpy.types.Attribute) -> "bpy.types.bpy_prop_collection[Any]":
    """The values of an attribute; all its types have some, only their base class does not."""
    return cast(Any, attribute).data


def rounded(values: np.ndarray, step: float) -> np.ndarray:
    """Multiples of a power of two: their last bytes are zeros, which a saved file has for free."""
    return np.round(np.asarray(values, np.float64) / step) * step


# What people's meshes hold is a multiple of these: nothing that shows, and smaller files.
PLACE_STEP = 2.0**-17  # metres, of the body's vertices: 8 micrometres
SHARE_STEP = 2.0**-13  # of weights: 0.1 mm where bones carry a point to places 0.8 m apart


def rounded_weights(weights: np.ndarray) -> np.ndarray:
    """Weights [N, 4] as multiples of SHARE_STEP that sum to exactly 1, or rows of zeros."""
    steps = rounded(weights, SHARE_STEP)
    filled = weights.any(axis=1)
    steps[filled, weights[filled].argmax(axis=1)] += 1 - steps[filled].sum(axis=1)
    return steps


def make_mesh(name: str, vertices: np.ndarray, faces: np.ndarray) -> bpy.types.Mesh:
    """A mesh of faces that all have the same number of corners.

    Args:
        name: wanted data-block name.
        vertices: [V, 3] metres.
        faces: [F, C] vertex indices; where V = F C, every vertex is of one face.
    """
    mesh = bpy.data.meshes.new(name)
    count, corners = faces.shape
    mesh.vertices.add(len(vertices))
    mesh.loops.add(count * corners)
    mesh.polygons.add(count)
    # By attribute: 80 times as fast as vertices.co and loops.vertex_index.
    position = values_of(mesh.attributes["position"])
    position.foreach_set("vector", np.ascontiguousarray(vertices, np.float32).ravel())
    corner = values_of(mesh.attributes[".corner_vert"])
    corner.foreach_set("value", np.ascontiguousarray(faces, np.int32).ravel())
    starts = np.arange(0, count * corners, corners, dtype=np.int32)
    mesh.polygons.foreach_set("loop_start", starts)
    apart = len(vertices) == count * corners
    if apart:
        _write_rings(mesh, faces)
    mesh.update(calc_edges=not apart)
    return mesh


def _write_rings(mesh: bpy.types.Mesh, faces: np.ndarray) -> None:
    """The edges of faces that share none, in the order of the corners.

    Blender would find them too, in an order of its own that takes three times the room in a file.
    """
    mesh.edges.add(faces.size)
    ends = np.stack([faces, np.roll(faces, -1, axis=1)], axis=-1)  # [F, C, 2]
    around = np.arange(faces.size, dtype=np.int32)
    for name, values in ((".edge_verts", ends), (".corner_edge", around)):
        flat = np.ascontiguousarray(values, np.int32).ravel()
        values_of(mesh.attributes[name]).foreach_set("value", flat)


def write_attribute(
    mesh: bpy.types.Mesh | bpy.types.PointCloud,
    name: str,
    data_type: "AttributeTypeItems",
    domain: "AttributeDomainItems",
    values: np.ndarray,
) -> None:
    """Store one value per element as a named attribute, replacing an older one of that name."""
    field, dtype, _ = _LAYOUT[data_type]
    attribute: bpy.types.Attribute | None = mesh.attributes.get(name)
    if attribute is not None and (attribute.data_type, attribute.domain) != (data_type, domain):
        mesh.attributes.remove(attribute)
        attribute = None
    if attribute is None:
        attribute = mesh.attributes.new(name, data_type, domain)
    values_of(attribute).foreach_set(field, np.ascontiguousarray(values, dtype).ravel())


def read_attribute(mesh: bpy.types.Mesh, name: str) -> np.ndarray | None:
    """The values of a named attribute, one row per element; None if there is none."""
    attribute: bpy.types.Attribute | None = mesh.attributes.get(name)
    if attribute is None or attribute.data_type not in _LAYOUT:
        return None
    field, dtype, width = _LAYOUT[attribute.data_type]
    stored = values_of(attribute)
    values = np.empty(len(stored) * width, dtype)
    stored.foreach_get(field, values)
    return values.reshape(-1, width) if width > 1 else values


def read_positions(mesh: bpy.types.Mesh) -> np.ndarray:
    """Vertex positions in object space.  # [V, 3] float32"""
    positions = np.empty(len(mesh.vertices) * 3, np.float32)
    values_of(mesh.attributes["position"]).foreach_get("vector", positions)
    return positions.reshape(-1, 3)


def write_vertex_groups(
    obj: bpy.types.Object,
    group_names: tuple[str, ...],
    joints: np.ndarray,
    weights: np.ndarray,
    vertices_per_row: int = 1,
) -> None:
    """Exact float weights, one row of joints and weights for each run of vertices.

    Each group is written as an attribute that Blender converts: three times as fast as adding
    vertices to it.

    Args:
        obj: a mesh object with N * vertices_per_row vertices.
        group_names: all names, also of groups that stay empty, so that every bone has its group.
        joints: [N, 4] indices into group_names; one named twice in a row gets both weights.
        weights: [N, 4] rows sum to 1; zeros are left out.
        vertices_per_row: consecutive vertices that share a row.
    """
    mesh, count = mesh_data(obj), len(joints)
    order = np.argsort(joints.ravel(), kind="stable")
    ends = np.searchsorted(joints.ravel()[order], np.arange(len(group_names) + 1))
    rows, values = order // joints.shape[1], weights.ravel()[order]
    with aside(), override(object=obj, active_object=obj):
        for name, start, end in zip(group_names, ends, ends[1:]):
            dense = np.bincount(rows[start:end], values[start:end], count)  # [N]
            write_attribute(mesh, name, "FLOAT", "POINT", np.repeat(dense, vertices_per_row))
            mesh.attributes.active = mesh.attributes[name]
            bpy.ops.geometry.attribute_convert(mode="VERTEX_GROUP")  # leaves zeros out
