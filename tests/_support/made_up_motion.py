# SPDX-License-Identifier: Apache-2.0
"""A walk whose feet are known to stand, as SMPL-X poses and as a BVH of the CMU kind.

Everything is solved here in the sagittal plane, without the code under test: legs by the law of
cosines, Euler angles by hand.
"""

from dataclasses import dataclass

import numpy as np

FPS = 60.0
STANCE = 0.62  # of a cycle
CYCLE = 1.1  # seconds
_FLAT = 0.6  # of the stance; then the heel lifts about the ball
_LIFT = 0.55  # radians of the heel's last lift


@dataclass(frozen=True)
class WalkingLegs:
    """One body seen from the side: (y, z) vectors of the left leg at rest, metres."""

    hip: np.ndarray  # [2] from the pelvis
    thigh: np.ndarray  # [2]
    shin: np.ndarray  # [2]
    foot: np.ndarray  # [2] ankle to ball
    ankle_height: float  # of the ankle over the floor when the foot is flat


@dataclass(frozen=True)
class Walk:
    """Angles about x, heights and places over time; [T, 2] are left and right."""

    pelvis: np.ndarray  # [T, 2] (y, z)
    hip: np.ndarray  # [T, 2] global angle of the thigh, radians
    knee: np.ndarray  # [T, 2] global angle of the shin
    foot: np.ndarray  # [T, 2] global angle of the foot
    stands: np.ndarray  # [T, 4] bool: ankles, balls


def make_walk(legs: WalkingLegs, seconds: float = 4.0) -> Walk:
    """Walk along +z, one leg's length a second."""
    times = np.arange(round(seconds * FPS)) / FPS
    reach = speed = np.linalg.norm(legs.thigh) + np.linalg.norm(legs.shin)
    height = legs.ankle_height + 0.92 * reach - legs.hip[0]
    pelvis = np.stack([height + 0.012 * np.cos(4 * np.pi * times / CYCLE), speed * times], axis=1)
    angles, stands = [], []
    for offset in (0.0, 0.5):
        ankles, pitch, flags = _foot(legs, times, speed, offset)
        angles.append(_solve(legs, pelvis + legs.hip, ankles) + (pitch,))
        stands.append(flags)
    hip, knee, foot = (np.stack([side[k] for side in angles], axis=1) for k in range(3))
    columns = [stands[0][:, 0], stands[1][:, 0], stands[0][:, 1], stands[1][:, 1]]
    return Walk(pelvis, hip, knee, foot, np.stack(columns, axis=1))


def _foot(legs, times, speed, offset):
    """Ankle (y, z), pitch and what stands (ankle, ball), over time."""
    phase = times / CYCLE + offset
    step, part = np.floor(phase), phase % 1.0
    stride = speed * CYCLE
    planted = (step - offset + STANCE / 2) * stride + legs.hip[1]  # z of the ankle while flat
    stance = part < STANCE
    lift = np.clip((part / STANCE - _FLAT) / (1 - _FLAT), 0, 1)
    swing = np.clip((part - STANCE) / (1 - STANCE), 0, 1)
    soft = swing**2 * (3 - 2 * swing)
    pitch = _LIFT * lift**2 * (1 - soft)
    ball = np.stack([np.full_like(times, legs.ankle_height + legs.foot[0]),
                     planted + legs.foot[1]], axis=1)  # fmt: skip
    ball[:, 1] += soft * stride * ~stance
    ball[:, 0] += 0.09 * np.sin(np.pi * swing) * ~stance
    ankles = ball - _turned(legs.foot, pitch)
    return ankles, pitch, np.stack([stance & (lift == 0), stance], axis=1)


def _turned(vector, angle):
    """(y, z) turned about x.  # [2], [T] -> [T, 2]"""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([cos * vector[0] - sin * vector[1], sin * vector[0] + cos * vector[1]], axis=1)


def _bearing(vectors):
    return np.arctan2(vectors[..., 1], vectors[..., 0])


def _solve(legs, hips, ankles):
    """Global angles of thigh and shin with the knee in front."""
    gap = ankles - hips
    d = np.linalg.norm(gap, axis=1)
    a, b = np.linalg.norm(legs.thigh), np.linalg.norm(legs.shin)
    assert d.max() < a + b
    inner = np.arccos((a * a + d * d - b * b) / (2 * a * d))
    thigh = _bearing(gap) % (2 * np.pi) - inner - _bearing(legs.thigh) % (2 * np.pi)
    knees = hips + _turned(legs.thigh, thigh)
    shin = _bearing(ankles - knees) % (2 * np.pi) - _bearing(legs.shin) % (2 * np.pi)
    return thigh, shin


def legs_of(rest_joints: np.ndarray, sole: float) -> WalkingLegs:
    """Legs of an SMPL-X skeleton (joints 0, 1, 4, 7, 10), seen from the side."""
    pelvis, hip, knee, ankle, foot = (rest_joints[j, 1:].astype(float) for j in (0, 1, 4, 7, 10))
    return WalkingLegs(hip - pelvis, knee - hip, ankle - knee, foot - ankle, ankle[0] - sole)


def walk_poses(rest_joints: np.ndarray, sole: float, **kwargs) -> tuple[np.ndarray, ...]:
    """The walk of an SMPL-X body: poses [T, 55, 3], transl [T, 3], stands [T, 4]."""
    walk = make_walk(legs_of(rest_joints, sole), **kwargs)
    poses = np.zeros((len(walk.hip), 55, 3))
    for side in (0, 1):
        poses[:, 1 + side, 0] = walk.hip[:, side]
        poses[:, 4 + side, 0] = walk.knee[:, side] - walk.hip[:, side]
        poses[:, 7 + side, 0] = walk.foot[:, side] - walk.knee[:, side]
        poses[:, 10 + side, 0] = -walk.foot[:, side]
    swing = 0.5 * walk.hip
    poses[:, 16, 2], poses[:, 17, 2] = -1.2, 1.2  # arms down
    poses[:, 16, 1], poses[:, 17, 1] = -swing[:, 1], swing[:, 0]
    transl = np.zeros((len(poses), 3))
    transl[:, 1:] = walk.pelvis - rest_joints[0, 1:]
    return poses, transl, walk.stands


# A skeleton with the names and the order of the CMU conversions, in their unit (5.64 cm); the rest
# pose has its legs apart and its arms half down.
CMU_UNIT = 0.0564  # metres
_CMU = (  # name, parent, offset in units
    ("Hips", None, (0, 0, 0)),
    ("LHipJoint", 0, (0, 0, 0)), ("LeftUpLeg", 1, (1.6, -1.8, 0.8)), ("LeftLeg", 2, (2.5, -6.8, 0)),
    ("LeftFoot", 3, (2.6, -7.1, 0)), ("LeftToeBase", 4, (0.2, -0.6, 2.3)),
    ("RHipJoint", 0, (0, 0, 0)), ("RightUpLeg", 6, (-1.6, -1.8, 0.8)),
    ("RightLeg", 7, (-2.5, -6.8, 0)), ("RightFoot", 8, (-2.6, -7.1, 0)),
    ("RightToeBase", 9, (-0.2, -0.6, 2.3)),
    ("LowerBack", 0, (0, 0, 0)), ("Spine", 11, (0, 2.1, -0.1)), ("Spine1", 12, (0, 2.1, 0)),
    ("Neck", 13, (0, 0, 0)), ("Neck1", 14, (0, 1.8, 0.1)), ("Head", 15, (0, 1.8, -0.2)),
    ("LeftShoulder", 13, (0, 0, 0)), ("LeftArm", 17, (3.4, 1.5, -0.3)),
    ("LeftForeArm", 18, (3.7, -3.7, 0)), ("LeftHand", 19, (2.6, -2.6, 0)),
    ("LThumb", 20, (0, 0, 0)),
    ("RightShoulder", 13, (0, 0, 0)), ("RightArm", 22, (-3.4, 1.5, -0.3)),
    ("RightForeArm", 23, (-3.7, -3.7, 0)), ("RightHand", 24, (-2.6, -2.6, 0)),
    ("RThumb", 25, (0, 0, 0)),
)  # fmt: skip
_ENDS = {"LeftToeBase": (0, 0, 1.2), "RightToeBase": (0, 0, 1.2), "Head": (0, 1.8, 0),
         "LThumb": (0.5, -0.5, 0.5), "RThumb": (-0.5, -0.5, 0.5)}  # fmt: skip


def cmu_walk(names=lambda name: name, seconds: float = 4.0) -> tuple[str, Walk]:
    """The text of a BVH that walks along +z with vertical legs and hanging arms.

    Args:
        names: changes the joints' names, such as to Mixamo's.
        seconds: how long.
    """
    offsets = np.array([offset for _, _, offset in _CMU], float) * CMU_UNIT
    lengths = [np.linalg.norm(offsets[k]) for k in (3, 4)]
    foot = offsets[5][1:]
    legs = WalkingLegs(offsets[2][1:], np.array([-lengths[0], 0]), np.array([-lengths[1], 0]),
                       foot, 0.07)  # fmt: skip
    walk = make_walk(legs, seconds)
    turns = _cmu_turns(walk, offsets)
    rows = []
    for t in range(len(walk.hip)):
        row = [0.0, *(walk.pelvis[t] / CMU_UNIT)]
        for joint, (_, parent, _) in enumerate(_CMU):
            above = np.eye(3) if parent is None else turns[parent][t]
            row += _zyx(above.T @ turns[joint][t])
        rows.append(" ".join(f"{v:.5f}" for v in row))
    motion = f"MOTION\nFrames: {len(rows)}\nFrame Time: {1 / FPS:.7f}\n"
    return "HIERARCHY\n" + _hierarchy(0, 0, names) + motion + "\n".join(rows) + "\n", walk


def _cmu_turns(walk, offsets):
    """Orientations of all joints over time, joint by joint.  # [T, 3, 3] each"""
    count = len(walk.hip)
    turns = [np.tile(np.eye(3), (count, 1, 1)) for _ in _CMU]
    for side, first in enumerate((2, 7)):
        down = np.array([0, -1.0, 0])
        for k, angles in ((0, walk.hip), (1, walk.knee)):
            straight = _carry(offsets[first + 1 + k], down)
            turns[first + k] = _about_x(angles[:, side]) @ straight
        turns[first + 2] = _about_x(walk.foot[:, side])
    for first, sign in ((18, 1), (23, -1)):
        hang = _carry(np.array([sign, -1.0, 0]), np.array([0.1 * sign, -1.0, 0]))
        for joint in range(first, first + 4):
            turns[joint] = np.tile(hang, (count, 1, 1))
    return turns


def _about_x(angles):
    cos, sin, zero, one = np.cos(angles), np.sin(angles), 0 * angles, 0 * angles + 1
    rows = [[one, zero, zero], [zero, cos, -sin], [zero, sin, cos]]
    return np.moveaxis(np.array(rows), 2, 0)


def _carry(a, b):
    """The smallest rotation from direction a to b (Rodrigues).  # [3, 3]"""
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    v, c = np.cross(a, b), a @ b
    K = np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])
    return np.eye(3) + K + K @ K / (1 + c)


def _zyx(R):
    """Degrees of R = Rz Ry Rx, in that order."""
    return np.degrees([np.arctan2(R[1, 0], R[0, 0]), np.arcsin(np.clip(-R[2, 0], -1, 1)),
                       np.arctan2(R[2, 1], R[2, 2])]).tolist()  # fmt: skip


def _hierarchy(joint, depth, names):
    name, parent, offset = _CMU[joint]
    pad = "  " * depth
    kind = "ROOT" if parent is None else "JOINT"
    place = "Xposition Yposition Zposition " if parent is None else ""
    channels = f"CHANNELS {6 if parent is None else 3} {place}Zrotation Yrotation Xrotation"
    lines = [f"{pad}{kind} {names(name)}", pad + "{", f"{pad}  OFFSET " + _numbers(offset),
             f"{pad}  {channels}"]  # fmt: skip
    text = "\n".join(lines) + "\n"
    for child, (_, above, _) in enumerate(_CMU):
        if above == joint:
            text += _hierarchy(child, depth + 1, names)
    if name in _ENDS:
        text += f"{pad}  End Site\n{pad}  {{\n{pad}    OFFSET {_numbers(_ENDS[name])}\n{pad}  }}\n"
    elif not any(above == joint for _, above, _ in _CMU):
        text += f"{pad}  End Site\n{pad}  {{\n{pad}    OFFSET 0 0 0\n{pad}  }}\n"
    return text + pad + "}\n"


def _numbers(vector):
    return " ".join(f"{v:.4f}" for v in vector)


def slide(points: np.ndarray, stands: np.ndarray) -> float:
    """How far standing points leave their mean place over the floor, at most, in metres.

    Args:
        points: [T, P, 3] y up.
        stands: [T, P] bool.
    """
    worst = 0.0
    for k in range(points.shape[1]):
        edges = np.flatnonzero(np.diff(np.r_[0, stands[:, k].astype(int), 0]))
        for first, last in zip(edges[::2], edges[1::2]):
            span = points[first:last, k][:, [0, 2]]
            worst = max(worst, float(np.linalg.norm(span - span.mean(axis=0), axis=1).max()))
    return worst
