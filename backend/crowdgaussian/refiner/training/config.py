# SPDX-License-Identifier: Apache-2.0
"""The settings of a refiner's training."""

from dataclasses import dataclass, field

import torch
from crowdgaussian_shared.errors import SettingError
from torch import Tensor

from ...core.progress import setting
from ...core.training import TrainingConfig
from .losses import RefinerLossWeights

# Self-Calibrated Learning: some inputs are clean already, so that the network learns restraint


@dataclass(frozen=True)
class CalibrationConfig:
    """How often inputs are clean."""

    clean: float = setting(0.3, "share of inputs that are clean already")
    half_clean: float = setting(0.0, "share of inputs that are clean in part")

    def __post_init__(self) -> None:
        if min(self.clean, self.half_clean) < 0 or not self.clean + self.half_clean <= 1:
            raise SettingError(
                "The shares of clean and of half-clean inputs must be 0 or "
                "above and at most 1 together."
            )


def calibrate(
    coarse: Tensor, clean: Tensor, config: CalibrationConfig, generator: torch.Generator
) -> Tensor:
    """The training input: coarse, clean, or clean in part, drawn for each sample.

    Args:
        coarse: [B, 3, H, W].
        clean: [B, 3, H, W], the targets.
        config: the probabilities.
        generator: on the CPU.
    """
    draw = torch.rand(len(coarse), generator=generator)
    mix = torch.zeros(len(coarse), 1, *coarse.shape[2:])
    for index, value in enumerate(draw.tolist()):
        if value < config.clean:
            mix[index] = 1.0
        elif value < config.clean + config.half_clean:
            mix[index, 0] = _half(coarse.shape[2], coarse.shape[3], generator)
    mix = mix.to(coarse)
    return coarse + mix * (clean - coarse)


def _half(height: int, width: int, generator: torch.Generator) -> Tensor:
    """A soft-edged half-plane through a random point.  # [H, W] 0..1"""
    angle, y, x, soft = torch.rand(4, generator=generator).tolist()
    direction = torch.tensor([torch.pi * 2 * angle])
    rows = torch.arange(height)[:, None] - y * height
    columns = torch.arange(width)[None] - x * width
    along = rows * direction.sin() + columns * direction.cos()
    return torch.sigmoid(along / (1.0 + soft * 0.1 * width))


WITH_BASE = {"lr": 2e-5, "crop": 512}  # what is usual for a network on Stable Diffusion


@dataclass(frozen=True)
class RefinerTraining(TrainingConfig):
    """How to train; steps and batch are the paper's."""

    batch: int = setting(2, "crops of a step in each process")
    lr: float = setting(1e-3, "learning rate; with --base 2e-5")
    crop: int = setting(128, "side of what the network sees at once, pixels; with --base 512")
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    losses: RefinerLossWeights = field(default_factory=RefinerLossWeights)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.crop < 32:
            raise SettingError("Crops of a training must have at least 32 pixels a side.")
