# SPDX-License-Identifier: Apache-2.0
"""How far the student's renders are from the teacher's (CrowdGaussian, equation 4)."""

from dataclasses import dataclass

from torch import Tensor

from ..metrics import mse, ssim


@dataclass(frozen=True)
class LossWeights:
    """The two weights of equation 4; their values are our choice."""

    rgb: float = 1.0
    ssim: float = 0.2


def distillation_loss(student: Tensor, teacher: Tensor, weights: LossWeights) -> Tensor:
    """rgb * L2 + ssim * (1 - SSIM), the mean over views.

    Args:
        student: renders on white, with gradient.  # [V, H, W, 3] 0..1
        teacher: renders of the same views.  # [V, H, W, 3] 0..1
        weights: of the two parts.
    """
    difference = weights.rgb * mse(student, teacher)
    return (difference + weights.ssim * (1 - ssim(student, teacher))).mean()
