# SPDX-License-Identifier: Apache-2.0
"""Motions of other skeletons become poses of the 55 joints.

Of every source joint the orientation relative to its rest is known. What differs between the two
rest poses (T or A, toes out, spine along another axis) is a constant turn per joint: the trunk's
from the frame of hips and spine, a limb's from its parent's and the smallest turn that carries our
bone's rest direction to the source's. Then posed bones point where the source's point.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ..errors import InputError
from ..geometry.skeleton import (
    JOINT_INDEX,
    JOINT_NAMES,
    NEEDED,
    NUM_JOINTS,
    PARENTS,
    find_joints,
)
from .feet import between
from .kinematics import adult_joints, local_poses
from .motion import CONTACTS, Motion, check_motion, find_contacts
from .upright import SCENE_FROM, UpAxis, up_axis

UNITS = {"metres": 1.0, "feet": 0.3048, "inches": 0.0254, "centimetres": 0.01, "millimetres": 1e-3}
_ADULT_LEG = 0.8  # metres
_LIKELY = (0.6, 1.5)  # legs of people, of that
_SAME = np.radians(15.0)  # SMPL-X names and bones within this of ours: it is our T-pose
_STEEP = 0.87  # sine; a foot that slopes by more than 60 degrees does not stand flat
_STANDING = np.radians(25.0)  # a trunk this close to an axis stands along it
_SQUARE = 0.5  # cosine between hips and trunk from which a rest pose is no person's
_CHEST = JOINT_INDEX["spine3"]
_COLLARS = (JOINT_INDEX["left_collar"], JOINT_INDEX["right_collar"])
_TWIST = 4.0  # how much a trunk's twist counts against bent hips where a frame serves as rest pose


@dataclass(frozen=True)
class Source:
    """What moved: any skeleton over time, in any world and unit."""

    name: str  # of the motion, for sentences
    names: list[str]
    parents: list[int]
    rest: np.ndarray  # [J, 3] places of the joints at rest
    turns: np.ndarray  # [T, J, 3, 3] orientations relative to the rest, in the world
    root: np.ndarray  # [T, 3] where the pelvis goes
    fps: float
    ends: dict[int, np.ndarray] = field(default_factory=dict)  # joint: [3] rest place of its tip
    unit: float | None = None  # metres; None guesses
    up: UpAxis | None = None  # None guesses
    called: Mapping[str, str] = field(default_factory=dict)  # joints' names there, see find_joints


def retarget(source: Source) -> Motion:
    """The source's motion on the 55 joints, in the scene frame and in metres.

    Raises:
        InputError: joints that a person needs are not there.
    """
    found = find_joints(source.names, source.parents, source.called)
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
    places = _places(source, found[0])
    axis = source.up or _find_up(source, places, found)
    world = SCENE_FROM[axis]
    if _is_stand(source.rest, found):
        rest_turns = _rest_turns(source, found)
    else:
        source = _rested(source, places, found)
        rest_turns = _rest_turns(source, found, twisted=True)
    turns = np.empty((len(source.turns), NUM_JOINTS, 3, 3))
    for joint, parent in enumerate(PARENTS):
        if joint in found:
            turns[:, joint] = world @ source.turns[:, found[joint]] @ rest_turns[joint]
        else:
            turns[:, joint] = turns[:, parent]
    scene = {joint: places[:, index] @ world.T * unit for joint, index in found.items()}
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


def _places(source: Source, pelvis: int) -> np.ndarray:
    """Where all joints go, in the source's world and unit.  # [T, J, 3]"""
    places = np.empty((len(source.turns), len(source.names), 3))
    for index, parent in enumerate(source.parents):
        places[:, index] = (
            0.0
            if parent < 0
            else places[:, parent]
            + source.turns[:, parent] @ (source.rest[index] - source.rest[parent])
        )
    return places + (source.root - places[:, pelvis])[:, None]


def _across(places: np.ndarray, found: dict[int, int], joint: str) -> np.ndarray:
    """From the right to the left one of two joints.  # [..., 3] of [..., J, 3]"""
    left, right = (found[JOINT_INDEX[f"{side}_{joint}"]] for side in ("left", "right"))
    return places[..., left, :] - places[..., right, :]


def _middle(places: np.ndarray, found: dict[int, int], joint: str) -> np.ndarray:
    left, right = (found[JOINT_INDEX[f"{side}_{joint}"]] for side in ("left", "right"))
    return (places[..., left, :] + places[..., right, :]) / 2


def _trunk_up(places: np.ndarray, found: dict[int, int]) -> np.ndarray:
    return _middle(places, found, "shoulder") - _middle(places, found, "hip")


def _legs_up(places: np.ndarray, found: dict[int, int]) -> np.ndarray:
    return _middle(places, found, "hip") - _middle(places, found, "ankle")


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return (a * b).sum(-1) / np.maximum(lengths, 1e-12)


def _is_stand(rest: np.ndarray, found: dict[int, int]) -> bool:
    """Whether the rest pose is a person who stands: exporters that bake joint orients have none."""
    trunk, legs = _trunk_up(rest, found), _legs_up(rest, found)
    hips, shoulders = _across(rest, found, "hip"), _across(rest, found, "shoulder")
    square = abs(_cosine(hips, trunk)) < _SQUARE
    return bool(square and min(_cosine(hips, shoulders), _cosine(trunk, legs)) > np.cos(_STANDING))


def _rested(source: Source, places: np.ndarray, found: dict[int, int]) -> Source:
    """The same motion with its straightest frame as rest pose.

    Hips, shoulders and spine of that frame are what a rest pose would have to say: it is the one
    where the trunk is twisted least and the legs are most in line with it.
    """
    trunk = _trunk_up(places, found)
    along = trunk / np.linalg.norm(trunk, axis=-1, keepdims=True)
    hips, shoulders = (
        across - along * (across * along).sum(-1, keepdims=True)
        for across in (_across(places, found, joint) for joint in ("hip", "shoulder"))
    )
    straight = _TWIST * _cosine(hips, shoulders) + _cosine(trunk, _legs_up(places, found))
    best = int(np.argmax(straight))
    turned = source.turns[best]
    ends = {
        joint: places[best, joint] + turned[joint] @ (tip - source.rest[joint])
        for joint, tip in source.ends.items()
    }
    return replace(
        source,
        rest=places[best],
        turns=source.turns @ turned.swapaxes(1, 2),
        ends=ends,
    )


def _find_up(source: Source, places: np.ndarray, found: dict[int, int]) -> UpAxis:
    """The axis people stand along: as they move if they are up, else as they rest."""
    joints = (JOINT_INDEX[name] for name in ("head", "neck", "left_shoulder"))
    top = next(found[joint] for joint in joints if joint in found)
    moving = places[:, top] - _middle(places, found, "ankle")
    axis = up_axis(moving)
    upright = _cosine(moving @ SCENE_FROM[axis].T, np.array([0.0, 1.0, 0.0]))
    if np.median(upright) > np.cos(_STANDING) or not _is_stand(source.rest, found):
        return axis
    up = _trunk(source.rest, found)[:, 1]
    rest = up_axis(up[None])
    stands = (SCENE_FROM[rest] @ up)[1] > np.cos(_STANDING) and rest != "-y"
    return rest if stands else axis


def _rest_turns(
    source: Source, found: dict[int, int], twisted: bool = False
) -> dict[int, np.ndarray]:
    """What carries our rest orientation to the source's, for each joint.  # {joint: [3, 3]}

    Where the trunk of the rest pose may be twisted, the chest goes by the shoulders.
    """
    ours = adult_joints()
    if _is_ours(source, found, ours):
        return dict.fromkeys(found, np.eye(3))
    trunk, chest = (_trunk(source.rest, found, joint) for joint in ("hip", "shoulder"))
    turns: dict[int, np.ndarray] = {}
    for joint, parent in enumerate(PARENTS):
        above = chest if twisted and joint == _CHEST else turns.get(parent, trunk)
        rigid = joint in _COLLARS and not twisted
        turns[joint] = above if rigid else _limb(joint, above, source, found, ours)
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


def _trunk(rest: np.ndarray, found: dict[int, int], joint: str = "hip") -> np.ndarray:
    """The rest frame of the trunk: left at these joints, up, forward.  # [3, 3] columns"""
    left, up = _across(rest, found, joint), _trunk_up(rest, found)
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
    tip = _tip(joint, source, found, ours) if joint in found else None
    if tip is None:
        return above
    mine, theirs = tip
    if np.linalg.norm(theirs) < 1e-6 or np.linalg.norm(mine) < 1e-6:
        return above
    mine = above @ mine
    if JOINT_NAMES[joint].endswith("ankle"):
        return _foot(above, mine, theirs)
    return between(mine, theirs, fallback=above[:, 0]) @ above


_NEXT = {"hip": "knee", "knee": "ankle", "ankle": "foot", "collar": "shoulder",
         "shoulder": "elbow", "elbow": "wrist", "wrist": "middle1"}  # fmt: skip
_FIRST_FINGER = JOINT_INDEX["left_index1"]


def _tip(
    joint: int, source: Source, found: dict[int, int], ours: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Where the bone below a joint points, ours and theirs, at rest; None for the trunk."""
    name = JOINT_NAMES[joint]
    side, _, kind = name.partition("_")
    if kind in _NEXT:
        below = JOINT_INDEX[f"{side}_{_NEXT[kind]}"]
    elif joint >= _FIRST_FINGER and kind[-1] in "12":
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
