# SPDX-License-Identifier: GPL-3.0-or-later
"""Moving and turning whole people: the armature object changes, poses and motions do not."""

from collections.abc import Callable

import bpy
import numpy as np
from crowdgaussian_shared.errors import InputError
from crowdgaussian_shared.geometry.axes import scene_to_blender
from crowdgaussian_shared.geometry.skeleton import JOINT_NAMES
from crowdgaussian_shared.geometry.skinning import skin
from mathutils import Matrix, Vector
from mathutils.bvhtree import BVHTree

from ..attributes import mesh_data
from ..people import Person, read_transforms, read_weights
from ..rig.armature import rest_offset, unit_of
from ..rig.read_pose import heading_of, read_rest_joints

_PLACE = ("location", "rotation_euler", "rotation_quaternion", "delta_location")


def require_movable(people: list[Person]) -> None:
    """Nobody's object is moved by keys, drivers or constraints, which would take moves back.

    Raises:
        InputError: somebody's is.
    """
    bpy.context.view_layer.update()
    for person in people:
        rig = person.rig
        if any(not c.mute and c.influence > 0 for c in rig.constraints) or _animated(rig):
            raise InputError(
                f"{person.name}'s object is moved by keys, a driver or a constraint; remove those "
                "from the rig object, or parent it to an empty and move that."
            )
        if any(rig.lock_location[:2]):
            raise InputError(f"{person.name}'s location is locked; unlock it first.")


def place_of(person: Person) -> np.ndarray:
    """Where a person is: the pelvis as posed now, world.  # [3]"""
    rig = person.rig.evaluated_get(bpy.context.evaluated_depsgraph_get())
    return np.array(rig.matrix_world @ rig.pose.bones[JOINT_NAMES[0]].head)


def facing_of(person: Person) -> float:
    """Where the pelvis faces: radians about z, 0 along -y."""
    return heading_of(person.rig)


def move(person: Person, offset: np.ndarray) -> None:
    """Move by metres in the world."""
    rig = person.rig
    rig.matrix_world = Matrix.Translation(Vector(offset.tolist())) @ rig.matrix_world


def turn(person: Person, angle: float) -> None:
    """Turn on the spot, about the vertical through the pelvis, by radians."""
    x, y, _ = place_of(person)
    spot = Matrix.Translation((x, y, 0.0))
    rig = person.rig
    rig.matrix_world = spot @ Matrix.Rotation(angle, 4, "Z") @ spot.inverted() @ rig.matrix_world


def _animated(rig: bpy.types.Object) -> bool:
    data = rig.animation_data
    if data is None:
        return False
    if any(driver.data_path in _PLACE for driver in data.drivers):
        return True
    if data.action is None:
        return False
    return any(curve.data_path in _PLACE for curve in curves_of(data.action))


def curves_of(action: bpy.types.Action) -> list[bpy.types.FCurve]:
    """All F-curves of an action, whichever slot they are for."""
    if hasattr(action, "fcurves"):
        return list(action.fcurves)
    strips = [
        strip
        for layer in action.layers
        for strip in layer.strips
        if isinstance(strip, bpy.types.ActionKeyframeStrip)
    ]
    return [curve for strip in strips for bag in strip.channelbags for curve in bag.fcurves]


# Where a posed body touches what it stands on

_CELL = 0.03  # metres: of the vertices over one cell only the lowest can touch
_REACH = 0.6  # metres above the lowest vertex; on stairs a higher foot may be the one that touches
_FAR = 1e4  # metres

Heights = Callable[[np.ndarray], np.ndarray]  # [P, 3] points -> [P] height below, NaN for none


def posed_points(person: Person) -> np.ndarray:
    """The posed body in the world, as the bones are now; hidden bodies too.  # [V, 3]

    Without a body mesh the centres of the splats stand in for it, without those the joints.
    """
    transforms = read_transforms(person.rig)
    obj, step = (person.body, 1) if person.body is not None else (person.splats, 4)
    if obj is None:
        joints = np.c_[read_rest_joints(person.rig), np.ones(len(transforms))]
        posed = np.einsum("jab,jb->ja", transforms[:, :3], joints)
        return scene_to_blender(posed) / unit_of(person.rig)
    count = len(mesh_data(obj).vertices)
    local = np.empty(3 * count, np.float32)
    mesh_data(obj).vertices.foreach_get("co", local)
    local = local.reshape(-1, 3)[::step].astype(np.float64) - rest_offset(person.rig)
    canonical = np.stack([local[:, 0], local[:, 2], -local[:, 1]], axis=1)
    joints, weights = read_weights(obj, step)
    posed = skin(canonical, joints, weights, transforms)
    return scene_to_blender(posed) / unit_of(person.rig)


def ground_heights(ground: bpy.types.Object | None) -> Heights:
    """Heights of a mesh object under points, or of the plane z = 0.

    Raises:
        InputError: the object is not a mesh, or has no faces.
    """
    if ground is None:
        return lambda points: np.zeros(len(points))
    if ground.type != "MESH":
        raise InputError(
            f"{ground.name} is not a mesh; choose a mesh object as the ground, or none for z = 0."
        )
    depsgraph = bpy.context.evaluated_depsgraph_get()
    tree = BVHTree.FromObject(ground, depsgraph)
    world = ground.evaluated_get(depsgraph).matrix_world.copy()
    if not len(mesh_data(ground.evaluated_get(depsgraph)).polygons):
        raise InputError(f"{ground.name} has no faces to stand on; choose another ground.")
    return lambda points: _cast(tree, world, points)


def drop_onto(points: np.ndarray, heights: Heights) -> float | None:
    """How far up a body must move to touch without sinking in; None where nothing is below.

    Args:
        points: [V, 3] posed body, world.
        heights: of the ground.
    """
    low = points[points[:, 2] < points[:, 2].min() + _REACH]
    order = np.argsort(low[:, 2])
    cells = np.floor(low[order, :2] / _CELL)
    _, first = np.unique(cells, axis=0, return_index=True)
    soles = low[order][first]
    lifted = soles.copy()
    lifted[:, 2] = points[:, 2].max()
    below = heights(lifted)
    if np.isnan(below).all():  # the whole person is under the ground
        lifted[:, 2] = _FAR
        below = heights(lifted)
    gaps = below - soles[:, 2]
    return None if np.isnan(gaps).all() else float(np.nanmax(gaps))


def _cast(tree: BVHTree, world, points: np.ndarray) -> np.ndarray:
    inverse = world.inverted()
    down = (inverse.to_3x3() @ Vector((0.0, 0.0, -1.0))).normalized()
    heights = np.full(len(points), np.nan)
    for number, point in enumerate(points):
        hit = tree.ray_cast(inverse @ Vector(point), down)[0]
        if hit is not None:
            heights[number] = (world @ hit).z
    return heights
