# SPDX-License-Identifier: Apache-2.0
"""What other skeletons call the joints: CMU, Mixamo, SMPL-X and those who name things alike.

Two families exist. Joints are called after the bone below them (LeftUpLeg, LeftLeg, LeftArm:
CMU, Mixamo, LAFAN, Rokoko, Unreal's thigh_l), or after the joint itself (LeftHip, LeftKnee: SMPL-X,
3ds Max conversions of CMU). LeftShoulder and LeftFoot mean different joints in the two.
"""

import re
from collections.abc import Sequence

from .skeleton import FINGERS, JOINT_INDEX

_BONES = {  # the family of bones
    "hip": ("upleg", "thigh", "upperleg", "femur"),
    "knee": ("leg", "shin", "calf", "lowerleg", "loleg", "tibia", "lowleg"),
    "ankle": ("foot",),
    "foot": ("toebase", "toe", "ball", "toes"),
    "collar": ("shoulder", "clavicle", "collar"),
    "shoulder": ("arm", "uparm", "upperarm", "humerus"),
    "elbow": ("forearm", "lowerarm", "loarm", "radius", "lowarm"),
    "wrist": ("hand", "wrist"),
}
_JOINTS = {  # the family of joints
    "hip": ("hip",),
    "knee": ("knee",),
    "ankle": ("ankle",),
    "foot": ("foot", "toe", "toebase", "ball"),
    "collar": ("collar", "clavicle"),
    "shoulder": ("shoulder",),
    "elbow": ("elbow",),
    "wrist": ("wrist", "hand"),
}
_MIDDLE = {
    "pelvis": ("hips", "pelvis", "hip", "root"),
    "neck": ("neck", "neck0", "neck01", "neck1"),
    "head": ("head",),
    "jaw": ("jaw",),
    "left_eye_smplhf": ("lefteyesmplhf", "lefteye", "leye"),
    "right_eye_smplhf": ("righteyesmplhf", "righteye", "reye"),
}
_SIDES = {"left": ("left", "l"), "right": ("right", "r")}
_FINGER_WORDS = {"pinky": ("pinky", "little")}
NEEDED = tuple(f"{side}_{joint}" for side in _SIDES
               for joint in ("hip", "knee", "ankle", "shoulder", "elbow"))  # fmt: skip


def plain(name: str) -> str:
    """A name without prefixes, case and punctuation: mixamorig:LeftUpLeg -> leftupleg."""
    name = name.rsplit(":", 1)[-1].rsplit("|", 1)[-1].lower()
    name = re.sub(r"^(mixamorig\d*|bip\d*|bip001|character\d*|b|def|org)[\s_.\-]+", "", name)
    return re.sub(r"[^a-z0-9]", "", name)


def find_joints(names: Sequence[str], parents: Sequence[int]) -> dict[int, int]:
    """Which joint of a skeleton is which of the 55.

    Args:
        names: of the joints.
        parents: index of each joint's parent, -1 for roots; parents come first.

    Returns:
        {index in the 55: index in the skeleton}; joints without a counterpart are left out.
    """
    places: dict[str, int] = {}
    for index, name in enumerate(names):
        places.setdefault(plain(name), index)
    both = [_find_limbs(places, family) for family in (_BONES, _JOINTS)]
    found = max(both, key=len)
    for joint, words in _MIDDLE.items():
        at = next((places[word] for word in words if word in places), None)
        if at is not None:
            found[joint] = at
    found |= _find_fingers(places)
    if "pelvis" in found:
        found |= _find_spine(found, parents)
    return {JOINT_INDEX[joint]: index for joint, index in found.items()}


def _find_limbs(places: dict[str, int], family: dict[str, tuple[str, ...]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for side, sides in _SIDES.items():
        for joint, words in family.items():
            at = _first(places, [_sided(s, word) for word in words for s in sides])
            if at is not None:
                found[f"{side}_{joint}"] = at
    return found


def _sided(side: str, word: str) -> tuple[str, str]:
    return side + word, word + side


def _first(places: dict[str, int], pairs: list[tuple[str, ...]]) -> int | None:
    return next((places[key] for pair in pairs for key in pair if key in places), None)


def _find_fingers(places: dict[str, int]) -> dict[str, int]:
    found: dict[str, int] = {}
    for side, sides in _SIDES.items():
        for finger in FINGERS:
            for k in (1, 2, 3):
                keys = [
                    _sided(s, f"{hand}{word}{zero}{k}")
                    for word in _FINGER_WORDS.get(finger, (finger,))
                    for s in sides for hand in ("hand", "") for zero in ("", "0")
                ]  # fmt: skip
                at = _first(places, keys)
                if at is not None:
                    found[f"{side}_{finger}{k}"] = at
    return found


def _find_spine(found: dict[str, int], parents: Sequence[int]) -> dict[str, int]:
    """The spine is what lies between the pelvis and the neck, or the arms where there is none."""
    tops = [found.get(joint) for joint in ("neck", "head", "left_collar", "left_shoulder")]
    top = next((index for index in tops if index is not None), None)
    chain: list[int] = []
    while top is not None and top >= 0 and top != found["pelvis"]:
        top = parents[top]
        if top >= 0 and top != found["pelvis"]:
            chain.insert(0, top)
    if top != found["pelvis"] or not chain:
        return {}
    taken = set(found.values())
    chain = [index for index in chain if index not in taken]
    spread = {1: (3,), 2: (1, 3), 3: (1, 2, 3)}.get(len(chain))
    if spread is None:
        middle = chain[len(chain) // 2]
        return dict(zip(("spine1", "spine2", "spine3"), (chain[0], middle, chain[-1]))) \
            if chain else {}
    return {f"spine{k}": index for k, index in zip(spread, chain)}
