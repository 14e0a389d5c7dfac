# SPDX-License-Identifier: Apache-2.0
"""Motions of other skeletons become poses of the 55 joints.

Of every source joint the orientation relative to its rest is known. What differs between the two
rest poses (T or A, toes out, spine along another axis) is a constant turn per joint: the trunk's
from the frame of hips and spine, a limb's from its parent's and the smallest turn that carries our
bone's rest direction to the source's. Then posed bones point where the source's point.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..errors import InputError
from ..geometry.skeleton import FINGERS, JOINT_INDEX, JOINT_NAMES, NUM_JOINTS, PARENTS
from .feet import between
from .kinematics import adult_joints, local_poses
from .motion import CONTACTS, Motion, check_motion, find_contacts
from .upright import SCENE_FROM, UpAxis, up_axis

# What other skeletons call the joints: CMU, Mixamo, SMPL-X and those who name things alike

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
        return (
            dict(zip(("spine1", "spine2", "spine3"), (chain[0], middle, chain[-1])))
            if chain
            else {}
        )
    return {f"spine{k}": index for k, index in zip(spread, chain)}


UNITS = {"metres": 1.0, "feet": 0.3048, "inches": 0.0254, "centimetres": 0.01, "millimetres": 1e-3}
_ADULT_LEG = 0.8  # metres
_LIKELY = (0.6, 1.5)  # legs of people, of that
_SAME = np.radians(15.0)  # SMPL-X names and bones within this of ours: it is our T-pose
_STEEP = 0.87  # sine; a foot that slopes by more than 60 degrees does not stand flat
_STANDING = np.radians(25.0)  # a trunk this close to an axis stands along it


@dataclass(frozen=True)
class Source:
    """What moved: any skeleton over time, in any world and unit."""

    name: str  # of the motion, for sentences
    names: list[str]
    parents: list[int]
    rest: np.ndarray  # [J, 3] places of the joints at rest
    turns: np.ndarray  # [T, J, 3, 3] orientations relative to the rest, in the world
    root: np.ndarray  # [T, 3] where the pelvis goes; any joint of `paths` if that is given
    fps: float
    ends: dict[int, np.ndarray] = field(default_factory=dict)  # joint: [3] rest place of its tip
    unit: float | None = None  # metres; None guesses
    up: UpAxis | None = None  # None guesses


def retarget(source: Source) -> Motion:
    """The source's motion on the 55 joints, in the scene frame and in metres.

    Raises:
        InputError: joints that a person needs are not there.
    """
    found = find_joints(source.names, source.parents)
    missing = [n for n in ("pelvis", *NEEDED) if JOINT_INDEX[n] not in found]
    if missing:
        raise InputError(
            f"{source.name} is of another skeleton: of {len(source.names)} joints "
            f"({', '.join(source.names[:3])}, ...) none is known as {missing[0]}."
        )
    leg = _source_leg(source.rest, found)
    if not leg > 0:
        raise InputError(f"{source.name} has a skeleton with legs of no length.")
    unit = source.unit or guess_unit(leg)
    paths = _paths(source, found)
    axis = source.up or _rest_up(source.rest, found) or _find_up(paths, found)
    world = SCENE_FROM[axis]
    rest_turns = _rest_turns(source, found)
    turns = np.empty((len(source.turns), NUM_JOINTS, 3, 3))
    for joint, parent in enumerate(PARENTS):
        if joint in found:
            turns[:, joint] = world @ source.turns[:, found[joint]] @ rest_turns[joint]
        else:
            turns[:, joint] = turns[:, parent]
    scene = {joint: path @ world.T * unit for joint, path in paths.items()}
    motion = Motion(source.name, source.fps, local_poses(turns), scene[0], leg=leg * unit)
    motion = check_motion(motion, source.name)
    feet = [JOINT_INDEX[name] for name in CONTACTS]
    points = np.stack([scene[j if j in scene else PARENTS[j]] for j in feet], axis=1)
    return replace(motion, contacts=find_contacts(points, source.fps, leg * unit))


def guess_unit(leg: float) -> float:
    """Metres in a unit, from a leg's length in it: a known one, or what makes an adult."""
    for metres in UNITS.values():
        if _LIKELY[0] <= leg * metres / _ADULT_LEG <= _LIKELY[1]:
            return metres
    return _ADULT_LEG / leg


def _source_leg(rest: np.ndarray, found: dict[int, int]) -> float:
    total = 0.0
    for side in ("left", "right"):
        hip, knee, ankle = (rest[found[JOINT_INDEX[f"{side}_{j}"]]] for j in _LEG)
        total += float(np.linalg.norm(knee - hip) + np.linalg.norm(ankle - knee))
    return total / 2


_LEG = ("hip", "knee", "ankle")


def _paths(source: Source, found: dict[int, int]) -> dict[int, np.ndarray]:
    """Where pelvis, head and feet go, in the source's world and unit.  # {joint: [T, 3]}"""
    wanted = {0, JOINT_INDEX["head"], JOINT_INDEX["neck"], *(JOINT_INDEX[n] for n in CONTACTS)}
    wanted |= {JOINT_INDEX["left_shoulder"]}
    paths = {}
    pelvis = found[0]
    for joint in wanted & set(found):
        chain: list[int] = []
        at = found[joint]
        while at != pelvis and at >= 0:
            chain.insert(0, at)
            at = source.parents[at]
        path = source.root.copy()
        above = pelvis
        for index in chain:
            bone = source.rest[index] - source.rest[above]
            path += source.turns[:, above] @ bone
            above = index
        paths[joint] = path
    return paths


def _rest_up(rest: np.ndarray, found: dict[int, int]) -> UpAxis | None:
    """The axis along which the rest pose stands; None for skeletons that are laid out otherwise."""
    up = _trunk(rest, found)[:, 1]
    axis = up_axis(up[None])
    return axis if (SCENE_FROM[axis] @ up)[1] > np.cos(_STANDING) and axis != "-y" else None


def _find_up(paths: dict[int, np.ndarray], found: dict[int, int]) -> UpAxis:
    top = next(j for j in (JOINT_INDEX[n] for n in ("head", "neck", "left_shoulder")) if j in paths)
    ankles = (paths[JOINT_INDEX["left_ankle"]] + paths[JOINT_INDEX["right_ankle"]]) / 2
    return up_axis(paths[top] - ankles)


def _rest_turns(source: Source, found: dict[int, int]) -> dict[int, np.ndarray]:
    """What carries our rest orientation to the source's, for each joint.  # {joint: [3, 3]}"""
    ours = adult_joints()
    if _is_ours(source, found, ours):
        return dict.fromkeys(found, np.eye(3))
    trunk = _trunk(source.rest, found)
    turns: dict[int, np.ndarray] = {}
    for joint, parent in enumerate(PARENTS):
        above = turns.get(parent, trunk)
        turns[joint] = _limb(joint, above, source, found, ours)
    return {joint: turns[joint] for joint in found}


def _is_ours(source: Source, found: dict[int, int], ours: np.ndarray) -> bool:
    """Our names, and limbs that point where a T-pose's point."""
    if any(source.names[index] != JOINT_NAMES[joint] for joint, index in found.items()):
        return False
    if len(found) < 22:
        return False
    for joint in range(1, 22):
        parent = PARENTS[joint]
        if JOINT_NAMES[joint].split("_")[-1] not in ("knee", "ankle", "elbow", "wrist"):
            continue
        a, b = ours[joint] - ours[parent], source.rest[found[joint]] - source.rest[found[parent]]
        cosine = a @ b / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-12)
        if cosine < np.cos(_SAME):
            return False
    return True


def _trunk(rest: np.ndarray, found: dict[int, int]) -> np.ndarray:
    """The rest frame of the source's trunk: left, up, forward.  # [3, 3] columns"""
    hips = [rest[found[JOINT_INDEX[f"{side}_hip"]]] for side in ("left", "right")]
    top = [rest[found[JOINT_INDEX[f"{side}_shoulder"]]] for side in ("left", "right")]
    left, up = hips[0] - hips[1], (top[0] + top[1] - hips[0] - hips[1]) / 2
    axis = np.sign(up[np.argmax(np.abs(up))]) * np.eye(3)[np.argmax(np.abs(up))]
    if up @ axis > np.cos(_STANDING) * np.linalg.norm(up):
        up = axis
    up = up / np.linalg.norm(up)
    left = left - up * (left @ up)
    left = left / np.linalg.norm(left)
    return np.stack([left, up, np.cross(left, up)], axis=1)


def _limb(
    joint: int, above: np.ndarray, source: Source, found: dict[int, int], ours: np.ndarray
) -> np.ndarray:
    """The turn of one joint from its parent's.  # [3, 3]"""
    name = JOINT_NAMES[joint]
    kind = name.split("_")[-1]
    if joint not in found or not (kind in _BEND or kind[-1:].isdigit() and joint >= 25):
        return above
    tip = _tip(joint, source, found, ours)
    if tip is None:
        return above
    mine, theirs = tip
    if np.linalg.norm(theirs) < 1e-6 or np.linalg.norm(mine) < 1e-6:
        return above
    mine = above @ mine
    if kind == "ankle":
        return _foot(above, mine, theirs)
    return between(mine, theirs, fallback=above[:, 0]) @ above


_BEND = ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")
_NEXT = {"hip": "knee", "knee": "ankle", "ankle": "foot", "shoulder": "elbow", "elbow": "wrist",
         "wrist": "middle1"}  # fmt: skip


def _tip(
    joint: int, source: Source, found: dict[int, int], ours: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Where the bone below a joint points, ours and theirs, at rest."""
    name = JOINT_NAMES[joint]
    side, kind = name.split("_", 1)
    if kind in _NEXT:
        below = JOINT_INDEX[f"{side}_{_NEXT[kind]}"]
    elif kind[-1] in "12":
        below = JOINT_INDEX[f"{name[:-1]}{int(kind[-1]) + 1}"]
    else:
        return None
    here = source.rest[found[joint]]
    if below in found:
        return ours[below] - ours[joint], source.rest[found[below]] - here
    if found[joint] in source.ends:
        return ours[below] - ours[joint], source.ends[found[joint]] - here
    return None


def _foot(above: np.ndarray, mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Feet that stand flat at rest are only turned about the vertical.

    Where ankle and ball lie in a foot differs between skeletons; soles are flat in both.
    """
    flat = np.array([above.T @ v / np.linalg.norm(v) for v in (mine, theirs)])
    if not -_STEEP < flat[1, 1] < 0.2:
        return between(mine, theirs, fallback=above[:, 0]) @ above
    flat[:, 1] = 0.0
    return above @ between(flat[0], flat[1])
