# SPDX-License-Identifier: Apache-2.0
"""The settings of a refiner's training."""

import math
from dataclasses import dataclass, field

from crowdgaussian_shared.errors import CrowdGaussianError

from .calibrated import CalibrationConfig
from .losses import LossWeights


@dataclass(frozen=True)
class RefinerTraining:
    """How to train; steps and batch are the paper's."""

    steps: int = 10_000
    batch: int = 2  # of each process
    crop: int = 128  # pixels, a side of what the network sees at once
    lr: float = 1e-3
    weight_decay: float = 0.01
    warmup: int = 50  # steps
    clip: float = 1.0  # of the gradient's norm
    seed: int = 0
    save_every: int = 500  # steps
    sample_every: int = 500
    ema: float = 0.0  # decay of the averaged weights that become the result; 0: no average
    bfloat16: bool = True  # the network's arithmetic on a GPU; weights and losses are float32
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    losses: LossWeights = field(default_factory=LossWeights)

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "save_every", "sample_every"):
            if getattr(self, name) < 1:
                raise CrowdGaussianError(f"The setting {name} of a training must be at least 1.")
        if self.crop < 32:
            raise CrowdGaussianError("Crops of a training must have at least 32 pixels a side.")
        if not 0 < self.lr < math.inf:
            raise CrowdGaussianError("The learning rate of a training must be above 0.")
        if not 0 <= self.ema < 1:
            raise CrowdGaussianError("The decay of averaged weights (--ema) must be at least 0 "
                                     "and below 1, such as 0.999.")

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, then down to 2 % along a cosine."""
        warm = min(1.0, (step + 1) / max(1, self.warmup))
        return self.lr * warm * (0.51 + 0.49 * math.cos(math.pi * step / self.steps))
