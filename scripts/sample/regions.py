# SPDX-License-Identifier: Apache-2.0
"""Where a garment lies, as signed fields over the unposed body (T-pose, y up, z forward, metres).

A field is positive inside the garment and about a distance to its hem, so hems are clean cuts.
"""

from dataclasses import dataclass

import numpy as np
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX


@dataclass(frozen=True)
class Landmarks:
    """Rest joints by name, and the height of the soles."""

    joints: np.ndarray  # [55, 3]
    floor: float

    def __getitem__(self, name: str) -> np.ndarray:
        return self.joints[JOINT_INDEX[name]]

    def between(self, first: str, second: str, share: float) -> np.ndarray:
        """Point on the line between two joints (share may lie outside 0..1)."""
        return self[first] + share * (self[second] - self[first])


@dataclass(frozen=True)
class Top:
    """Shirt, jumper, jacket or the upper half of a dress."""

    hem: float = 0.0  # 0 at the hip joint, 1 at the lowest spine joint: share along y
    sleeve: float = 1.55  # 1 at the elbow, 2 at the wrist; 0.25 is sleeveless
    neck: float = 0.02  # metres the collar stands above the base of the neck
    neck_tilt: float = 38.0  # degrees, larger is lower in front
    vee: float = 0.0  # metres the V cuts below the collar; 0 for a round neck
    opening: float = 0.0  # metres of an open front, half width at the hem; 0 closed

    def field(self, points: np.ndarray, marks: Landmarks) -> np.ndarray:
        """[N, 3] -> [N]"""
        x, y, z = points.T
        hip, spine = marks["left_hip"][1], marks["spine1"][1]
        shoulder, elbow = marks["left_shoulder"][0], marks["left_elbow"][0]
        wrist = marks["left_wrist"][0]
        sleeve = np.interp(self.sleeve, [0, 1, 2], [shoulder, elbow, wrist])
        neck = marks["neck"]
        tilt = np.radians(self.neck_tilt)
        collar = self.neck - (y - neck[1]) * np.cos(tilt) - (z - neck[2]) * np.sin(tilt)
        field = np.minimum(y - (hip + self.hem * (spine - hip)), sleeve - np.abs(x))
        field = np.minimum(field, np.where(np.abs(x) < shoulder, collar, field))
        front = z > neck[2] - 0.03
        if self.vee:
            depth = y - (neck[1] + 0.05 - self.vee)
            field = np.where(front, np.minimum(field, np.abs(x) - 0.45 * depth), field)
        if self.opening:
            gap = np.abs(x) - self.opening * (0.6 + 0.4 * np.clip((neck[1] - y) / 0.5, 0, 1))
            field = np.where(front, np.minimum(field, gap), field)
        return field


@dataclass(frozen=True)
class Bottoms:
    """Trousers, shorts or leggings."""

    waist: float = 0.9  # as Top.hem
    leg: float = 1.95  # 1 at the knee, 2 at the ankle

    def field(self, points: np.ndarray, marks: Landmarks) -> np.ndarray:
        """[N, 3] -> [N]"""
        y = points[:, 1]
        hip, spine = marks["left_hip"][1], marks["spine1"][1]
        knee, ankle = marks["left_knee"][1], marks["left_ankle"][1]
        hem = np.interp(self.leg, [0, 1, 2, 2.2], [hip, knee, ankle, ankle - 0.035])
        return np.minimum(hip + self.waist * (spine - hip) - y, y - hem)


@dataclass(frozen=True)
class Sock:
    """Sock up to a height above the ankle."""

    height: float = 0.09  # metres above the ankle joint

    def field(self, points: np.ndarray, marks: Landmarks) -> np.ndarray:
        """[N, 3] -> [N]"""
        return marks["left_ankle"][1] + self.height - points[:, 1]


def cloth_uv(
    points: np.ndarray, faces: np.ndarray, marks: Landmarks, legs: bool = True
) -> np.ndarray:
    """Wrap trunk, arms and legs as cylinders, per face corner.

    u = angle / 2 pi around the limb (0.5 in front), v = metres along it (up the trunk and the
    legs from the soles, 2.45 + metres out along an arm). Without legs, a skirt.  # [F, 3, 2]
    """
    centre = points[faces].mean(axis=1)
    arm = legs & (np.abs(centre[:, 0]) > marks["left_shoulder"][0] + 0.02)
    arm &= centre[:, 1] > marks["spine2"][1]
    leg = ~arm & legs & (centre[:, 1] < marks["left_hip"][1] - 0.07)
    side = np.sign(centre[:, 0])
    side[side == 0] = 1
    y = points[faces][..., 1] - marks.floor
    ankle, hip = marks["left_ankle"], marks["left_hip"]
    share = np.clip((points[faces][..., 1] - ankle[1]) / (hip[1] - ankle[1]), 0, 1)
    axis_x = np.where(leg[:, None], side[:, None] * (ankle[0] + share * (hip - ankle)[0]), 0.0)
    axis_z = np.where(leg[:, None], ankle[2] + share * (hip - ankle)[2], marks["spine2"][2])
    angle = np.arctan2(points[faces][..., 0] - axis_x, points[faces][..., 2] - axis_z)
    shoulder = marks["left_shoulder"]
    around = np.arctan2(points[faces][..., 1] - shoulder[1], points[faces][..., 2] - shoulder[2])
    angle = np.where(arm[:, None], around, angle)
    along = np.where(arm[:, None], 2.45 + np.abs(points[faces][..., 0]) - shoulder[0], y)
    middle = np.where(np.abs(angle).max(axis=1) > 2.6, np.sign(angle[:, 0]) * np.pi, 0.0)
    far = np.abs(angle - middle[:, None]) > np.pi
    angle = np.where(far, angle + 2 * np.pi * np.sign(middle)[:, None], angle)
    return np.stack([angle / (2 * np.pi) + 0.5, along], axis=-1)
