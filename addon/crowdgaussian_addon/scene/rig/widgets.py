# SPDX-License-Identifier: GPL-3.0-or-later
"""What controls look like: wire shapes of our own, in the colours of their side.

A shape is drawn where it means something (soles on the floor, a ring about the feet), not where its
bone happens to lie: each control holds the place of its shape relative to the bone.
"""

from typing import Literal

import bpy
import numpy as np
from mathutils import Matrix, Vector

from ..attributes import armature_data
from .bones import (
    CONTROLS,
    FINGER_CONTROLS,
    MECHANICS,
    ROOT,
    ROOT_CONTROL,
    THEMES,
    bone_collection,
)
from .controls import FEET, FRONT, HANDS, HEEL_BEHIND, SIDES, TIP_AHEAD, UP

SHAPE = "crowdgaussian_shape"  # property of a shape's object: its name
_RING = 32  # corners of a circle
Lines = list[np.ndarray]  # of [K, 3] corners in a row

# Half sizes in metres where the body gives none.
_ROOT_RADIUS, _POLE, _PALM = 0.42, 0.035, (0.05, 0.03)
_SOLE_WIDTH = 0.38  # of the way from ankle to ball; feet of the sample are .34 to .36 of it, half


def dress_controls(rig: bpy.types.Object, names: list[str]) -> None:
    """Shapes, colours and collections for controls.

    Args:
        rig: a person's armature.
        names: bones that were made for it; those without a shape are mechanics and are hidden.
    """
    armature, places = armature_data(rig), _places(rig)
    for name in names:
        bone = armature.bones[name]
        if name not in places:
            bone_collection(armature, MECHANICS).assign(bone)
            continue
        bone_collection(armature, _collection_of(name)).assign(bone)
        bone.color.palette = THEMES.get(name.split("_")[0], "THEME09")
        bone.show_wire = True
        kind, frame, size = places[name]
        _put(rig.pose.bones[name], _shape(kind), frame, size)
    mechanics: bpy.types.BoneCollection | None = armature.collections_all.get(MECHANICS)
    if mechanics is not None:
        mechanics.is_visible = False


def drop_collections(rig: bpy.types.Object) -> None:
    """Remove the collections of controls that are empty now."""
    collections = armature_data(rig).collections
    for name in (CONTROLS, ROOT_CONTROL, FINGER_CONTROLS, MECHANICS):
        collection: bpy.types.BoneCollection | None = collections.get(name)
        if collection is not None and not collection.bones:
            collections.remove(collection)


def _collection_of(name: str) -> str:
    if name == ROOT:
        return ROOT_CONTROL
    return FINGER_CONTROLS if name in HANDS.values() else CONTROLS


Place = tuple[str, Matrix, tuple[float, float, float]]  # shape, rest frame in the armature, metres


def _places(rig: bpy.types.Object) -> dict[str, Place]:
    """Where each control's shape is drawn; of all controls that there may be."""
    bones = armature_data(rig).bones
    r = _ROOT_RADIUS
    places: dict[str, Place] = {ROOT: ("Ring", Matrix.Identity(4), (r, r, r))}
    for side in SIDES:
        wrist, knuckle = (bones[f"{side}_{n}"].head_local for n in ("wrist", "middle1"))
        palm = (knuckle - wrist).length
        hand = _frame(wrist.lerp(knuckle, 0.6), knuckle - wrist)
        places[f"{side}_hand_ik"] = ("Box", hand, (*_PALM[:1], 0.7 * palm, _PALM[1]))
        curl = _frame(knuckle + 0.5 * palm * UP, knuckle - wrist)
        places[HANDS[side]] = ("Arc", curl, (0.4 * palm,) * 3)
        for pole in (f"{side}_elbow_pole", f"{side}_knee_pole"):
            if pole in bones:
                place = Matrix.Translation(bones[pole].head_local)
                places[pole] = ("Ball", place, (_POLE,) * 3)
        places |= _foot_places(rig, side)
    return places


def _foot_places(rig: bpy.types.Object, side: str) -> dict[str, Place]:
    bones, foot = armature_data(rig).bones, FEET[side]
    ankle, ball = bones[f"{side}_ankle"].head_local, bones[foot.toe].head_local
    length = max(ankle.y - ball.y, 0.02)
    back, front = ankle.y + HEEL_BEHIND * length, ball.y - TIP_AHEAD * length
    middle = Vector(((ankle.x + ball.x) / 2, (back + front) / 2, 0.0))
    sole = (_SOLE_WIDTH * length, 0.55 * (back - front), 1.0)
    heel = Vector((ankle.x, back + 0.25 * length, ankle.z / 2))
    return {
        foot.control: ("Sole", _frame(middle, FRONT), sole),
        foot.roll: ("Arc", _frame(heel, -FRONT), (0.35 * length,) * 3),
    }


def _frame(place: Vector, along: Vector) -> Matrix:
    """Y along a direction, Z up as far as that goes."""
    y = np.array(along.normalized())
    x = np.cross(y, np.array(UP))
    x /= np.linalg.norm(x)
    turn = np.stack([x, y, np.cross(x, y)], axis=1)
    return Matrix.Translation(place) @ Matrix(turn.tolist()).to_4x4()


def _put(
    bone: bpy.types.PoseBone, shape: bpy.types.Object, frame: Matrix, size: tuple[float, ...]
) -> None:
    local = bone.bone.matrix_local.inverted() @ frame
    bone.custom_shape, bone.use_custom_shape_bone_size = shape, False
    bone.custom_shape_translation = local.to_translation()
    bone.custom_shape_rotation_euler = local.to_euler("XYZ")
    bone.custom_shape_scale_xyz = size


# The shapes, each within a metre of its origin


def _circle(axes: Literal["xy", "yz", "xz"] = "xy", start: float = 0.0, end: float = 360.0):
    angles = np.radians(np.linspace(start, end, _RING + 1))
    points = np.zeros((len(angles), 3))
    for axis, values in zip(axes, (np.cos(angles), np.sin(angles))):
        points[:, "xyz".index(axis)] = values
    return points


def _box() -> Lines:
    square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]], float)
    low, high = (np.c_[square, np.full(5, z)] for z in (-1.0, 1.0))
    return [low, high, *(np.stack([low[k], high[k]]) for k in range(4))]


def _arc() -> Lines:
    """Three quarters of a turn about X, with a head at each end."""
    arc = _circle("yz", 0.0, 180.0)
    heads = [np.array([[0, y - d, 0.25], [0, y, 0], [0, y + d, 0.25]])
             for y, d in ((1.0, 0.2), (-1.0, 0.2))]  # fmt: skip
    return [arc, *heads]


def _sole() -> Lines:
    """Rounded at the heel, wider at the ball; the toes are at +Y."""
    angles = np.radians(np.linspace(0, 360, _RING + 1))
    x, y = np.cos(angles), np.sin(angles)
    square = np.c_[np.sign(x) * np.abs(x) ** 0.6, np.sign(y) * np.abs(y) ** 0.6]
    square[:, 0] *= 0.85 + 0.15 * square[:, 1]
    return [np.c_[square, np.zeros(len(square))]]


def _ring() -> Lines:
    """On the floor, with an arrow to where the person faces."""
    arrow = np.array([[-0.18, -1.12, 0], [0, -1.4, 0], [0.18, -1.12, 0], [-0.18, -1.12, 0]])
    return [_circle("xy"), arrow]


_SHAPES = {
    "Ring": _ring,
    "Box": _box,
    "Arc": _arc,
    "Sole": _sole,
    "Ball": lambda: [_circle("xy"), _circle("yz"), _circle("xz")],
}


def _shape(kind: str) -> bpy.types.Object:
    """The file's one object of a shape; it is in no scene."""
    for obj in bpy.data.objects:
        if obj.get(SHAPE) == kind and obj.library is None:
            return obj
    points: list[list[float]] = []
    edges: list[tuple[int, int]] = []
    for line in _SHAPES[kind]():
        first = len(points)
        points += line.tolist()
        edges += [(k, k + 1) for k in range(first, len(points) - 1)]
    mesh = bpy.data.meshes.new(f"WGT-{kind}")
    mesh.from_pydata(points, edges, [])
    obj = bpy.data.objects.new(f"WGT-{kind}", mesh)
    obj[SHAPE] = kind
    return obj
