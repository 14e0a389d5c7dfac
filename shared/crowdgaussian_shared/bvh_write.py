# SPDX-License-Identifier: Apache-2.0
"""The 55 joints as a BVH: rest pose is the T-pose, y up, names and order of SMPL-X."""

from pathlib import Path

import numpy as np

from .files import write_bytes
from .motion import Motion, check_motion
from .rotations import axis_angle_to_matrix
from .skeleton import JOINT_NAMES, PARENTS

CENTIMETRES = 100.0  # what most readers of BVH expect
_END = {"head": (0.0, 0.18, 0.0), "jaw": (0.0, 0.0, 0.08)}  # metres; others go on as they come
_END_LENGTH = 0.6  # of the bone before


def write_motion_bvh(
    path: str | Path, motion: Motion, rest_joints: np.ndarray, unit: float = CENTIMETRES
) -> None:
    """Write a motion atomically.

    Args:
        path: the file.
        motion: in the scene frame; transl counted from the rest joints.
        rest_joints: [55, 3] metres, canonical frame.
        unit: of the file, how many make a metre.

    Raises:
        CrowdGaussianError: the motion is broken or the disk is full.
    """
    motion = check_motion(motion, motion.name)
    rest = np.asarray(rest_joints, np.float64) * unit
    lines = ["HIERARCHY", *_hierarchy(rest, unit, 0, 0), "MOTION", f"Frames: {motion.frames}",
             f"Frame Time: {1 / motion.fps:.9f}"]  # fmt: skip
    angles = _zxy_degrees(axis_angle_to_matrix(motion.poses[:, _ordered(0)]))
    angles = angles.reshape(motion.frames, -1)
    values = np.concatenate([motion.transl * unit + rest[0], angles], axis=1)
    lines += [" ".join(f"{v:.6f}" for v in row) for row in values.tolist()]
    write_bytes(path, ("\n".join(lines) + "\n").encode())


def _hierarchy(rest: np.ndarray, unit: float, joint: int, depth: int) -> list[str]:
    pad = "  " * depth
    above = PARENTS[joint]
    offset = rest[joint] - rest[above] if above >= 0 else np.zeros(3)
    place = "" if above >= 0 else "Xposition Yposition Zposition "
    lines = [
        f"{pad}{'JOINT' if above >= 0 else 'ROOT'} {JOINT_NAMES[joint]}",
        pad + "{",
        f"{pad}  OFFSET {_numbers(offset)}",
        f"{pad}  CHANNELS {3 if above >= 0 else 6} {place}Zrotation Xrotation Yrotation",
    ]
    children = _children(joint)
    for child in children:
        lines += _hierarchy(rest, unit, child, depth + 1)
    if not children:
        end = _END.get(JOINT_NAMES[joint])
        end = np.array(end) * unit if end else _END_LENGTH * offset
        inside = (f"  OFFSET {_numbers(end)}",)
        lines += [f"{pad}  {line}" for line in ("End Site", "{", *inside, "}")]
    return [*lines, pad + "}"]


def _children(joint: int) -> list[int]:
    return [child for child, parent in enumerate(PARENTS) if parent == joint]


def _ordered(joint: int) -> list[int]:
    """A joint and all below it in the order of the file, where children follow their parent."""
    return [joint, *(index for child in _children(joint) for index in _ordered(child))]


def _numbers(vector: np.ndarray) -> str:
    return " ".join(f"{v:.6f}" for v in vector)


def _zxy_degrees(matrices: np.ndarray) -> np.ndarray:
    """Angles of R = Rz Rx Ry, in that order.  # [..., 3, 3] -> [..., 3]

    Where x is a quarter turn, z and y turn about the same axis and z takes it all.
    """
    m = matrices
    x = np.arcsin(np.clip(m[..., 2, 1], -1, 1))
    locked = np.abs(m[..., 2, 1]) > 1 - 1e-10
    z = np.where(locked, np.arctan2(m[..., 1, 0], m[..., 0, 0]),
                 np.arctan2(-m[..., 0, 1], m[..., 1, 1]))  # fmt: skip
    y = np.where(locked, 0.0, np.arctan2(-m[..., 2, 0], m[..., 2, 2]))
    return np.degrees(np.stack([z, x, y], axis=-1))
