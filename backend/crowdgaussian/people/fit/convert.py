# SPDX-License-Identifier: Apache-2.0
"""A body that takes the pose and the size of another one, told by its joints."""

from dataclasses import dataclass

import numpy as np
import torch
from crowdgaussian_shared.geometry.skeleton import BODY_JOINTS, JOINT_INDEX, PARENTS
from torch import Tensor

from ...body.model import BodyModel
from ...core.device import float_tensor
from ...core.landmarks import Landmark as L
from ...core.optim import Descent, minimise, parameter_groups
from ...core.rotations import axis_angle_to_matrix, joint_transforms
from .body_points import BodyPoints, PosedPoints
from .fitter import Bodies
from .init import limb_pose, torso_frame
from .objective import extreme_shape, limit_energy, pose_energy, relaxed_hands

_BODY = len(BODY_JOINTS)
_RATES = {"turn": 0.02, "body_pose": 0.02, "pelvis": 0.02, "betas": 0.05, "scale": 0.02}
# Hand-tuned; not measured one by one.
_REACH = 0.05  # metres at which an error counts one; less follows the joints, away from the priors
_STAY = 0.02  # weight of pose changes, which only serve other rest poses
_SHAPE = 2e-3  # weight of unusual betas; more gives everybody the average build
_SIZE = 0.5  # weight of a scale other than 1: betas tell size first


@dataclass(frozen=True)
class StartBodies:
    """Where a fit begins, scene axes with the camera at the origin."""

    bodies: Bodies
    hands: Tensor  # [P, 33, 3] axis-angle of jaw, eyes and fingers


def fit_to_joints(
    body: BodyModel, joints: Tensor, start: Bodies, hands: Tensor, steps: int = 100
) -> Bodies:
    """Shape, size and small changes of pose so that joints come to lie on given ones.

    Args:
        body: the model that is fitted.
        joints: [P, 55, 3] metres; the 22 of the body count.
        start: the pose to keep to, and a first place, in the frame of the joints.
        hands: [P, 33, 3] axis-angle of jaw, eyes and fingers, which stay.
        steps: of the optimiser.

    Returns:
        Bodies in the same frame.
    """
    people = len(joints)
    fixed = axis_angle_to_matrix(hands)
    free = {
        "turn": torch.zeros(people, 3),
        "body_pose": start.body_pose.clone(),
        "pelvis": start.pelvis.clone(),
        "betas": start.betas.clone(),
        "scale": start.scale.log(),
    }

    def energy(_: int) -> Tensor:
        turn = axis_angle_to_matrix(free["turn"]) @ start.orientation
        limbs = axis_angle_to_matrix(free["body_pose"])
        rest = body.joint_template + torch.tensordot(free["betas"], body.joint_directions, dims=1)
        rest = rest * free["scale"].exp()[:, None, None]
        rotations = torch.cat([turn[:, None], limbs, fixed], dim=1)
        posed = joint_transforms(rest, rotations, free["pelvis"] - rest[:, 0])[1]
        apart = (posed - joints)[:, :_BODY].square().sum(dim=-1) / _REACH**2
        moved = (free["body_pose"] - start.body_pose).square().sum(dim=(1, 2))
        each = apart.mean(dim=1) + _STAY * (moved + free["turn"].square().sum(dim=1))
        each = each + _SHAPE * extreme_shape(free["betas"]) + _SIZE * free["scale"].square()
        return each.sum()

    for tensor in free.values():
        tensor.requires_grad_()
    minimise(parameter_groups(free, _RATES), Descent(steps), energy)
    done = {name: tensor.detach() for name, tensor in free.items()}
    return _bodies(done, start.orientation)


def _bodies(free: dict[str, Tensor], orientation: Tensor) -> Bodies:
    return Bodies(
        axis_angle_to_matrix(free["turn"]) @ orientation,
        free["body_pose"],
        free["pelvis"],
        free["betas"],
        free["scale"].exp(),
    )


# The 70 keypoints of SAM 3D Body (the "MHR70" layout) in terms of our joints and landmarks

NUM_KEYPOINTS = 70
NECK = 69
_FINGERS = ("thumb", "index", "middle", "ring", "pinky")
_FIRST_FINGER = {"right": 21, "left": 42}
WRISTS = {"right": 41, "left": 62}

# keypoint -> MediaPipe landmark, where both mean a point of the skin
LANDMARKS = {
    0: L.NOSE,
    1: L.LEFT_EYE,
    2: L.RIGHT_EYE,
    3: L.LEFT_EAR,
    4: L.RIGHT_EAR,
    15: L.LEFT_FOOT_INDEX,
    17: L.LEFT_HEEL,
    18: L.RIGHT_FOOT_INDEX,
    20: L.RIGHT_HEEL,
}

_LIMBS = {
    5: "left_shoulder", 6: "right_shoulder", 7: "left_elbow", 8: "right_elbow",
    9: "left_hip", 10: "right_hip", 11: "left_knee", 12: "right_knee",
    13: "left_ankle", 14: "right_ankle", WRISTS["left"]: "left_wrist",
    WRISTS["right"]: "right_wrist", NECK: "neck",
}  # fmt: skip


def finger_keypoints(side: str) -> dict[int, str]:
    """Keypoint -> joint for the three joints of each finger of a hand."""
    joints: dict[int, str] = {}
    for number, finger in enumerate(_FINGERS):
        first = _FIRST_FINGER[side] + 4 * number  # the tip
        joints |= {first + 4 - k: f"{side}_{finger}{k}" for k in (1, 2, 3)}
    return joints


JOINTS = {
    keypoint: JOINT_INDEX[name]
    for keypoint, name in (_LIMBS | finger_keypoints("left") | finger_keypoints("right")).items()
}

# MediaPipe landmark -> the keypoint that is the same point of a person
MEDIAPIPE = {
    **{landmark: keypoint for keypoint, landmark in LANDMARKS.items()},
    L.LEFT_SHOULDER: 5, L.RIGHT_SHOULDER: 6, L.LEFT_ELBOW: 7, L.RIGHT_ELBOW: 8,
    L.LEFT_WRIST: WRISTS["left"], L.RIGHT_WRIST: WRISTS["right"], L.LEFT_PINKY: 61,
    L.RIGHT_PINKY: 40, L.LEFT_INDEX: 49, L.RIGHT_INDEX: 28, L.LEFT_THUMB: 43, L.RIGHT_THUMB: 22,
    L.LEFT_HIP: 9, L.RIGHT_HIP: 10, L.LEFT_KNEE: 11, L.RIGHT_KNEE: 12, L.LEFT_ANKLE: 13,
    L.RIGHT_ANKLE: 14,
}  # fmt: skip


# The body model fitted to keypoints in space, as SAM 3D Body tells them

_KEYPOINT_RATES = {
    "turn": 0.02,
    "body_pose": 0.03,
    "hands": 0.03,
    "pelvis": 0.02,
    "betas": 0.05,
    "scale": 0.02,
}
# Hand-tuned; not measured one by one. The rest are weights of the priors.
_KEYPOINT_REACH = 0.02  # metres at which a keypoint's error counts one; less outweighs the priors
_UNUSUAL, _LIMIT = 0.03, 20.0  # of unusual poses, and of joints beyond their limits
_HANDS = 2.0  # of fingers away from rest; less follows noise of the finger keypoints
_SHAPE_WEIGHT, _SIZE_WEIGHT = 0.5, 10.0  # of betas, and of a scale other than 1

# Where MHR's keypoints lie beside the open body's joints: metres in the frame of the joint's
# parent, for the left side (x mirrored on the right). Measured on the four people of MHR's public
# sample, who agree to about a centimetre.
_OPEN_BODY_OFFSETS = {
    "shoulder": (-0.027, 0.027, -0.018),
    "hip": (-0.034, -0.015, -0.001),
    "wrist": (0.026, 0.002, -0.006),
    "neck": (0.0, -0.022, 0.033),
    "ankle": (0.003, 0.014, 0.016),
}


@dataclass(frozen=True)
class _Targets:
    """Which points of the body belong to which keypoints."""

    keypoints: Tensor  # [K, 3] of one person, with a leading batch
    joints: Tensor  # [J] ids
    offsets: Tensor  # [J, 3] metres in the frame of the joint's parent
    parents: Tensor  # [J]
    landmarks: Tensor  # [L] ids

    def points(self, posed: PosedPoints, scale: Tensor) -> Tensor:
        """The body's own points in the order of keypoints.  # [P, J + L, 3]"""
        turn = posed.rotations[:, self.parents]
        shift = (turn @ self.offsets[..., None])[..., 0] * scale[:, None, None]
        return torch.cat(
            [posed.joints[:, self.joints] + shift, posed.landmarks[:, self.landmarks]], dim=1
        )


def fit_3d_keypoints(
    body: BodyModel, points: BodyPoints, keypoints: np.ndarray, steps: int = 300
) -> StartBodies:
    """Pose, hands, shape and size of bodies whose points come to lie on keypoints.

    Children stay children: size is free and only lightly held.

    Args:
        body: the model that is fitted.
        points: its points.
        keypoints: [P, 70, 3] metres, scene axes with the camera at the origin, layout of mhr70.
        steps: of the optimiser.
    """
    landmarks = np.zeros((len(keypoints), 33, 3))
    for landmark, keypoint in MEDIAPIPE.items():
        landmarks[:, landmark] = keypoints[:, keypoint]
    frames = [torso_frame(one) for one in landmarks]
    rest = body.joint_template.numpy().astype(np.float64)
    limbs = [limb_pose(one, frame, rest) for one, frame in zip(landmarks, frames)]
    orientation, pose = float_tensor(np.stack(frames)), float_tensor(np.stack(limbs))
    wanted = _targets(body, float_tensor(keypoints))
    people = len(keypoints)
    free = {
        "turn": torch.zeros(people, 3),
        "body_pose": pose,
        "hands": relaxed_hands().repeat(people, 1, 1),
        "pelvis": float_tensor(keypoints[:, [9, 10]].mean(axis=1)),
        "betas": torch.zeros(people, body.num_betas),
        "scale": torch.zeros(people),
    }
    for tensor in free.values():
        tensor.requires_grad_()
    minimise(
        parameter_groups(free, _KEYPOINT_RATES),
        Descent(steps),
        lambda _: _energy(free, points, orientation, wanted).sum(),
    )
    done = {name: tensor.detach() for name, tensor in free.items()}
    return StartBodies(_bodies(done, orientation), done["hands"])


def _energy(
    free: dict[str, Tensor], points: BodyPoints, orientation: Tensor, wanted: _Targets
) -> Tensor:
    rotations = torch.cat(
        [
            (axis_angle_to_matrix(free["turn"]) @ orientation)[:, None],
            axis_angle_to_matrix(free["body_pose"]),
            axis_angle_to_matrix(free["hands"]),
        ],
        dim=1,
    )
    scale = free["scale"].exp()
    posed = points(free["betas"], rotations, free["pelvis"], scale)
    apart = (wanted.points(posed, scale) - wanted.keypoints).square().sum(
        dim=2
    ) / _KEYPOINT_REACH**2
    priors = (
        _UNUSUAL * pose_energy(free["body_pose"])
        + _LIMIT * limit_energy(free["body_pose"])
        + _HANDS * (free["hands"] - relaxed_hands()).square().sum(dim=(1, 2))
        + _SHAPE_WEIGHT * free["betas"].square().sum(dim=1)
        + _SIZE_WEIGHT * free["scale"].square()
    )
    return apart.sum(dim=1) + priors


def _targets(body: BodyModel, keypoints: Tensor) -> _Targets:
    offsets = torch.zeros(len(JOINTS), 3)
    if body.name == "open":
        for row, joint in enumerate(JOINTS.values()):
            offsets[row] = _offset(joint)
    joints = torch.tensor(list(JOINTS.values()))
    order = [*JOINTS, *LANDMARKS]
    return _Targets(
        keypoints[:, order],
        joints,
        offsets,
        torch.tensor([PARENTS[joint] for joint in JOINTS.values()]),
        torch.tensor(list(LANDMARKS.values())),
    )


def _offset(joint: int) -> Tensor:
    for part, (x, y, z) in _OPEN_BODY_OFFSETS.items():
        for name, side in ((f"left_{part}", 1.0), (f"right_{part}", -1.0), (part, 1.0)):
            if name in BODY_JOINTS and JOINT_INDEX[name] == joint:
                return torch.tensor([side * x, y, z])
    return torch.zeros(3)
