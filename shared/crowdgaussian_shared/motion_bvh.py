# SPDX-License-Identifier: Apache-2.0
"""Motion from BVH files, whatever their skeleton is called."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from .bvh import Bvh, BvhJoint, read_bvh
from .motion import Motion, check_fps
from .motion_names import find_joints
from .motion_retarget import Source, retarget
from .motion_upright import UpAxis
from .rotations import axis_angle_to_matrix
from .skeleton import JOINT_INDEX

_AXES = {"x": 0, "y": 1, "z": 2}


@dataclass(frozen=True)
class BvhOptions:
    """What a BVH does not say."""

    up: UpAxis | Literal["auto"] = "auto"
    unit: float | None = None  # metres; None guesses from the legs
    fps: float | None = None  # None takes the file's


def read_motion_bvh(path: str | Path, options: BvhOptions = BvhOptions()) -> Motion:
    """Read a BVH and put its motion on the 55 joints.

    Raises:
        CrowdGaussianError: not a whole BVH, of a skeleton without a person's joints, or too long.
    """
    path = Path(path)
    bvh = read_bvh(path)
    fps = check_fps(options.fps or _whole_fps(1 / bvh.frame_time), str(path))
    names = [joint.name for joint in bvh.joints]
    parents = [joint.parent for joint in bvh.joints]
    rest = np.zeros((len(names), 3))
    for index, joint in enumerate(bvh.joints):
        rest[index] = joint.offset + (rest[joint.parent] if joint.parent >= 0 else 0)
    turns, places = _pose(bvh)
    pelvis = find_joints(names, parents).get(JOINT_INDEX["pelvis"], 0)
    ends = {i: rest[i] + joint.end for i, joint in enumerate(bvh.joints) if joint.end is not None}
    up = None if options.up == "auto" else options.up
    return retarget(Source(
        str(path), names, parents, rest, turns, places[pelvis], fps, ends, options.unit, up,
    ))  # fmt: skip


def _whole_fps(fps: float) -> float:
    """Frame times are rounded in the file: 59.9999 is 60."""
    return float(round(fps)) if abs(fps - round(fps)) < 1e-4 * fps else fps


def _pose(bvh: Bvh) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Orientations of all joints [T, J, 3, 3] and places of those near the root {j: [T, 3]}."""
    frames = len(bvh.values)
    turns = np.empty((frames, len(bvh.joints), 3, 3))
    places: dict[int, np.ndarray] = {}
    column = 0
    for index, joint in enumerate(bvh.joints):
        values = bvh.values[:, column : column + len(joint.channels)]
        column += len(joint.channels)
        local, place = _local(joint, values)
        if joint.parent < 0:
            turns[:, index], places[index] = local, place
        else:
            above = turns[:, joint.parent]
            turns[:, index] = above @ local
            places[index] = places[joint.parent] + np.einsum("tab,tb->ta", above, place)
    return turns, places


def _local(joint: BvhJoint, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotation [T, 3, 3] and place [T, 3] relative to the parent.

    Rotations multiply in the order of the channels. Position channels replace the offset.
    """
    frames = len(values)
    turn = np.tile(np.eye(3), (frames, 1, 1))
    place = np.tile(joint.offset, (frames, 1))
    for k, channel in enumerate(joint.channels):
        axis = _AXES[channel[0]]
        if channel.endswith("rotation"):
            vector = np.zeros((frames, 3))
            vector[:, axis] = np.radians(values[:, k])
            turn = turn @ axis_angle_to_matrix(vector)
        elif channel.endswith("position"):
            place[:, axis] = values[:, k]
    return turn, place
