# SPDX-License-Identifier: GPL-3.0-or-later
"""Moving and turning whole people: the armature object changes, poses and motions do not."""

import bpy
import numpy as np
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.skeleton import JOINT_NAMES
from mathutils import Matrix, Vector

from .people import Person
from .posing import heading_of

_PLACE = ("location", "rotation_euler", "rotation_quaternion", "delta_location")


def require_movable(people: list[Person]) -> None:
    """Nobody's object is moved by keys, drivers or constraints, which would take moves back.

    Raises:
        CrowdGaussianError: somebody's is.
    """
    bpy.context.view_layer.update()
    for person in people:
        rig = person.rig
        if any(not c.mute and c.influence > 0 for c in rig.constraints) or _animated(rig):
            raise CrowdGaussianError(
                f"{person.name}'s object is moved by keys, a driver or a constraint; remove those "
                "from the rig object, or parent it to an empty and move that."
            )
        if any(rig.lock_location[:2]):
            raise CrowdGaussianError(f"{person.name}'s location is locked; unlock it first.")


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
    rig.matrix_world = Matrix.Translation(Vector(offset)) @ rig.matrix_world


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
    bags = (bag for layer in action.layers for strip in layer.strips for bag in strip.channelbags)
    return [curve for bag in bags for curve in bag.fcurves]
