# SPDX-License-Identifier: Apache-2.0
"""Settings of the self-supervised training."""

import math
from dataclasses import dataclass, field

import torch
from crowdgaussian_shared.errors import SettingError
from torch import Tensor

from ...core.metrics import mse, ssim
from ...core.progress import setting
from ...core.rotations import axis_angle_to_matrix, joint_transforms
from ...core.training import TrainingConfig
from ...splat.cameras import Cameras
from ..model.adapters import DEFAULT_TARGETS, RANK
from ..model.posing import Posing
from .occlusion import OcclusionConfig
from .sample import InputSizes

# How far the student's renders are from the teacher's (CrowdGaussian, equation 4)


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


@dataclass(frozen=True)
class LormTraining(TrainingConfig):
    """How to train; steps, rank, views and the kind of loss are the paper's."""

    steps: int = setting(2000, "steps")
    batch: int = setting(1, "people a step on each GPU")
    views_per_step: int = setting(VIEWS, "of the 24 views")
    render_size: int = setting(512, "side of a view, pixels")
    lr: float = setting(1e-4, "learning rate")
    warmup: int = 100  # steps
    rank: int = setting(RANK, "of the adapters")
    targets: str = setting(DEFAULT_TARGETS, "samples, attention, attention+ff or all")
    occlusions: int = setting(4, "different ones of each person, cached; 0: always new")
    save_every: int = setting(200, "steps between checkpoints")
    sample_every: int = setting(200, "steps between pictures")
    gradient_checkpointing: bool = True
    loss: DistillationWeights = field(default_factory=DistillationWeights)
    occlusion: OcclusionConfig = field(default_factory=OcclusionConfig)
    sizes: InputSizes = field(default_factory=InputSizes)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_positive("views_per_step", "rank")
        if self.views_per_step > VIEWS:
            raise SettingError(f"There are {VIEWS} views; use at most so many a step.")
        if self.render_size < 32:
            raise SettingError("Views of a training must have at least 32 pixels a side.")
