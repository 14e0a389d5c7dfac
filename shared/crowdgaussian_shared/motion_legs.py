# SPDX-License-Identifier: Apache-2.0
"""Legs that reach for places: two bones, solved in closed form for all frames at once."""

from dataclasses import dataclass

import numpy as np

from .rotations import axis_angle_to_matrix
from .skeleton import JOINT_INDEX

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
