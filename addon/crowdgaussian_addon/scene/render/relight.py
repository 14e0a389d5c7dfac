# SPDX-License-Identifier: GPL-3.0-or-later
"""People that the scene's lights shade: splats borrow the normals of the body underneath.

Each splat takes the normal of the nearest place on the resting body; the nodes turn it with the
bones. The colours of the photo, shading and all, then serve as the colour of a matt surface.
"""

from typing import Any

import bpy
import numpy as np
from crowdgaussian_shared.errors import InputError
from crowdgaussian_shared.geometry.rotations import quat_to_matrix
from mathutils.bvhtree import BVHTree

from ..attributes import mesh_data, read_attribute, read_positions, write_attribute
from ..people import Person
from ..splats.build import get_inputs, set_input, splat_modifier
from ..splats.material import LIT_KEY, MIN_SCALE, NORMAL, ROTATION, SCALE, splat_material
from ..splats.nodes.project import INPUT_LIT
from .display import splat_objects


def set_lit(person: Person, enabled: bool, normals: bool = False) -> None:
    """Let the lights shade a person, or let them glow as in the photo.

    Args:
        person: from people.all_people.
        enabled: lit or glowing.
        normals: glowing splats take the body's normals too, for a render's Normal pass.

    Raises:
        InputError: the body mesh or the splats' attributes are gone; nothing is changed.
    """
    objects = splat_objects(person)
    if enabled or normals:
        for obj in objects:
            _store_normals(person, obj)
    for obj in objects:
        slot = obj.material_slots[0]
        slot.link = "OBJECT" if enabled else "DATA"
        if enabled:
            slot.material = splat_material(lit=True)
        set_input(obj, INPUT_LIT, enabled or normals)


def is_lit(person: Person) -> bool:
    """Whether lights shade the person now."""
    slots = person.splats.material_slots if person.splats is not None else ()
    return any(slot.material is not None and slot.material.get(LIT_KEY) for slot in slots)


def has_normals(person: Person) -> bool:
    """Whether the splats carry the body's normals now, lit or not."""
    return person.splats is not None and bool(
        get_inputs(splat_modifier(person.splats)).get(INPUT_LIT)
    )


def _store_normals(person: Person, splats: bpy.types.Object) -> None:
    mesh = mesh_data(splats)
    if NORMAL in mesh.attributes:
        return
    quats, scales = read_attribute(mesh, ROTATION), read_attribute(mesh, SCALE)
    if person.body is None or quats is None or scales is None:
        raise InputError(
            f"{person.name} lacks the body mesh that gives the splats their normals; undo its "
            "removal or import the crowd again."
        )
    centres = read_positions(mesh)[::4]
    normals = nearest_normals(mesh_data(person.body), centres)
    axes = quat_to_matrix(quats.astype(np.float64))  # [N, 3, 3], columns
    local = np.einsum("nji,nj->ni", axes, normals) * np.maximum(scales, MIN_SCALE)
    # Any length will do, and float32 keeps more of it when it is not tiny.
    local /= np.linalg.norm(local, axis=1, keepdims=True)
    write_attribute(mesh, NORMAL, "FLOAT_VECTOR", "FACE", local)


def nearest_normals(body: bpy.types.Mesh, points: np.ndarray) -> np.ndarray:
    """Smooth unit normals of the rest body at the places nearest to points.  # [N, 3]

    Args:
        body: the mesh, in the same coordinates.
        points: [N, 3] metres.
    """
    vertices = read_positions(body).astype(np.float64)
    body.calc_loop_triangles()
    corners = np.empty(3 * len(body.loop_triangles), np.int32)
    body.loop_triangles.foreach_get("vertices", corners)
    triangles = corners.reshape(-1, 3)
    smooth = _vertex_normals(vertices, triangles)
    build: Any = BVHTree.FromPolygons  # which is said to return nothing
    find = build(vertices.tolist(), triangles.tolist(), all_triangles=True)
    hits = [find.find_nearest(point) for point in points.tolist()]
    faces = triangles[[hit[2] for hit in hits]]  # [N, 3]
    weights = _barycentric(np.array([hit[0] for hit in hits]), vertices[faces])
    normals = np.einsum("nk,nkc->nc", weights, smooth[faces])
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def _vertex_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Area-weighted.  # [V, 3]"""
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    areas = np.cross(b - a, c - a)
    normals = np.zeros_like(vertices)
    for k in range(3):
        np.add.at(normals, triangles[:, k], areas)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def _barycentric(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Weights of three corners [N, 3, 3] for points in their planes [N, 3].  # [N, 3]"""
    a, b, c = corners.transpose(1, 0, 2)
    normal = np.cross(b - a, c - a)
    area = np.maximum(np.sum(normal * normal, axis=1), 1e-18)
    second = np.sum(np.cross(points - a, c - a) * normal, axis=1) / area
    third = np.sum(np.cross(b - a, points - a) * normal, axis=1) / area
    return np.stack([1 - second - third, second, third], axis=1).clip(0, 1)
