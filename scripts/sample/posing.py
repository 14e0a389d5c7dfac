# SPDX-License-Identifier: Apache-2.0
"""Build a pose joint by joint: turns in degrees, and hands and feet put where they should be."""

import numpy as np
from crowdgaussian_shared.geometry.skeleton import FINGERS, JOINT_INDEX, NUM_JOINTS, PARENTS
from scipy.spatial.transform import Rotation

LIMBS = {
    "left_leg": ("left_hip", "left_knee", "left_ankle", (1.0, 0.0, 0.0)),
    "right_leg": ("right_hip", "right_knee", "right_ankle", (1.0, 0.0, 0.0)),
    "left_arm": ("left_shoulder", "left_elbow", "left_wrist", (0.0, -1.0, 0.0)),
    "right_arm": ("right_shoulder", "right_elbow", "right_wrist", (0.0, 1.0, 0.0)),
}  # upper joint, hinge joint, end joint, axis the hinge turns about in the rest pose


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(np.linalg.norm(vector), 1e-9)


def _frame(direction: np.ndarray, hinge: np.ndarray) -> np.ndarray:
    """Rotation whose columns are the bone, the hinge made square to it, and their cross product."""
    direction = _unit(direction)
    hinge = _unit(hinge - direction * (hinge @ direction))
    return np.stack([direction, hinge, np.cross(direction, hinge)], axis=1)


class Puppet:
    """A skeleton that is turned and pulled into a pose. Angles in degrees, lengths in metres.

    The frame is the person's own: origin on the floor under the pelvis' rest position, y up,
    z forward, x to the person's left. `facing` turns everything about y at the end.
    """

    def __init__(self, rest_joints: np.ndarray, floor: float):
        self.rest = rest_joints - np.array([0.0, floor, 0.0])  # [55, 3], soles at y = 0
        self.local = np.tile(np.eye(3), (NUM_JOINTS, 1, 1))
        self.offset = np.zeros(3)  # added to the pelvis

    def turn(self, joint: str, x: float = 0, y: float = 0, z: float = 0) -> None:
        """Turn a joint about its own axes: first x, then y, then z."""
        turned = Rotation.from_euler("xyz", [x, y, z], degrees=True).as_matrix()
        self.local[JOINT_INDEX[joint]] = self.local[JOINT_INDEX[joint]] @ turned

    def forward(self) -> tuple[np.ndarray, np.ndarray]:
        """Global rotations [55, 3, 3] and joint positions [55, 3]."""
        rotations, positions = self.local.copy(), self.rest + 0.0
        positions[0] = self.rest[0] + self.offset
        for joint in range(1, NUM_JOINTS):
            parent = PARENTS[joint]
            rotations[joint] = rotations[parent] @ self.local[joint]
            bone = self.rest[joint] - self.rest[parent]
            positions[joint] = positions[parent] + rotations[parent] @ bone
        return rotations, positions

    def where(self, joint: str) -> np.ndarray:
        """Present position of a joint.  # [3]"""
        return self.forward()[1][JOINT_INDEX[joint]]

    def aim(self, joint: str, rotation: np.ndarray) -> None:
        """Give a joint a global rotation."""
        index = JOINT_INDEX[joint]
        self.local[index] = self.forward()[0][PARENTS[index]].T @ rotation

    def reach(self, limb: str, target: np.ndarray, pole: np.ndarray) -> None:
        """Bend a limb so that its end joint lies at target, its middle joint towards pole.

        Law of cosines for two bones; out of reach, the limb is nearly straight.
        """
        upper, middle, end, rest_hinge = LIMBS[limb]
        a, b, c = (self.rest[JOINT_INDEX[n]] for n in (upper, middle, end))
        first, second = np.linalg.norm(b - a), np.linalg.norm(c - b)
        start = self.where(upper)
        line = np.asarray(target, float) - start
        length = np.clip(np.linalg.norm(line), abs(first - second) + 0.01, (first + second) * 0.997)
        line = _unit(line)
        side = _unit(np.asarray(pole, float) - line * (np.asarray(pole, float) @ line))
        along = (first**2 + length**2 - second**2) / (2 * length)
        knee = start + line * along + side * np.sqrt(max(first**2 - along**2, 0.0))
        hinge = np.cross(side, line)
        at_rest = np.array(rest_hinge)
        self.aim(upper, _frame(knee - start, hinge) @ _frame(b - a, at_rest).T)
        tip = start + line * length
        self.aim(middle, _frame(tip - knee, hinge) @ _frame(c - b, at_rest).T)

    def plant(self, side: str, x: float, z: float, toe_out: float = 8, pitch: float = 0) -> None:
        """Put a foot on the floor, flat at (x, z) or turned by pitch degrees about its ball.

        A positive pitch raises the heel and keeps the toes flat; a negative one raises the toes
        over the heel.
        """
        sign = 1 if side == "left" else -1
        yaw = Rotation.from_euler("y", sign * toe_out, degrees=True)
        foot = yaw * Rotation.from_euler("x", pitch, degrees=True)
        ankle = self.rest[JOINT_INDEX[f"{side}_ankle"]]
        ball = self.rest[JOINT_INDEX[f"{side}_foot"]] - ankle
        pivot = ball if pitch > 0 else np.array([0.0, -ankle[1], -0.05])
        goal = np.array([x, ankle[1], z]) + yaw.apply(pivot) - foot.apply(pivot)
        self.reach(f"{side}_leg", goal, yaw.apply([sign * 0.1, 0.0, 1.0]))
        self.aim(f"{side}_ankle", foot.as_matrix())
        if pitch > 0:
            self.turn(f"{side}_foot", x=-pitch)

    def curl(self, side: str, degrees: float, spread: float = 0) -> None:
        """Close the hand a little: every finger joint turns, the thumb less."""
        sign = -1 if side == "left" else 1
        order_of = {"index": 0, "middle": 1, "ring": 2, "pinky": 3, "thumb": 4}
        for finger in FINGERS:
            order = order_of[finger]
            for k in (1, 2, 3):
                if finger == "thumb":
                    self.turn(f"{side}_{finger}{k}", y=-sign * degrees * 0.25)
                    continue
                fan = sign * spread * (order - 1.5) if k == 1 else 0.0
                self.turn(f"{side}_{finger}{k}", y=fan, z=sign * degrees * (0.8 + 0.1 * order))

    def pose(self, facing: float) -> np.ndarray:
        """Axis-angle per joint, the whole body turned about y by `facing` degrees.  # [55, 3]"""
        local = self.local.copy()
        local[0] = Rotation.from_euler("y", facing, degrees=True).as_matrix() @ local[0]
        return Rotation.from_matrix(local).as_rotvec()
