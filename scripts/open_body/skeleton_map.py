# SPDX-License-Identifier: Apache-2.0
"""MakeHuman's 163 bones as the 55 joints of SMPL-X: joint positions and skin weights."""

import numpy as np
from crowdgaussian_shared.geometry.skeleton import FINGERS, JOINT_INDEX, NUM_JOINTS, mirror_index

_FINGER_BONE = {"thumb": 1, "index": 2, "middle": 3, "ring": 4, "pinky": 5}
_SIDES = {"left": "L", "right": "R"}
# joint -> the bone heads whose mean it is. The spine joints sit at SMPL-X's relative heights.
_MIDLINE = {
    "pelvis": ("spine05", "spine03"),
    "spine1": ("spine03",),
    "spine2": ("spine02",),
    "spine3": ("spine01",),
    "neck": ("neck01",),
    "head": ("neck03", "head"),
    "jaw": ("jaw",),
}
_SIDED = {
    "hip": ("upperleg01",),
    "knee": ("lowerleg01",),
    "ankle": ("foot",),
    "foot": ("toe1-1", "toe3-1"),
    "collar": ("clavicle",),
    "shoulder": ("upperarm01",),
    "elbow": ("lowerarm01",),
    "wrist": ("wrist",),
    "eye_smplhf": ("eye",),
}
# bone -> joint: the skin of the bone and of all below it up to the next named bone.
_MIDLINE_SKIN = {
    "root": "pelvis",
    "spine03": "spine1",
    "spine02": "spine2",
    "spine01": "spine3",
    "neck01": "neck",
    "neck03": "head",
    "jaw": "jaw",
}
_SIDED_SKIN = {
    "upperleg01": "hip",
    "lowerleg01": "knee",
    "foot": "ankle",
    "toe1-1": "foot",
    "toe2-1": "foot",
    "toe3-1": "foot",
    "toe4-1": "foot",
    "toe5-1": "foot",
    "clavicle": "collar",
    "upperarm01": "shoulder",
    "lowerarm01": "elbow",
    "wrist": "wrist",
    "eye": "eye_smplhf",
}
_SPLIT_BONE = "spine04"  # bends with half of spine1, so that the waist folds softly


def _bones_of_joints() -> dict[str, tuple[str, ...]]:
    table = dict(_MIDLINE)
    for side, letter in _SIDES.items():
        for joint, bones in _SIDED.items():
            table[f"{side}_{joint}"] = tuple(f"{bone}.{letter}" for bone in bones)
        for finger in FINGERS:
            for k in (1, 2, 3):
                bone = f"finger{_FINGER_BONE[finger]}-{k}.{letter}"
                table[f"{side}_{finger}{k}"] = (bone,)
    return table


def _joint_of_bones() -> dict[str, str]:
    table = dict(_MIDLINE_SKIN)
    for side, letter in _SIDES.items():
        table |= {f"{bone}.{letter}": f"{side}_{joint}" for bone, joint in _SIDED_SKIN.items()}
        for finger in FINGERS:
            for k in (1, 2, 3):
                bone = f"finger{_FINGER_BONE[finger]}-{k}.{letter}"
                table[bone] = f"{side}_{finger}{k}"
    return table


def joint_positions(bones: list[str], heads: np.ndarray) -> np.ndarray:
    """SMPL-X joints from bone heads.  # [S, bones, 3] -> [S, 55, 3]"""
    joints = np.zeros((len(heads), NUM_JOINTS, 3), dtype=heads.dtype)
    for joint, names in _bones_of_joints().items():
        joints[:, JOINT_INDEX[joint]] = heads[:, [bones.index(n) for n in names]].mean(axis=1)
    return joints


def finger_tips(bones: list[str], tails: np.ndarray) -> np.ndarray:
    """Ends of the ten last finger bones, left hand first, in FINGERS order.  # [S, 10, 3]"""
    names = [f"finger{_FINGER_BONE[f]}-3.{s}" for s in _SIDES.values() for f in FINGERS]
    return tails[:, [bones.index(n) for n in names]]


def merge_weights(
    bones: list[str], parents: list[int], weights: np.ndarray, mirror: np.ndarray
) -> np.ndarray:
    """Bone weights to joint weights: those of the nearest named ancestor, made symmetric.

    Args:
        bones: the bone names, parents before children.
        parents: index of each bone's parent, -1 at the root.
        weights: [V, bones].
        mirror: [V] left-right counterparts.

    Returns:
        [V, 55] rows sum to 1.
    """
    named = _joint_of_bones()
    owner: list[int] = []
    for bone, parent in zip(bones, parents, strict=True):
        owner.append(JOINT_INDEX[named[bone]] if bone in named else owner[parent])
    merged = np.zeros((len(weights), NUM_JOINTS))
    np.add.at(merged.T, np.array(owner), weights.T)
    half = 0.5 * weights[:, bones.index(_SPLIT_BONE)]
    merged[:, JOINT_INDEX["pelvis"]] -= half
    merged[:, JOINT_INDEX["spine1"]] += half
    return 0.5 * (merged + merged[mirror][:, mirror_index()])
