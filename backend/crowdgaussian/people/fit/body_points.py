# SPDX-License-Identifier: Apache-2.0
"""A few hundred points of the body model: all that a fit needs, at a fraction of the cost."""

from dataclasses import dataclass

import torch
from crowdgaussian_shared.geometry.skeleton import BODY_JOINTS, FACE_JOINTS, JOINT_INDEX, NUM_JOINTS
from torch import Tensor

from ...body.model import BodyModel
from ...core.rotations import axis_angle_to_matrix, joint_transforms, skin

NUM_SURFACE = 500  # points that stand for the silhouette; more follow it better and cost time
_SOLE = 0.025  # metres over the lowest skin that belong to the soles
_FOOT_JOINTS = tuple(
    JOINT_INDEX[f"{side}_{part}"] for part in ("ankle", "foot") for side in ("left", "right")
)
_FINGERS = range(len(BODY_JOINTS + FACE_JOINTS), NUM_JOINTS)


@dataclass(frozen=True)
class PosedPoints:
    """Posed points of a batch of bodies in the frame of their pose."""

    joints: Tensor  # [B, 55, 3]
    landmarks: Tensor  # [B, 33, 3]
    surface: Tensor  # [B, S, 3]
    soles: Tensor  # [B, F, 3], left foot first
    rotations: Tensor  # [B, 55, 3, 3] of each joint's surroundings


class BodyPoints(torch.nn.Module):
    """The landmark, silhouette and sole points of a body model, posed as the model poses them.

    Attributes: those of BodyModel, of N points; landmark_slots say which of points and joints.
    """

    ids: Tensor  # [N] int64 vertices
    landmark_slots: Tensor  # [33, K] int64
    landmark_weights: Tensor  # [33, K]
    template: Tensor  # [N, 3]
    directions: Tensor  # [num_betas, N, 3]
    joint_template: Tensor  # [55, 3]
    joint_directions: Tensor  # [num_betas, 55, 3]
    skin_weights: Tensor  # [N, 55]

    def __init__(self, body: BodyModel) -> None:
        super().__init__()
        vertices = body.num_vertices
        on_skin = body.landmark_ids < vertices
        surface = _spread_vertices(body, NUM_SURFACE)
        soles = _sole_vertices(body)
        landmark_ids = body.landmark_ids[on_skin]
        ids = torch.cat([landmark_ids, surface, soles])
        self.counts = (len(landmark_ids), len(surface), len(soles))
        local = body.landmark_ids.clone()
        local[on_skin] = torch.arange(len(landmark_ids))
        local[~on_skin] += len(landmark_ids) - vertices
        arrays = {
            "ids": ids,
            "landmark_slots": local,
            "landmark_weights": body.landmark_weights,
            "template": body.template[ids],
            "directions": body.directions[:, ids],
            "joint_template": body.joint_template,
            "joint_directions": body.joint_directions,
            "skin_weights": body.skin_weights[ids],
        }
        for name, tensor in arrays.items():
            self.register_buffer(name, tensor)

    def rest_joints(self, betas: Tensor, scale: Tensor) -> Tensor:
        """Joints in T-pose.  # [B, num_betas], [B] -> [B, 55, 3]"""
        joints = self.joint_template + torch.tensordot(betas, self.joint_directions, dims=1)
        return joints * scale[:, None, None]

    def forward(
        self, betas: Tensor, rotations: Tensor, pelvis: Tensor, scale: Tensor
    ) -> PosedPoints:
        """Poses the points.

        Args:
            betas: [B, num_betas].
            rotations: [B, 55, 3, 3] relative to the parent.
            pelvis: [B, 3] metres, where the pelvis joint is.
            scale: [B] of the rest body.
        """
        rest = self.template + torch.tensordot(betas, self.directions, dims=1)
        rest_joints = self.rest_joints(betas, scale)
        transforms, joints = joint_transforms(rest_joints, rotations, pelvis - rest_joints[:, 0])
        points = skin(rest * scale[:, None, None], self.skin_weights, transforms)
        on_skin, surface, soles = points.split(self.counts, dim=1)
        slots = torch.cat([on_skin, joints], dim=1)[:, self.landmark_slots]
        landmarks = (slots * self.landmark_weights[..., None]).sum(dim=2)
        return PosedPoints(joints, landmarks, surface, soles, transforms[:, :, :3, :3])


def pose_matrices(orientation: Tensor, body_pose: Tensor, hands: Tensor) -> Tensor:
    """All joint rotations.  # [B, 3, 3], [B, 21, 3], [33, 3, 3] -> [B, 55, 3, 3]"""
    limbs = axis_angle_to_matrix(body_pose)
    rest = hands.expand(len(limbs), *hands.shape)
    return torch.cat([orientation[:, None], limbs, rest], dim=1)


def _spread_vertices(body: BodyModel, count: int) -> Tensor:
    """Vertices spread evenly over the visible skin (farthest point sampling).  # [count]"""
    fingers = torch.isin(body.parts, torch.tensor(list(_FINGERS)))
    allowed = torch.nonzero(~(body.interior | body.eyes | fingers))[:, 0]
    points = body.template[allowed]
    chosen = [0]
    distance = (points - points[0]).norm(dim=1)
    for _ in range(count - 1):
        chosen.append(int(distance.argmax()))
        distance = torch.minimum(distance, (points - points[chosen[-1]]).norm(dim=1))
    return allowed[chosen]


def _sole_vertices(body: BodyModel) -> Tensor:
    """The lowest skin of both feet, left then right, equally many.  # [F]"""
    low = body.template[:, 1] < body.template[:, 1].min() + _SOLE
    feet = torch.isin(body.parts, torch.tensor(_FOOT_JOINTS)) & low & ~body.interior
    left = torch.nonzero(feet & (body.template[:, 0] > 0))[:, 0]
    left = left[:: max(1, len(left) // 60)]
    return torch.cat([left, body.mirror_vertices[left]])


# The points of hands, which bend where the arm has put their wrists

_CHAIN = 4  # points of a finger: its three joints and the tip
_TIP = 0.9  # of the way to the farthest skin: landmarks lie inside the finger
_DOWN = torch.tensor([0.0, -1.0, 0.0])  # where palms look in the T-pose
_ARMS = (
    (JOINT_INDEX["left_elbow"], JOINT_INDEX["left_wrist"], _FINGERS[0]),
    (JOINT_INDEX["right_elbow"], JOINT_INDEX["right_wrist"], _FINGERS[15]),
)


@dataclass(frozen=True)
class HandAngles:
    """How H hands are bent; radians."""

    twist: Tensor  # [H] of the forearm about itself
    wrist: Tensor  # [H, 3] axis-angle
    fingers: Tensor  # [H, 15, 3] about the axes of HandPoints


class HandPoints:
    """Wrist, finger joints and finger tips of H hands at the end of given arms.

    Attributes:
        forearm [H, 3]: where it points in the T-pose.
        joints [H, 2 + 15] int64: elbow, wrist and finger joints of each hand in the skeleton.
        axes [H, 15, 3, 3]: rows are each finger joint's axes in the T-pose: positive angles bend
            the finger towards the palm, lean it to the little finger, and turn it about itself; see
            _finger_axes for the thumb.
    """

    def __init__(self, body: BodyModel, rest: Tensor, right: Tensor) -> None:
        """The hands of bodies.

        Args:
            body: tells where fingers end.
            rest: [H, 55, 3] joints in T-pose of each hand's body, metres.
            right: [H] bool, which of its hands.
        """
        arms = torch.tensor([[elbow, wrist, *range(f, f + 15)] for elbow, wrist, f in _ARMS])
        self.joints = arms[right.long()]
        own = rest.gather(1, self.joints[..., None].expand(-1, -1, 3))
        self.forearm = torch.nn.functional.normalize(own[:, 1] - own[:, 0], dim=1)
        fingers = (own[:, 2:] - own[:, 1:2]).unflatten(1, (5, 3))
        tips = torch.stack([_finger_tips(body, first) for _, _, first in _ARMS])[right.long()]
        size = (fingers[:, :, 2] - fingers[:, :, 1]).norm(dim=2) / tips[..., 3]
        tip = tips[..., :3] * size[..., None]
        # From the wrist to the first joint, and from each to the next.  # [H, 5, 4, 3]
        self._steps = torch.cat([fingers[:, :, :1], fingers.diff(dim=2), tip[:, :, None]], dim=2)
        self.axes = _finger_axes(self._steps[:, :, 1:], right).flatten(1, 2)

    def angles(self, wrist: Tensor, fingers: Tensor) -> HandAngles:
        """Hands with wrists [H, 3] and fingers [H, 15, 3] bent by these axis-angles."""
        return HandAngles(torch.zeros(len(wrist)), wrist, (self.axes @ fingers[..., None])[..., 0])

    def twist_of(self, elbow: Tensor) -> Tensor:
        """How far elbows are turned about their forearm, the rest being swing.  # [H, 3] -> [H]"""
        half = elbow.norm(dim=1).clamp_min(1e-9) / 2
        along = (elbow * self.forearm).sum(dim=1) / (2 * half)
        return 2 * torch.atan2(half.sin() * along, half.cos())

    def rotations(self, angles: HandAngles) -> tuple[Tensor, Tensor]:
        """Forearm twists [H, 3, 3] and axis-angles of the fingers [H, 15, 3]."""
        twist = axis_angle_to_matrix(self.forearm * angles.twist[:, None])
        return twist, (angles.fingers[..., None, :] @ self.axes)[..., 0, :]

    def __call__(self, elbows: Tensor, angles: HandAngles) -> Tensor:
        """The points as offsets from the wrist.  # [H, 5, 4, 3] metres

        Args:
            elbows: [H, 3, 3] how each elbow's surroundings are turned, before the twist.
            angles: how the hands are bent.
        """
        twist, fingers = self.rotations(angles)
        palm = elbows @ twist @ axis_angle_to_matrix(angles.wrist)
        turn = palm[:, None].expand(-1, 5, -1, -1)
        bends = axis_angle_to_matrix(fingers).unflatten(1, (5, 3))
        place = (turn @ self._steps[:, :, 0, :, None])[..., 0]
        places = [place]
        for k in range(_CHAIN - 1):
            turn = turn @ bends[:, :, k]
            place = place + (turn @ self._steps[:, :, k + 1, :, None])[..., 0]
            places.append(place)
        return torch.stack(places, dim=2)


def _finger_axes(bones: Tensor, right: Tensor) -> Tensor:
    """Axes of bending, leaning and turning.  # [H, 5, 3, 3], [H] -> [H, 5, 3, 3, 3]

    Fingers bend down, out of the plane of a flat hand. A thumb, the last, bends in that plane and
    leans out of it.
    """
    bone = torch.nn.functional.normalize(bones, dim=-1)
    across = torch.linalg.cross(bone, _DOWN.expand_as(bone))
    sideways = torch.where(right, 1.0, -1.0)[:, None, None] * _DOWN
    across[:, 4] = sideways - bone[:, 4] * (bone[:, 4] * sideways).sum(dim=-1, keepdim=True)
    across = torch.nn.functional.normalize(across, dim=-1)
    sign = torch.where(right, -1.0, 1.0)[:, None, None, None]  # so that both hands mean the same
    return torch.stack([across, torch.linalg.cross(bone, across) * sign, bone * sign], dim=3)


def _finger_tips(body: BodyModel, first: int) -> Tensor:
    """From each last joint of a hand to the tip, and the length of the bone before.  # [5, 4]"""
    rows = []
    for joint in range(first + 2, first + 15, 3):
        place = body.joint_template[joint]
        bone = place - body.joint_template[joint - 1]
        skin_of_tip = body.template[body.parts == joint] - place
        far = skin_of_tip @ bone if len(skin_of_tip) else torch.zeros(1)
        tip = skin_of_tip[far.argmax()] * _TIP if float(far.max()) > 0 else bone
        rows.append(torch.cat([tip, bone.norm()[None]]))
    return torch.stack(rows)
