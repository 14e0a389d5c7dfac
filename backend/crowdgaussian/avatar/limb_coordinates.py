# SPDX-License-Identifier: Apache-2.0
"""Coordinates along and around each limb, and how its front wraps to its back.

A limb is a bent tube about its bones. The camera sees the part of it that faces it; the rest asks
for the colour at the same place along the limb, at an angle folded linearly from the back to the
front, so that a pattern goes round the limb without a jump and without smearing its edge.
"""

from dataclasses import dataclass

import numpy as np
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX

from ..body.parts import ARM, LEG, TORSO
from ..core.mesh import unit
from .gaussians import SurfaceGaussians

_SEEN_ANGLE = np.deg2rad(62)  # up to which the photo's colours are good
_CHAINS = {
    TORSO: (("pelvis", "spine1", "spine2", "spine3", "neck"),),
    LEG: (("left_hip", "left_knee", "left_ankle"), ("right_hip", "right_knee", "right_ankle")),
    ARM: (
        ("left_shoulder", "left_elbow", "left_wrist"),
        ("right_shoulder", "right_elbow", "right_wrist"),
    ),
}
_RADIUS = {TORSO: 0.13, LEG: 0.07, ARM: 0.045}  # metres: what a radian counts
_OTHER_LIMB = 1.0  # metres between the coordinates of two limbs


@dataclass(frozen=True)
class LimbPlaces:
    """Gaussians on trunk, arms and legs in limb coordinates (metres, for nearest neighbours)."""

    on_limb: np.ndarray  # [N] bool: the rest have zeros below
    here: np.ndarray  # [N, 6] where a Gaussian is
    mirrored_query: np.ndarray  # [N, 6] where it asks for its colour


def limb_places(cloud: SurfaceGaussians, joints: np.ndarray, toward: np.ndarray) -> LimbPlaces:
    """Limb coordinates of all Gaussians.

    Args:
        cloud: the bound Gaussians.
        joints: [55, 3] at rest, canonical frame.
        toward: [N, 3] unit, canonical frame: from each Gaussian to the camera.
    """
    count = len(cloud)
    on_limb = np.zeros(count, bool)
    here, query = np.zeros((count, 6)), np.zeros((count, 6))
    for group, chains in _CHAINS.items():
        for number, chain in enumerate(chains):
            some = cloud.group == group
            if len(chains) == 2:
                some &= (cloud.means[:, 0] > 0) == (number == 0)
            if not some.any():
                continue
            bones = joints[[JOINT_INDEX[name] for name in chain]]
            limb = _OTHER_LIMB * np.array([group == ARM, group == LEG, number], float)
            on_limb |= some
            here[some], query[some] = _along_and_around(
                cloud.means[some], bones, toward[some], _RADIUS[group], limb
            )
    return LimbPlaces(on_limb, here, query)


def _along_and_around(
    means: np.ndarray, bones: np.ndarray, toward: np.ndarray, radius: float, limb: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    axis = unit(bones[-1] - bones[0])
    along = (means - bones[0]) @ axis
    knots = (bones - bones[0]) @ axis
    centre = (
        np.stack([np.interp(along, knots, bones[:, k] - knots * axis[k]) for k in range(3)], 1)
        + along[:, None] * axis
    )
    first = unit(toward - (toward @ axis)[:, None] * axis)
    second = np.cross(axis, first)
    out = means - centre
    angle = np.arctan2((out * second).sum(1), (out * first).sum(1))
    beyond = np.maximum(np.abs(angle) - _SEEN_ANGLE, 0)
    fold = np.sign(angle) * np.where(
        beyond > 0, _SEEN_ANGLE * (1 - beyond / (np.pi - _SEEN_ANGLE)), np.abs(angle)
    )

    def places(turn: np.ndarray) -> np.ndarray:
        return np.column_stack(
            [
                along,
                radius * 2 * np.sin(turn / 2),
                radius * np.cos(turn / 2),
                np.broadcast_to(limb, (len(means), 3)),
            ]
        )

    return places(angle), places(fold)
