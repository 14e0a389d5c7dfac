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
