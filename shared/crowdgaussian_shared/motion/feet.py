# SPDX-License-Identifier: Apache-2.0
"""Feet that stand stay where they stand.

A foot stands on its ankle's side (the heel), on its ball, or on both. While it stands, the point it
stands on is held: the correction of the foot's place changes against that point's drift. Stands
are centred, so that nobody is dragged along; between them the correction fades. The pelvis sinks a
little where a leg would be too short, and legs reach for the corrected ankles.
"""

from dataclasses import dataclass

import numpy as np

from ..geometry.rotations import axis_angle_to_matrix
from ..geometry.skeleton import JOINT_INDEX
from .kinematics import joint_paths
from .motion import runs
from .time import ease

# Legs that reach for places: two bones, solved in closed form for all frames at once

_STRETCH = 0.9995  # of the leg's length: a knee is never quite straight
_SMALL = 1e-9


@dataclass(frozen=True)
class Leg:
    """The joints of one leg."""

    hip: int
    knee: int
    ankle: int
    foot: int


LEGS = tuple(
    Leg(*(JOINT_INDEX[f"{side}_{j}"] for j in ("hip", "knee", "ankle", "foot")))
    for side in ("left", "right")
)


def leg_reach(rest_joints: np.ndarray, leg: Leg) -> float:
    """How far the ankle can be from the hip, in metres."""
    thigh = np.linalg.norm(rest_joints[leg.knee] - rest_joints[leg.hip])
    shin = np.linalg.norm(rest_joints[leg.ankle] - rest_joints[leg.knee])
    return float(_STRETCH * (thigh + shin))


def reach(turns: np.ndarray, places: np.ndarray, leg: Leg, ankles: np.ndarray) -> None:
    """Turn thigh and shin so that the ankle comes to a place; the foot keeps its orientation.

    The knee bends in the plane in which it bends already. A place out of reach is approached as
    far as the leg goes.

    Args:
        turns: [T, 55, 3, 3] orientations of all joints; changed in place.
        places: [T, 55, 3] of all joints, metres; knee and ankle are changed in place.
        leg: which.
        ankles: [T, 3] metres, where the ankle shall be.
    """
    hip, knee, ankle = (places[:, j].copy() for j in (leg.hip, leg.knee, leg.ankle))
    thigh, shin = knee - hip, ankle - knee
    long, short = np.linalg.norm(thigh, axis=1), np.linalg.norm(shin, axis=1)
    wanted = np.linalg.norm(ankles - hip, axis=1)
    wanted = np.clip(wanted, np.abs(long - short) + _SMALL, _STRETCH * (long + short))
    axis = _hinge(thigh, shin, turns[:, leg.knee, :, 0])
    cosine = (wanted**2 - long**2 - short**2) / (2 * long * short)
    bend = np.arccos(np.clip(cosine, -1, 1)) - _angle(thigh, shin, axis)
    knee_turn = axis_angle_to_matrix(axis * bend[:, None])
    shin = np.einsum("tab,tb->ta", knee_turn, shin)
    hip_turn = between(thigh + shin, ankles - hip)
    turns[:, leg.hip] = hip_turn @ turns[:, leg.hip]
    turns[:, leg.knee] = hip_turn @ knee_turn @ turns[:, leg.knee]
    places[:, leg.knee] = hip + np.einsum("tab,tb->ta", hip_turn, thigh)
    places[:, leg.ankle] = places[:, leg.knee] + np.einsum("tab,tb->ta", hip_turn, shin)


def _hinge(thigh: np.ndarray, shin: np.ndarray, lateral: np.ndarray) -> np.ndarray:
    """The unit axis about which bending the knee turns the shin.  # [T, 3]

    The knee's own x axis made square to the thigh, towards the bend that is there: the cross
    product alone would jump about when the leg is straight.
    """
    along = thigh / np.linalg.norm(thigh, axis=1, keepdims=True)
    own = lateral - along * np.sum(lateral * along, axis=1, keepdims=True)
    own /= np.maximum(np.linalg.norm(own, axis=1, keepdims=True), _SMALL)
    bent = np.cross(thigh, shin)
    size = np.linalg.norm(thigh, axis=1) * np.linalg.norm(shin, axis=1)
    sine = np.linalg.norm(bent, axis=1) / size
    sure = np.clip((sine - 0.05) / 0.15, 0, 1)[:, None]  # from 3 to 11 degrees of bend
    mixed = own * (1 - sure) + sure * bent / np.maximum(sine * size, _SMALL)[:, None]
    return mixed / np.maximum(np.linalg.norm(mixed, axis=1, keepdims=True), _SMALL)


def _angle(a: np.ndarray, b: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """The signed angle from a to b about an axis.  # [T, 3] -> [T]"""
    return np.arctan2(np.sum(np.cross(a, b) * axis, axis=1), np.sum(a * b, axis=1))


def between(a: np.ndarray, b: np.ndarray, fallback: np.ndarray | None = None) -> np.ndarray:
    """The smallest rotations that carry directions a to directions b.

    Args:
        a: [..., 3] not zero.
        b: [..., 3] not zero.
        fallback: [3] the axis for opposite directions; None takes any.

    Returns:
        [..., 3, 3].
    """
    a = a / np.linalg.norm(a, axis=-1, keepdims=True)
    b = b / np.linalg.norm(b, axis=-1, keepdims=True)
    cross, dot = np.cross(a, b), np.sum(a * b, axis=-1, keepdims=True)
    sine = np.linalg.norm(cross, axis=-1, keepdims=True)
    if fallback is None:
        fallback = np.cross(a, np.eye(3)[np.argmin(np.abs(a), axis=-1)])
    spare = np.broadcast_to(fallback, a.shape)
    opposite = (sine < 1e-6) & (dot < 0)
    unit = np.where(opposite, spare, cross / np.maximum(sine, _SMALL))
    unit = unit / np.maximum(np.linalg.norm(unit, axis=-1, keepdims=True), _SMALL)
    return axis_angle_to_matrix(unit * np.arctan2(sine, dot))


_FADE = 0.25  # seconds of correction before and after a stand
_SINK_WINDOW = 0.2  # seconds over which the pelvis goes down for a short leg
_SNAP = 0.06  # metres: soles this close to the floor are put on it


def keep_feet(
    rest_joints: np.ndarray,
    turns: np.ndarray,
    transl: np.ndarray,
    contacts: np.ndarray,
    fps: float,
    sole: float,
) -> np.ndarray:
    """Hold standing feet; the floor is y = 0 and soles lie `sole` below the rest pelvis.

    Args:
        rest_joints: [55, 3] metres, canonical frame.
        turns: [T, 55, 3, 3] orientations of all joints; legs are changed in place.
        transl: [T, 3] metres; not changed.
        contacts: [T, 4] bool, as in Motion.
        fps: frames a second.
        sole: metres, canonical height of the soles (negative).

    Returns:
        [T, 3] the new transl.
    """
    places = joint_paths(rest_joints, turns, transl)
    wanted = []
    for side, leg in enumerate(LEGS):
        shifts = foot_shifts(places, contacts[:, [side, side + 2]], leg, fps)
        shifts[:, 1] += _snap(rest_joints, turns, places, leg, contacts[:, [side, side + 2]],
                              shifts, fps, sole)  # fmt: skip
        wanted.append(places[:, leg.ankle] + shifts)
    sink = _sink(rest_joints, places, wanted, fps)
    places[..., 1] -= sink[:, None]
    for leg, ankles in zip(LEGS, wanted):
        reach(turns, places, leg, ankles)
    return transl - sink[:, None] * (0.0, 1.0, 0.0)


def foot_shifts(places: np.ndarray, stands: np.ndarray, leg: Leg, fps: float) -> np.ndarray:
    """How a foot must be moved to stand still where it stands.

    Args:
        places: [T, 55, 3] metres.
        stands: [T, 2] bool, ankle and ball.
        leg: whose foot.
        fps: frames a second.

    Returns:
        [T, 3] metres, zero far from any stand.
    """
    points = places[:, [leg.ankle, leg.foot]]  # [T, 2, 3]
    shifts = np.zeros((len(places), 3))
    spans = runs(np.any(stands, axis=1))
    for first, last in spans:
        held = stands[first:last]
        drift = np.diff(points[first:last], axis=0)  # [n - 1, 2, 3]
        both = held[1:] & held[:-1]  # points that stand in both frames
        share = both / np.maximum(both.sum(axis=1, keepdims=True), 1)
        # Where both stand, the ball decides: the heel leaves first and drags its end along.
        share[both.all(axis=1)] = (0.0, 1.0)
        path = np.zeros((last - first, 3))
        path[1:] = -np.cumsum((drift * share[..., None]).sum(axis=1), axis=0)
        shifts[first:last] = path - path.mean(axis=0)
    _fade_between(shifts, spans, max(1, round(_FADE * fps)))
    return shifts


def _fade_between(values: np.ndarray, spans: list[tuple[int, int]], fade: int) -> None:
    """Lead from the end of each span to the start of the next, through zero if there is time."""
    for (_, end), (start, _) in zip([(0, 0), *spans], [*spans, (len(values), 0)]):
        frames = np.arange(end, start)
        if not len(frames) or not spans:
            continue
        gap = start - end + 1
        length = min(fade, gap)
        if end > 0:
            out = 1 - ease((frames - end + 1) / length)
            values[end:start] += _column(out, values) * values[end - 1]
        if start < len(values):
            into = 1 - ease((start - frames) / length)
            values[end:start] += _column(into, values) * values[start]


def _column(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    return weights.reshape(-1, *(1,) * (values.ndim - 1))


def _snap(
    rest: np.ndarray, turns: np.ndarray, places: np.ndarray, leg: Leg, stands: np.ndarray,
    shifts: np.ndarray, fps: float, sole: float,
) -> np.ndarray:  # fmt: skip
    """Heights that put soles on the floor while they stand close to it.  # [T]"""
    lows = sole_heights(rest, turns, places, leg, sole) + shifts[:, 1]
    lifts = np.zeros(len(lows))
    spans = runs(np.any(stands, axis=1))
    for first, last in spans:
        low = float(np.median(lows[first:last]))
        lifts[first:last] = -low if abs(low) < _SNAP else 0.0
    _fade_between(lifts, spans, max(1, round(_FADE * fps)))
    return lifts


def sole_heights(
    rest: np.ndarray, turns: np.ndarray, places: np.ndarray, leg: Leg, sole: float
) -> np.ndarray:
    """The lowest of heel and toes.

    The sole is a flat strip in the rest pose: from behind the ankle to the ball, stiff to the
    ankle, and the toes in front of it, stiff to the ball.

    Returns:
        [T] metres.
    """
    ankle, ball = rest[leg.ankle], rest[leg.foot]
    length = np.linalg.norm(ball - ankle)
    below_ankle = np.array([0.0, sole - ankle[1], 0.0])
    heel = below_ankle - (0.0, 0.0, 0.3 * length)
    under_ball = np.array([0.0, sole - ball[1], 0.0])
    toes = under_ball + (0.0, 0.0, 0.35 * length)
    heights = [
        places[:, leg.ankle, 1] + turns[:, leg.ankle, 1] @ heel,
        places[:, leg.foot, 1] + turns[:, leg.ankle, 1] @ under_ball,
        places[:, leg.foot, 1] + turns[:, leg.foot, 1] @ toes,
    ]
    return np.minimum.reduce(heights)


def _sink(rest: np.ndarray, places: np.ndarray, wanted: list[np.ndarray], fps: float) -> np.ndarray:
    """How far the pelvis must go down for the legs to reach, smoothly.  # [T] metres"""
    need = np.zeros(len(places))
    for leg, ankles in zip(LEGS, wanted):
        gap = ankles - places[:, leg.hip]
        flat = np.hypot(gap[:, 0], gap[:, 2])
        longest = leg_reach(rest, leg)
        down = np.sqrt(np.maximum(longest**2 - flat**2, 0.0))
        need = np.maximum(need, -gap[:, 1] - down)
    return hull(np.maximum(need, 0.0), max(1, round(_SINK_WINDOW * fps)))


def hull(values: np.ndarray, half: int) -> np.ndarray:
    """A smooth curve nowhere below the values: their moving maximum, averaged.  # [T]"""
    windows = np.lib.stride_tricks.sliding_window_view
    width = 2 * half + 1
    highest = windows(np.pad(values, 2 * half, mode="edge"), width).max(axis=1)
    return windows(highest, width).mean(axis=1)
