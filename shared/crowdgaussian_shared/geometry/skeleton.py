# SPDX-License-Identifier: Apache-2.0
"""The 55 joints of SMPL-X: names, order and parents, and what other skeletons call them.

Source: the joint table of the smplx package (vchoutas/smplx, joint_names.py).
"""

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

BODY_JOINTS = (
    "pelvis",
    "left_hip",
    "right_hip",
    "spine1",
    "left_knee",
    "right_knee",
    "spine2",
    "left_ankle",
    "right_ankle",
    "spine3",
    "left_foot",
    "right_foot",
    "neck",
    "left_collar",
    "right_collar",
    "head",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
)
FACE_JOINTS = ("jaw", "left_eye_smplhf", "right_eye_smplhf")
FINGERS = ("index", "middle", "pinky", "ring", "thumb")


def _hand(side: str) -> tuple[str, ...]:
    return tuple(f"{side}_{finger}{k}" for finger in FINGERS for k in (1, 2, 3))


JOINT_NAMES: tuple[str, ...] = BODY_JOINTS + FACE_JOINTS + _hand("left") + _hand("right")
NUM_JOINTS = len(JOINT_NAMES)  # 55
JOINT_INDEX: dict[str, int] = {name: i for i, name in enumerate(JOINT_NAMES)}

_BODY_PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19)
_FACE_PARENTS = (15, 15, 15)


def _hand_parents(wrist: int, first: int) -> tuple[int, ...]:
    return tuple(wrist if k % 3 == 0 else first + k - 1 for k in range(15))


PARENTS: tuple[int, ...] = (
    _BODY_PARENTS + _FACE_PARENTS + _hand_parents(20, 25) + _hand_parents(21, 40)
)


def mirror_index() -> np.ndarray:
    """Index of each joint's left-right counterpart (itself on the midline).  # [55] int64"""
    swap = {"left": "right", "right": "left"}
    other = (
        n.replace(n[: n.find("_")], swap[n[: n.find("_")]], 1) if n[: n.find("_")] in swap else n
        for n in JOINT_NAMES
    )
    return np.array([JOINT_INDEX[n] for n in other], dtype=np.int64)


# The parts of the body that people speak of, for choosing what a joint moves

PARTS = ("head", "torso", "arms", "hands", "legs", "feet")
_JOINTS_OF = {"head": ("head", "neck", "jaw", "eye_smplhf"), "arms": ("shoulder", "elbow"),
            "hands": ("wrist", *FINGERS), "legs": ("hip", "knee"),
            "feet": ("ankle", "foot")}  # fmt: skip


def joint_parts() -> np.ndarray:
    """The part, a place in PARTS, that each joint moves; the head's has the neck.  # [55] int64"""
    part_of = {joint: part for part, joints in _JOINTS_OF.items() for joint in joints}
    plain = (re.sub(r"^(left|right)_|\d$", "", name) for name in JOINT_NAMES)
    return np.array([PARTS.index(part_of.get(name, "torso")) for name in plain])


# What files for other programs call the joints. {s} is the side, {f} a finger, {k} one of its
# joints from 1. Rigify's are the names of its human metarig.

_CONVENTIONS: dict[str, dict[str, str]] = {
    "mixamo": {
        "pelvis": "mixamorig:Hips", "spine1": "mixamorig:Spine", "spine2": "mixamorig:Spine1",
        "spine3": "mixamorig:Spine2", "neck": "mixamorig:Neck", "head": "mixamorig:Head",
        "jaw": "mixamorig:Jaw", "eye_smplhf": "mixamorig:{s}Eye", "hip": "mixamorig:{s}UpLeg",
        "knee": "mixamorig:{s}Leg", "ankle": "mixamorig:{s}Foot", "foot": "mixamorig:{s}ToeBase",
        "collar": "mixamorig:{s}Shoulder", "shoulder": "mixamorig:{s}Arm",
        "elbow": "mixamorig:{s}ForeArm", "wrist": "mixamorig:{s}Hand",
        "finger": "mixamorig:{s}Hand{f}{k}",
    },
    "unreal": {
        "pelvis": "pelvis", "spine1": "spine_01", "spine2": "spine_02", "spine3": "spine_03",
        "neck": "neck_01", "head": "head", "jaw": "jaw", "eye_smplhf": "eye_{s}",
        "hip": "thigh_{s}", "knee": "calf_{s}", "ankle": "foot_{s}", "foot": "ball_{s}",
        "collar": "clavicle_{s}", "shoulder": "upperarm_{s}", "elbow": "lowerarm_{s}",
        "wrist": "hand_{s}", "finger": "{f}_0{k}_{s}",
    },
    "rigify": {
        "pelvis": "spine", "spine1": "spine.001", "spine2": "spine.002", "spine3": "spine.003",
        "neck": "spine.004", "head": "spine.006", "jaw": "jaw", "eye_smplhf": "eye.{s}",
        "hip": "thigh.{s}", "knee": "shin.{s}", "ankle": "foot.{s}", "foot": "toe.{s}",
        "collar": "shoulder.{s}", "shoulder": "upper_arm.{s}", "elbow": "forearm.{s}",
        "wrist": "hand.{s}", "finger": "f_{f}.0{k}.{s}", "thumb": "thumb.0{k}.{s}",
    },
}  # fmt: skip
_SIDE_WORDS = {
    "mixamo": {"left": "Left", "right": "Right"},
    "unreal": {"left": "l", "right": "r"},
    "rigify": {"left": "L", "right": "R"},
}
CONVENTIONS = ("smplx", *_CONVENTIONS)


def joint_names(convention: str) -> tuple[str, ...]:
    """The 55 joints in their order, as a program calls them: one of CONVENTIONS."""
    if convention == "smplx":
        return JOINT_NAMES
    return tuple(_called(convention, joint) for joint in JOINT_NAMES)


def _called(convention: str, joint: str) -> str:
    words = _CONVENTIONS[convention]
    side, _, part = joint.partition("_")
    if side not in ("left", "right"):
        return words[joint]
    side = _SIDE_WORDS[convention][side]
    if part[:-1] not in FINGERS:
        return words[part].format(s=side)
    finger, k = part[:-1], part[-1]
    if convention == "mixamo":
        finger = finger.title()
    return words.get(finger, words["finger"]).format(s=side, f=finger, k=k)


# What other skeletons call the joints: CMU, Mixamo, SMPL-X, Unreal, VRM, Rigify, Auto-Rig Pro,
# MPFB, Character Creator, Daz and those who name things alike

_BONES = {  # the family of bones
    "hip": ("upleg", "thigh", "upperleg", "femur"),
    "knee": ("leg", "shin", "calf", "lowerleg", "loleg", "tibia", "lowleg"),
    "ankle": ("foot",),
    "foot": ("toebase", "toe", "ball", "toes"),
    "collar": ("shoulder", "clavicle", "collar"),
    "shoulder": ("arm", "uparm", "upperarm", "humerus", "shldr"),
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
    "neck": ("neck", "neck0", "neck01", "neck1", "necklower", "spine004"),  # the last: Rigify
    "head": ("head", "spine006"),
    "jaw": ("jaw",),
    "left_eye_smplhf": ("lefteyesmplhf", "lefteye", "leye", "eyel"),
    "right_eye_smplhf": ("righteyesmplhf", "righteye", "reye", "eyer"),
}
_SIDES = {"left": ("left", "l"), "right": ("right", "r")}
_FINGER_WORDS = {"pinky": ("pinky", "little")}
NEEDED = tuple(f"{side}_{joint}" for side in _SIDES
               for joint in ("hip", "knee", "ankle", "shoulder", "elbow"))  # fmt: skip


def plain(name: str) -> str:
    """A name without prefixes, case and punctuation: mixamorig:LeftUpLeg -> leftupleg."""
    name = name.rsplit(":", 1)[-1].rsplit("|", 1)[-1].lower()
    name = re.sub(r"^(mixamorig\d*[\s_.\-]*|cc_base_|j_bip_(c_)?|[fm]_avg_)", "", name)
    name = re.sub(r"^(bip\d*|bip001|character\d*|b|def|org)[\s_.\-]+", "", name)
    return re.sub(r"[^a-z0-9]", "", name)


def _shorter(name: str) -> str:
    """A name without what tells parts of one bone apart: upperleg01.L, leg_stretch.l, root.x."""
    return plain(re.sub(r"(?i)bend|stretch|twist|[._]x$|\.\d{3}$|_?01(?=\.|$)", "", name))


def find_joints(
    names: Sequence[str], parents: Sequence[int], called: Mapping[str, str] = {}
) -> dict[int, int]:
    """Which joint of a skeleton is which of the 55.

    Args:
        names: of the joints.
        parents: index of each joint's parent, -1 for roots; parents come first.
        called: what some of the 55 are called there, by name; it is believed before any rule.

    Returns:
        {index in the 55: index in the skeleton}; joints without a counterpart are left out.
    """
    places: dict[str, int] = {}
    for index, name in enumerate(names):
        places.setdefault(plain(name), index)
    for index, name in enumerate(names):
        places.setdefault(_shorter(name), index)
    both = [_find_limbs(places, family) for family in (_BONES, _JOINTS)]
    found = max(both, key=len)
    for joint, words in _MIDDLE.items():
        at = next((places[word] for word in words if word in places), None)
        if at is not None:
            found[joint] = at
    pelvis = _find_pelvis(found, parents)
    if pelvis is not None:
        found["pelvis"] = pelvis
    found |= _find_fingers(places)
    told = {joint: names.index(name) for joint, name in called.items() if name in names}
    found |= told
    if "pelvis" in found:
        found |= _find_spine(found, parents) | told
    return {JOINT_INDEX[joint]: index for joint, index in found.items()}


def _find_pelvis(found: dict[str, int], parents: Sequence[int]) -> int | None:
    """What is called one, if legs and arms hang from it; else the last joint that carries both."""
    limbs = [found[name] for name in ("left_hip", "right_hip", "left_shoulder") if name in found]
    if len(limbs) < 3:
        return found.get("pelvis")
    chains = [list(_above(limb, parents)) for limb in limbs]
    carrying = [index for index in chains[0] if all(index in chain for chain in chains)]
    named = found.get("pelvis")
    return named if named in carrying or not carrying else carrying[0]


def _above(index: int, parents: Sequence[int]) -> Iterator[int]:
    """A joint and all those it hangs from, the nearest first."""
    while index >= 0:
        yield index
        index = parents[index]


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


def _first(places: dict[str, int], pairs: Sequence[tuple[str, ...]]) -> int | None:
    return next((places[key] for pair in pairs for key in pair if key in places), None)


def _find_fingers(places: dict[str, int]) -> dict[str, int]:
    found: dict[str, int] = {}
    for side, sides in _SIDES.items():
        for finger in FINGERS:
            for k in (1, 2, 3):
                keys = [
                    _sided(s, f"{hand}{word}{zero}{k}")
                    for word in _FINGER_WORDS.get(finger, (finger,))
                    for s in sides for hand in ("hand", "", "f") for zero in ("", "0")
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
    if not chain:
        return {}
    spread = {1: (3,), 2: (1, 3), 3: (1, 2, 3)}.get(len(chain))
    if spread is None:
        middle = chain[len(chain) // 2]
        return dict(zip(("spine1", "spine2", "spine3"), (chain[0], middle, chain[-1])))
    return {f"spine{k}": index for k, index in zip(spread, chain)}
