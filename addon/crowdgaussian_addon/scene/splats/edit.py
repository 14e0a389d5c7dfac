# SPDX-License-Identifier: GPL-3.0-or-later
"""Which splats are too large, too faint, inside a box or adrift, and meshes without some of theirs.

A deletion takes faces out of the mesh itself, with all that is stored for them, so it holds at
every display level, in saved files and in exports, and Blender's undo knows it.
"""

import bmesh
import bpy
import numpy as np
from crowdgaussian_shared.errors import InputError
from mathutils import Matrix

from ..attributes import values_of

CROP = "crowdgaussian_crop"  # property of an empty that was made to crop by
_SELECTED = ".select_poly"  # Blender's attribute of selected faces; without it none is


def inside(points: np.ndarray, gizmo: bpy.types.Object) -> np.ndarray:
    """Points in the world that a box or a sphere holds.

    Args:
        points: [N, 3] metres, Blender's axes.
        gizmo: an empty shown as sphere, or as anything else for a box as large as it is shown.

    Returns:
        [N] bool.
    """
    reach = gizmo.empty_display_size
    local = points @ np.array(gizmo.matrix_world.to_3x3().inverted_safe()).T
    local += np.array(gizmo.matrix_world.inverted_safe().translation)
    if gizmo.empty_display_type == "SPHERE":
        return np.linalg.norm(local, axis=1) <= reach
    return (np.abs(local) <= reach).all(axis=1)


def around(points: np.ndarray, margin: float) -> Matrix:
    """Where an empty of size 1 stands that holds all points [N, 3] and so many metres more."""
    low, high = points.min(axis=0), points.max(axis=0)
    middle, half = (low + high) / 2, (high - low) / 2 + margin
    return Matrix.LocRotScale(middle.tolist(), None, half.tolist())


def adrift(means: np.ndarray, gap: float, share: float) -> np.ndarray:
    """Groups of splats that hang together with no large group.

    Splats hang together when their cells of a grid touch, corners included.

    Args:
        means: [N, 3] metres, canonical, where limbs keep apart.
        gap: metres, the side of a cell: what is farther off is another group.
        share: of all splats; smaller groups are adrift.

    Returns:
        [N] bool.
    """
    cells, cell_of = np.unique(np.floor(means / gap).astype(np.int64), axis=0, return_inverse=True)
    group_of_cell = _groups(cells)
    groups = group_of_cell[cell_of.ravel()]
    return np.bincount(groups)[groups] < share * len(means)


def _groups(cells: np.ndarray) -> np.ndarray:
    """Connected components of cells of a grid, 26 neighbours each.  # [C, 3] -> [C]"""
    index = {tuple(cell): k for k, cell in enumerate(cells.tolist())}
    steps = [(i, j, k) for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1)]
    group = np.full(len(cells), -1)
    for start in range(len(cells)):
        if group[start] >= 0:
            continue
        group[start], open_ends = start, [start]
        while open_ends:
            x, y, z = cells[open_ends.pop()].tolist()
            for i, j, k in steps:
                near = index.get((x + i, y + j, z + k))
                if near is not None and group[near] < 0:
                    group[near] = start
                    open_ends.append(near)
    return group


def selected(mesh: bpy.types.Mesh) -> np.ndarray:
    """The splats that are selected in Edit Mode.  # [N] bool"""
    chosen = np.zeros(len(mesh.polygons), bool)
    if _SELECTED in mesh.attributes:
        mesh.polygons.foreach_get("select", chosen)
    return chosen


def delete_splats(mesh: bpy.types.Mesh, doomed: np.ndarray) -> None:
    """Take splats [N] bool out of a mesh, which must not be in Edit Mode.

    Raises:
        InputError: none would be left.
    """
    if doomed.all():
        raise InputError("That would leave no splat at all; choose fewer, or delete the person.")
    corners = np.empty(len(mesh.loops), np.int32)
    values_of(mesh.attributes[".corner_vert"]).foreach_get("value", corners)
    gone = np.unique(corners[np.repeat(doomed, 4)])
    work = bmesh.new()
    work.from_mesh(mesh)
    work.verts.ensure_lookup_table()
    vertices = [work.verts[k] for k in gone.tolist()]
    bmesh.ops.delete(work, geom=vertices, context="VERTS")
    work.to_mesh(mesh)
    work.free()
    mesh.update()
