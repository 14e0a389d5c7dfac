# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the bones of the 55-joint skeleton point, and how they roll.

Heads are the joints. A tail lies at the joint's natural child, so that limbs look like limbs; end
bones get a direction and length of their own. Rolls make the local X axis the hinge of knees,
elbows and fingers. Skinning depends on neither: poses are converted through each bone's rest axes.
"""

from collections.abc import Callable
from typing import Literal

import bpy
import numpy as np
from crowdgaussian_shared.geometry.skeleton import FACE_JOINTS, FINGERS, JOINT_INDEX, JOINT_NAMES

from ..attributes import armature_data

FACE = "Face"  # bone collection: jaw and eyes
# Bone collections of the controls, while there are any. Nobody touches mechanics: they are hidden.
CONTROLS, ROOT_CONTROL, FINGER_CONTROLS = "IK Controls", "Root", "Finger Controls"
MECHANICS = "Mechanics"
ROOT = "root"  # bone above the pelvis, where there are controls

_FRONT = np.array([0.0, -1.0, 0.0])  # a Blender character faces -y
_UP = np.array([0.0, 0.0, 1.0])

# Bones that end nowhere: direction and length in metres.
_ENDS = {
    "head": (_UP, 0.18),
    "jaw": (_FRONT, 0.08),
    "left_eye_smplhf": (_FRONT, 0.03),
    "right_eye_smplhf": (_FRONT, 0.03),
    "left_foot": (_FRONT, 0.08),
    "right_foot": (_FRONT, 0.08),
}
_FINGERTIP = 0.8  # length of the last finger bone over the one before
_MIN_LENGTH = 0.005  # metres; Blender deletes bones without length


def _side_children(side: str) -> dict[str, str]:
    chain = {
        "hip": "knee", "knee": "ankle", "ankle": "foot",
        "collar": "shoulder", "shoulder": "elbow", "elbow": "wrist", "wrist": "middle1",
    }  # fmt: skip
    chain |= {f"{finger}{k}": f"{finger}{k + 1}" for finger in FINGERS for k in (1, 2)}
    return {f"{side}_{joint}": f"{side}_{child}" for joint, child in chain.items()}


_CHILD = {
    "pelvis": "spine1", "spine1": "spine2", "spine2": "spine3", "spine3": "neck", "neck": "head",
    **_side_children("left"),
    **_side_children("right"),
}  # fmt: skip


def bone_directions(heads: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tails and roll references of all bones.

    Args:
        heads: [55, 3] metres, the T-pose joints in Blender's axes.

    Returns:
        tails [55, 3] metres, and [55, 3] directions that each bone's local Z is rolled to.
    """
    tails = np.array([_tail(name, heads) for name in JOINT_NAMES])
    lying = np.array([_rolls_up(name) for name in JOINT_NAMES])
    return tails, np.where(lying[:, None], _UP, _FRONT)


def _tail(name: str, heads: np.ndarray) -> np.ndarray:
    head = heads[JOINT_INDEX[name]]
    if name in _ENDS:
        direction, length = _ENDS[name]
        return head + direction * length
    if name in _CHILD:
        along = heads[JOINT_INDEX[_CHILD[name]]] - head
    else:  # a fingertip continues the bone before it
        along = _FINGERTIP * (head - heads[JOINT_INDEX[f"{name[:-1]}2"]])
    length = float(np.linalg.norm(along))
    if length < _MIN_LENGTH:
        return head + _FRONT * _MIN_LENGTH
    return head + along


def _rolls_up(name: str) -> bool:
    """Feet, face and fingers roll to the sky; everything else to the front."""
    return name[-1].isdigit() and "spine" not in name or name in _ENDS and name != "head"


THEMES: dict[str, Literal["THEME01", "THEME04"]] = {"left": "THEME04", "right": "THEME01"}


def collect_bones(armature: bpy.types.Armature) -> None:
    """Sort the 55 bones into collections, with a colour for each side; for armatures of any age."""
    for name in JOINT_NAMES:
        bone: bpy.types.Bone | None = armature.bones.get(name)
        if bone is None:
            continue
        bone_collection(armature, _collection_of(name)).assign(bone)
        side = name.split("_")[0]
        bone.color.palette = THEMES[side] if side in THEMES else "DEFAULT"


def bone_collection(armature: bpy.types.Armature, name: str) -> bpy.types.BoneCollection:
    """The collection of that name, made on first use."""
    return armature.collections_all.get(name) or armature.collections.new(name)


def _collection_of(name: str) -> str:
    if name in FACE_JOINTS:
        return FACE
    if name[-1].isdigit() and "spine" not in name:
        return "Left Hand" if name.startswith("left") else "Right Hand"
    return "Body"


def edit_bones(rig: bpy.types.Object, work: Callable[[bpy.types.ArmatureEditBones], None]) -> None:
    """Work on a rig's edit bones, with mode, selection and active object as they were."""
    layer = bpy.context.view_layer
    active, mode = layer.objects.active, bpy.context.mode
    if mode != "OBJECT":
        bpy.ops.object.mode_set(mode="OBJECT")
    selected = [obj for obj in layer.objects if obj.select_get()]
    for obj in selected:
        obj.select_set(False)
    rig.select_set(True)
    layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    work(armature_data(rig).edit_bones)
    bpy.ops.object.mode_set(mode="OBJECT")
    rig.select_set(False)
    for obj in selected:
        obj.select_set(True)
    layer.objects.active = active
    if mode == "POSE" and active is not None and active.type == "ARMATURE":
        bpy.ops.object.mode_set(mode="POSE")
