# SPDX-License-Identifier: GPL-3.0-or-later
"""Which splats are too large, too faint, inside a box or adrift; meshes with fewer of them.

A deletion takes faces out of the mesh itself, with all that is stored for them, so it holds at
every display level, in saved files and in exports, and Blender's undo knows it.
"""

from dataclasses import replace

import bmesh
import bpy
import numpy as np
from crowdgaussian_shared.errors import InputError
from crowdgaussian_shared.geometry.avatar import Gaussians
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


# Fewer Gaussians that cover what all of them cover.
#
# Gaussians are put in the order of a Morton curve, so that neighbours in space are mostly
# neighbours in the list, and cut into groups. Of each group the one that covers most (opacity times
# area) stays, grown in its plane until it covers what the group did, in the group's mean colour. So
# every region keeps its share, which picking the largest overall would not give: faces and hands
# are made of many small ones.

GROUP = 4  # Gaussians that become one
_MOST_GROWTH = 2.0  # of the standard deviations
_BITS = 10  # of each coordinate in the curve


def reduce_gaussians(gaussians: Gaussians) -> tuple[np.ndarray, Gaussians]:
    """A quarter of the Gaussians.

    Returns:
        [M] their indices in the given cloud, and the M changed Gaussians.
    """
    count = len(gaussians)
    order = np.argsort(_morton(gaussians.means), kind="stable")
    filler = -count % GROUP
    groups = np.concatenate([order, np.repeat(order[-1:], filler)]).reshape(-1, GROUP)
    cover = (gaussians.opacities * _area(gaussians.scales))[groups]  # [M, GROUP]
    if filler:
        cover[-1, GROUP - filler :] = 0.0
    best = cover.argmax(axis=1)
    rows = np.arange(len(groups))
    kept = groups[rows, best]
    total = np.maximum(cover.sum(axis=1), 1e-12)
    growth = np.sqrt(total / np.maximum(cover[rows, best], 1e-12)).clip(1.0, _MOST_GROWTH)
    sh = np.einsum("mg,mgkc->mkc", cover / total[:, None], gaussians.sh[groups])
    chosen = Gaussians(
        *(
            getattr(gaussians, name)[kept]
            for name in ("means", "quats", "scales", "opacities", "sh")
        )
    )
    return kept, replace(
        chosen, scales=_grow(chosen.scales, growth), sh=sh.astype(gaussians.sh.dtype)
    )


def _area(scales: np.ndarray) -> np.ndarray:
    """Product of the two larger standard deviations.  # [N, 3] -> [N]"""
    return np.sort(scales, axis=1)[:, 1:].prod(axis=1)


def _grow(scales: np.ndarray, growth: np.ndarray) -> np.ndarray:
    """The two larger axes grow; the thickness stays.  # [M, 3], [M] -> [M, 3]"""
    grown = scales * growth[:, None]
    rows, thin = np.arange(len(scales)), scales.argmin(axis=1)
    grown[rows, thin] = scales[rows, thin]
    return grown.astype(scales.dtype)


def _morton(points: np.ndarray) -> np.ndarray:
    """Place along a Morton curve through the cloud's cube.  # [N, 3] -> [N] int64"""
    low = points.min(axis=0) if len(points) else np.zeros(3)
    extent = max(float(np.ptp(points, axis=0).max()) if len(points) else 0.0, 1e-9)
    cells = ((points - low) / extent * (2**_BITS - 1)).astype(np.int64)
    code = np.zeros(len(points), np.int64)
    for bit in range(_BITS):
        for axis in range(3):
            code |= ((cells[:, axis] >> bit) & 1) << (3 * bit + axis)
    return code
