# SPDX-License-Identifier: Apache-2.0
"""BVH files (Biovision hierarchy): a skeleton and one line of channel values for each frame.

Written from the format's public description (Meredith and Maddock 2001). Any channel order, any
number of joints; words are taken as they come, so that line breaks do not matter above MOTION.
"""

import codecs
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import DamagedFileError
from ..formats.atomic import read_bytes, write_bytes
from ..geometry.rotations import axis_angle_to_matrix
from ..geometry.skeleton import JOINT_NAMES, PARENTS
from .motion import Motion, check_frames, check_motion

MAX_JOINTS = 1000
_MAX_BYTES = 256 << 20
_MAX_DEPTH = 200
_CHANNELS = {
    "xposition", "yposition", "zposition", "xrotation", "yrotation", "zrotation",
    "xscale", "yscale", "zscale",
}  # fmt: skip


@dataclass
class BvhJoint:
    """One joint of the hierarchy."""

    name: str
    parent: int  # -1 for a root
    offset: np.ndarray  # [3] from the parent, file units
    channels: list[str] = field(default_factory=list)  # lower case, in the order of the file
    end: np.ndarray | None = None  # [3] offset of the End Site


@dataclass(frozen=True)
class Bvh:
    """A whole file."""

    joints: list[BvhJoint]
    frame_time: float  # seconds
    values: np.ndarray  # [T, C] float64 in the order of joints and their channels; degrees


def read_bvh(path: str | Path) -> Bvh:
    """Read a BVH file.

    Raises:
        CrowdGaussianError: not a BVH, damaged, or too large; the sentence names file and line.
    """
    path = Path(path)
    words = _Words(path, _text(read_bytes(path, _MAX_BYTES)))
    words.expect("HIERARCHY")
    joints: list[BvhJoint] = []
    while words.peek().upper() == "ROOT":
        words.take()
        _read_joint(words, joints, -1, 0)
    if not joints:
        words.fail("has no ROOT")
    words.expect("MOTION")
    return Bvh(joints, *_read_motion(words, sum(len(j.channels) for j in joints)))


def _text(data: bytes) -> str:
    """What a file says, in UTF-8 or, with a byte order mark, UTF-16; decimal commas are points."""
    wide = data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    text = data.decode("utf-16" if wide else "utf-8-sig", errors="replace")
    return re.sub(r"\S*,\S*", _without_comma, text) if "," in text else text


def _without_comma(word: re.Match[str]) -> str:
    """0,5 is 0.5, while 0.5,0.6 and "0.5," are numbers in a row."""
    between = "." in word[0] or word[0].endswith(",")
    return word[0].replace(",", " " if between else ".")


class _Words:
    """The words of a text, with the line each stands on."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.lines = text.splitlines()
        self.line = 0
        self._words: list[str] = []
        self._at = 0

    def peek(self) -> str:
        while self._at >= len(self._words):
            if self.line >= len(self.lines):
                self.fail("ends too early")
            self._words, self._at = self.lines[self.line].split(), 0
            self.line += 1
        return self._words[self._at]

    def take(self) -> str:
        word = self.peek()
        self._at += 1
        return word

    def rest_of_line(self) -> str:
        """What follows on the line, which may be nothing."""
        words, self._at = self._words[self._at :], len(self._words)
        return " ".join(words)

    def expect(self, *wanted: str) -> None:
        word = self.take()
        if word.upper() not in wanted:
            self.fail(f"has {word[:40]!r} where {wanted[0]} must be")

    def number(self) -> float:
        word = self.take()
        try:
            value = float(word)
        except ValueError:
            value = np.nan
        if not np.isfinite(value):
            self.fail(f"has {word[:40]!r} where a number must be")
        return value

    def vector(self) -> np.ndarray:
        return np.array([self.number() for _ in range(3)])

    def fail(self, what: str) -> None:
        raise DamagedFileError(
            f"{self.path} is not a whole BVH: line {self.line} {what}; get another copy."
        )


def _read_joint(words: _Words, joints: list[BvhJoint], parent: int, depth: int) -> None:
    if len(joints) >= MAX_JOINTS or depth > _MAX_DEPTH:
        words.fail(f"has more than {MAX_JOINTS} joints")
    words.peek()
    name = words.rest_of_line()
    words.expect("{")
    words.expect("OFFSET")
    joints.append(BvhJoint(name, parent, words.vector()))
    me = len(joints) - 1
    while True:
        word = words.take().upper()
        if word == "}":
            return
        if word == "CHANNELS":
            joints[me].channels += _read_channels(words)
        elif word == "JOINT":
            _read_joint(words, joints, me, depth + 1)
        elif word == "END":
            joints[me].end = _read_end(words)
        else:
            words.fail(f"has {word[:40]!r} where CHANNELS, JOINT, End Site or }} must be")


def _read_channels(words: _Words) -> list[str]:
    count = words.number()
    if not 0 <= count <= 9 or count != int(count):
        words.fail(f"gives a joint {count:g} channels")
    names = [words.take().lower() for _ in range(int(count))]
    for name in names:
        if name not in _CHANNELS:
            words.fail(f"has the channel {name[:40]!r}, which no BVH has")
    return names


def _read_end(words: _Words) -> np.ndarray:
    words.rest_of_line()  # "Site", and in some files a name
    words.expect("{")
    words.expect("OFFSET")
    offset = words.vector()
    words.expect("}")
    return offset


def _read_motion(words: _Words, channels: int) -> tuple[float, np.ndarray]:
    words.expect("FRAMES:", "FRAMES")
    count = words.number()
    if count != int(count):
        words.fail(f"gives {count:g} frames")
    check_frames(int(count), str(words.path))
    words.expect("FRAME")
    words.expect("TIME:")
    frame_time = words.number()
    if frame_time <= 0:
        words.fail(f"gives a frame time of {frame_time:g} seconds")
    if words.rest_of_line():
        words.fail("has more than a frame time")
    if channels == 0:
        raise DamagedFileError(f"{words.path} moves nothing: its joints have no channels.")
    return frame_time, _read_values(words, int(count), channels)


def _read_values(words: _Words, count: int, channels: int) -> np.ndarray:
    lines = words.lines
    if len(lines) - words.line < count:
        words.line = len(lines)
        words.fail(f"is the last, but there must be {count} frames")
    values = np.empty((count, channels))
    row = 0
    while row < count:
        if words.line >= len(lines):
            words.fail(f"is the last, but only {row} of {count} frames are there")
        numbers = lines[words.line].split()
        words.line += 1
        if not numbers:
            continue
        if len(numbers) != channels:
            words.fail(f"has {len(numbers)} numbers for {channels} channels")
        try:
            values[row] = numbers
        except ValueError:
            words.fail("holds something that is not a number")
        row += 1
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        raise DamagedFileError(
            f"{words.path}: frame {int(bad.argmax())} is not a number (NaN or infinite); "
            "repair or choose another motion."
        )
    return values


# The 55 joints as a BVH: rest pose is the T-pose, y up, names and order of SMPL-X

CENTIMETRES = 100.0  # what most readers of BVH expect
_END = {"head": (0.0, 0.18, 0.0), "jaw": (0.0, 0.0, 0.08)}  # metres; others go on as they come
_END_LENGTH = 0.6  # of the bone before


def write_motion_bvh(
    path: str | Path,
    motion: Motion,
    rest_joints: np.ndarray,
    unit: float = CENTIMETRES,
    names: tuple[str, ...] = JOINT_NAMES,
) -> None:
    """Write a motion atomically.

    Args:
        path: the file.
        motion: in the scene frame; transl counted from the rest joints.
        rest_joints: [55, 3] metres, canonical frame.
        unit: of the file, how many make a metre.
        names: of the 55 joints in the file; skeleton.joint_names has some.

    Raises:
        CrowdGaussianError: the motion is broken or the disk is full.
    """
    motion = check_motion(motion, motion.name)
    rest = np.asarray(rest_joints, np.float64) * unit
    lines = ["HIERARCHY", *_hierarchy(rest, unit, names, 0, 0), "MOTION",
             f"Frames: {motion.frames}", f"Frame Time: {1 / motion.fps:.9f}"]  # fmt: skip
    angles = _zxy_degrees(axis_angle_to_matrix(motion.poses[:, _ordered(0)]))
    angles = angles.reshape(motion.frames, -1)
    values = np.concatenate([motion.transl * unit + rest[0], angles], axis=1)
    lines += [" ".join(f"{v:.6f}" for v in row) for row in values.tolist()]
    write_bytes(path, ("\n".join(lines) + "\n").encode())


def _hierarchy(
    rest: np.ndarray, unit: float, names: tuple[str, ...], joint: int, depth: int
) -> list[str]:
    pad = "  " * depth
    above = PARENTS[joint]
    offset = rest[joint] - rest[above] if above >= 0 else np.zeros(3)
    place = "" if above >= 0 else "Xposition Yposition Zposition "
    lines = [
        f"{pad}{'JOINT' if above >= 0 else 'ROOT'} {names[joint]}",
        pad + "{",
        f"{pad}  OFFSET {_numbers(offset)}",
        f"{pad}  CHANNELS {3 if above >= 0 else 6} {place}Zrotation Xrotation Yrotation",
    ]
    children = _children(joint)
    for child in children:
        lines += _hierarchy(rest, unit, names, child, depth + 1)
    if not children:
        known = _END.get(JOINT_NAMES[joint])
        end = np.array(known) * unit if known else _END_LENGTH * offset
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
