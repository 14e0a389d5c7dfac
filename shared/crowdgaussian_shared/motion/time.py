# SPDX-License-Identifier: Apache-2.0
"""Motion in time: frame rates, cuts, loops, and blends between poses."""

from dataclasses import replace

import numpy as np

from ..errors import InputError
from ..geometry.rotations import (
    axis_angle_to_matrix,
    axis_angle_to_quat,
    matrix_to_axis_angle,
    quat_to_axis_angle,
)
from .kinematics import about_y, heading
from .motion import MAX_FRAMES, Motion, check_fps, check_frames, map_rows

_CLOSE = 0.9995  # cosine above which a straight line is as good as the arc


def ease(x: np.ndarray) -> np.ndarray:
    """From 0 to 1 with a soft start and end.  # any shape"""
    x = np.clip(x, 0.0, 1.0)
    return x * x * (3 - 2 * x)


def slerp(a: np.ndarray, b: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The way from quaternion a (weight 0) to b (weight 1) along the shorter arc.

    Args:
        a: [..., 4] unit quaternions.
        b: [..., 4] unit quaternions.
        weight: broadcasts against the leading shape.

    Source: Shoemake 1985, with the line for small angles.
    """
    weight = np.asarray(weight, np.float64)[..., None]
    dot = np.sum(a * b, axis=-1, keepdims=True)
    b, dot = np.where(dot < 0, -b, b), np.abs(dot)
    angle = np.arccos(np.clip(dot, 0, 1))
    sine = np.where(dot > _CLOSE, 1.0, np.sin(angle))
    line = dot > _CLOSE
    wa = np.where(line, 1 - weight, np.sin((1 - weight) * angle) / sine)
    wb = np.where(line, weight, np.sin(weight * angle) / sine)
    mixed = wa * a + wb * b
    return mixed / np.linalg.norm(mixed, axis=-1, keepdims=True)


def blend_poses(a: np.ndarray, b: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Poses between a (weight 0) and b (weight 1).  # [..., 3] axis-angle"""
    return quat_to_axis_angle(slerp(axis_angle_to_quat(a), axis_angle_to_quat(b), weight))


def resample(motion: Motion, fps: float) -> Motion:
    """The same motion at another frame rate; it begins at its first frame and never lasts longer.

    Raises:
        CrowdGaussianError: no such frame rate, or too many frames.
    """
    check_fps(fps, motion.name)
    if fps == motion.fps or motion.frames == 1:
        return replace(motion, fps=float(fps))
    last = round((motion.frames - 1) * fps / motion.fps)
    last -= last / fps > motion.seconds  # no frame after the motion's end, not by one rounding
    count = last + 1
    check_frames(count, motion.name)
    at = np.minimum(np.arange(count) * (motion.fps / fps), motion.frames - 1)
    before = np.minimum(at.astype(int), motion.frames - 2)
    part = at - before
    poses = blend_poses(motion.poses[before], motion.poses[before + 1], part[:, None])
    transl = motion.transl[before] + part[:, None] * np.diff(motion.transl, axis=0)[before]
    nearest = np.minimum(np.round(at).astype(int), motion.frames - 1)
    contacts = None if motion.contacts is None else motion.contacts[nearest]
    return replace(motion, fps=float(fps), poses=poses, transl=transl, contacts=contacts)


def cut(motion: Motion, first: int, last: int | None = None) -> Motion:
    """Frames first..last, both counted; last None is the end.

    Raises:
        InputError: nothing is left.
    """
    end = motion.frames if last is None else min(last + 1, motion.frames)
    if not 0 <= first < end:
        raise InputError(
            f"{motion.name} has {motion.frames} frames; frames {first} to {end - 1} are not a part "
            "of it."
        )
    return map_rows(motion, lambda rows: rows[first:end])


def move(motion: Motion, turn: float, shift: np.ndarray) -> Motion:
    """The motion turned about the vertical axis through the origin, then shifted.

    Args:
        motion: any.
        turn: radians about y.
        shift: [3] metres.
    """
    matrix = about_y(turn)
    poses = motion.poses.copy()
    poses[:, 0] = matrix_to_axis_angle(matrix @ axis_angle_to_matrix(poses[:, 0]))
    return replace(motion, poses=poses, transl=motion.transl @ matrix.T + shift)


def face_forward(motion: Motion) -> Motion:
    """Begins above the origin facing +z; heights stay."""
    turn = -float(heading(axis_angle_to_matrix(motion.poses[0, 0])))
    turned = move(motion, turn, np.zeros(3))
    return move(turned, 0.0, -turned.transl[0] * (1, 0, 1))


def in_place(motion: Motion) -> Motion:
    """Without its way over the floor; heights and turns stay."""
    return replace(motion, transl=motion.transl * (0, 1, 0) + motion.transl[0] * (1, 0, 1))


def append(first: Motion, second: Motion, overlap: int) -> Motion:
    """One motion after the other, which goes on from where the first ends and as it faces.

    Args:
        first: goes before.
        second: at the same frame rate; moved over the floor to fit.
        overlap: frames over which the end of the first turns into the start of the second.
    """
    overlap = min(overlap, first.frames - 1, second.frames - 1)
    end = first.frames - overlap  # frame of the first where the second begins
    meet = min(end, first.frames - 1)
    a, b = axis_angle_to_matrix(first.poses[meet, 0]), axis_angle_to_matrix(second.poses[0, 0])
    turned = move(second, float(heading(a) - heading(b)), np.zeros(3))
    step = np.zeros(3)
    if overlap == 0 and first.frames > 1:  # one more step in the same direction
        step = first.transl[-1] - first.transl[-2]
    gap = (first.transl[meet] + step - turned.transl[0]) * (1, 0, 1)
    turned = move(turned, 0.0, gap)
    weight = ease((np.arange(overlap) + 1) / (overlap + 1))
    poses = blend_poses(first.poses[end:], turned.poses[:overlap], weight[:, None])
    transl = first.transl[end:] * (1 - weight[:, None]) + turned.transl[:overlap] * weight[:, None]
    joined = replace(
        first,
        poses=np.concatenate([first.poses[:end], poses, turned.poses[overlap:]]),
        transl=np.concatenate([first.transl[:end], transl, turned.transl[overlap:]]),
    )
    if first.contacts is None or second.contacts is None:
        return replace(joined, contacts=None)
    late = np.where(weight[:, None] < 0.5, first.contacts[end:], second.contacts[:overlap])
    contacts = [first.contacts[:end], late, second.contacts[overlap:]]
    return replace(joined, contacts=np.concatenate(contacts))


def repeat(motion: Motion, times: int, overlap: int = 0) -> Motion:
    """A motion several times in a row, each from where the last ended.

    Args:
        motion: any.
        times: at least 1.
        overlap: frames over which an end turns into the next beginning; 0 cuts.

    Raises:
        InputError: the result would be too long.
    """
    if motion.frames * times > MAX_FRAMES:
        raise InputError(
            f"{motion.name} repeated {times} times is longer than {MAX_FRAMES} frames; "
            "repeat it less often."
        )
    whole = motion
    for _ in range(times - 1):
        whole = append(whole, motion, overlap)
    return whole
