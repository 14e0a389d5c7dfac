# SPDX-License-Identifier: Apache-2.0
"""How far the student's renders are from the teacher's (CrowdGaussian, equation 4)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...body.kinematics import axis_angle_to_matrix, joint_transforms
from ...core.metrics import mse, ssim
from ...core.training import setting
from ...splat.cameras import Cameras
from ..model.posing import Posing


@dataclass(frozen=True)
class DistillationWeights:
    """The two weights of equation 4; their values are our choice."""

    rgb: float = setting(1.0, "lambda_rgb")
    ssim: float = setting(0.2, "lambda_ssim")


def distillation_loss(student: Tensor, teacher: Tensor, weights: DistillationWeights) -> Tensor:
    """rgb * L2 + ssim * (1 - SSIM), the mean over views.

    Args:
        student: renders on white, with gradient.  # [V, H, W, 3] 0..1
        teacher: renders of the same views.  # [V, H, W, 3] 0..1
        weights: of the two parts.
    """
    difference = weights.rgb * mse(student, teacher)
    return (difference + weights.ssim * (1 - ssim(student, teacher))).mean()


# The 24 horizontal views around a person in which teacher and student are compared

VIEWS = 24
FOV = 0.6  # radians, vertical
_MARGIN = 0.3  # metres beyond the joints: skull, hands, feet, clothes


def orbit_cameras(
    posing: Posing, betas: Tensor, pose: Tensor, size: int, views: int = VIEWS
) -> Cameras:
    """Cameras around one person who stands at the origin, all of them in sight.

    Args:
        posing: of the network.
        betas: [S].
        pose: [55, 3] axis-angle, radians.
        size: side of the square images, pixels.
        views: how many.
    """
    with torch.no_grad():
        rotations = axis_angle_to_matrix(pose[None].float())
        _, joints = joint_transforms(
            posing.rest_joints(betas[None].float()), rotations, betas.new_zeros(1, 3).float()
        )
    low, high = joints[0].amin(0), joints[0].amax(0)
    extent = (high - low).norm().item() + _MARGIN
    return Cameras.orbit(
        (low + high) / 2, 0.5 * extent / math.tan(FOV / 2), views, fov=FOV, size=size
    )


def upright(pose: Tensor) -> Tensor:
    """The pose without the turn of the whole body.  # [..., 55, 3]"""
    still = pose.clone()
    still[..., 0, :] = 0
    return still
