# SPDX-License-Identifier: GPL-3.0-or-later
"""Where scattered copies stand: on a surface, or along a curve."""

from dataclasses import dataclass

import bpy
import numpy as np
from crowdgaussian_shared.errors import CrowdGaussianError

_STEEPEST = 0.5  # cosine of 60 degrees: nobody stands on anything steeper
_TRIES = 30  # points tried for each copy before it counts as having no room


@dataclass(frozen=True)
class Places:
    """Spots for copies."""

    points: np.ndarray  # [C, 3] world, metres
    headings: np.ndarray  # [C] radians about z; 0 faces -y


def places_on_surface(
    surface: bpy.types.Object, count: int, spacing: float, rng: np.random.Generator
) -> Places:
    """Random spots on the faces that somebody can stand on; fewer than asked when there is no room.

    Args:
        surface: a mesh object.
        count: how many are wanted.
        spacing: metres, the least distance between two.
        rng: chooses.

    Raises:
        CrowdGaussianError: not a mesh, or without any face that is not too steep.
    """
    if surface.type != "MESH":
        raise CrowdGaussianError(
            f"{surface.name} is not a mesh; choose a mesh object to scatter over."
        )
    corners = _triangles(surface)  # [T, 3, 3]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    areas = np.linalg.norm(normals, axis=1)
    areas = np.where(np.abs(normals[:, 2]) > _STEEPEST * areas, areas, 0.0)
    if not areas.sum() > 0:
        raise CrowdGaussianError(f"{surface.name} has no face to stand on; choose another surface.")
    tried = rng.choice(len(areas), _TRIES * count, p=areas / areas.sum())
    u, v = rng.random((2, len(tried), 1))
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    a, b, c = corners[tried].transpose(1, 0, 2)
    points = _apart(a + u * (b - a) + v * (c - a), count, spacing)
    return Places(points, rng.uniform(-np.pi, np.pi, len(points)))


def places_along_curve(
    curve: bpy.types.Object, count: int, width: float, rng: np.random.Generator
) -> Places:
    """Spots at even distances along a curve, facing where it leads.

    Args:
        curve: a curve object.
        count: how many.
        width: metres that spots may lie to the left or right of it.
        rng: chooses how far.

    Raises:
        CrowdGaussianError: not a curve, or one without any length.
    """
    if curve.type != "CURVE":
        raise CrowdGaussianError(f"{curve.name} is not a curve; choose a curve to scatter along.")
    starts, ends = _segments(curve)
    lengths = np.linalg.norm(ends - starts, axis=1)
    if not lengths.sum() > 0:
        raise CrowdGaussianError(f"{curve.name} has no length; add points to it.")
    reach = np.cumsum(lengths)
    wanted = (np.arange(count) + 0.5) / count * reach[-1]
    segment = np.minimum(np.searchsorted(reach, wanted), len(lengths) - 1)
    part = (wanted - reach[segment] + lengths[segment]) / np.maximum(lengths[segment], 1e-9)
    along = (ends - starts)[segment]
    flat = along[:, :2] / np.maximum(np.linalg.norm(along[:, :2], axis=1, keepdims=True), 1e-9)
    points = starts[segment] + part[:, None] * along
    aside = rng.uniform(-width, width, count)[:, None]
    points[:, :2] += aside * np.stack([-flat[:, 1], flat[:, 0]], axis=1)
    return Places(points, np.arctan2(flat[:, 0], -flat[:, 1]))


def _apart(points: np.ndarray, count: int, spacing: float) -> np.ndarray:
    kept = np.empty((count, 3))
    number = 0
    for point in points:
        if number == count:
            break
        if number == 0 or np.linalg.norm(kept[:number] - point, axis=1).min() >= spacing:
            kept[number] = point
            number += 1
    return kept[:number]


def _triangles(surface: bpy.types.Object) -> np.ndarray:
    """Triangles of the evaluated mesh in the world.  # [T, 3, 3]"""
    evaluated = surface.evaluated_get(bpy.context.evaluated_depsgraph_get())
    mesh = evaluated.data
    mesh.calc_loop_triangles()
    corners = np.empty(3 * len(mesh.loop_triangles), np.int32)
    mesh.loop_triangles.foreach_get("vertices", corners)
    places = np.empty(3 * len(mesh.vertices), np.float32)
    mesh.vertices.foreach_get("co", places)
    world = np.array(evaluated.matrix_world)
    points = places.reshape(-1, 3).astype(np.float64) @ world[:3, :3].T + world[:3, 3]
    return points[corners].reshape(-1, 3, 3)


def _segments(curve: bpy.types.Object) -> tuple[np.ndarray, np.ndarray]:
    """Starts and ends of the curve's pieces in the world, without bevel.  # [S, 3] each"""
    data = curve.data.copy()
    data.bevel_depth, data.extrude, data.bevel_object, data.taper_object = 0.0, 0.0, None, None
    data.dimensions = "3D"  # a flat curve would be filled
    scratch = bpy.data.objects.new("scratch", data)
    mesh = scratch.to_mesh()  # None for a curve without points
    places = np.empty(3 * len(mesh.vertices) if mesh else 0, np.float32)
    edges = np.empty(2 * len(mesh.edges) if mesh else 0, np.int32)
    if mesh:
        mesh.vertices.foreach_get("co", places)
        mesh.edges.foreach_get("vertices", edges)
        scratch.to_mesh_clear()
    bpy.data.objects.remove(scratch)
    bpy.data.curves.remove(data)
    world = np.array(curve.matrix_world)
    points = places.reshape(-1, 3).astype(np.float64) @ world[:3, :3].T + world[:3, 3]
    edges = edges.reshape(-1, 2)
    return points[edges[:, 0]], points[edges[:, 1]]
