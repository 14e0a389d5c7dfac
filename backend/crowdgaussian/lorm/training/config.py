# SPDX-License-Identifier: Apache-2.0
"""Settings of the self-supervised training."""

import json
import math
from dataclasses import asdict, dataclass, field

from crowdgaussian_shared.errors import SettingError

from ..model.adapters import DEFAULT_TARGETS, RANK
from .losses import VIEWS, LossWeights
from .occlusion import OcclusionConfig
from .sample import InputSizes


@dataclass(frozen=True)
class TrainConfig:
    """How to train; iterations, rank, views and the kind of loss are the paper's."""

    iterations: int = 2000
    batch: int = 1  # people a step, on each GPU
    views_per_step: int = VIEWS  # of the 24, drawn at random each step
    render_size: int = 512  # side of a view, pixels
    lr: float = 1e-4
    weight_decay: float = 0.01
    warmup: int = 100  # iterations
    clip: float = 1.0  # of the gradient's norm
    rank: int = RANK
    targets: str = DEFAULT_TARGETS
    occlusions: int = 4  # different ones of each person, tokens cached; 0: a new one every time
    seed: int = 0
    save_every: int = 200  # iterations
    sample_every: int = 200
    gradient_checkpointing: bool = True
    bfloat16: bool = True  # the transformer on a GPU; geometry and renders are float32
    loss: LossWeights = field(default_factory=LossWeights)
    occlusion: OcclusionConfig = field(default_factory=OcclusionConfig)
    sizes: InputSizes = field(default_factory=InputSizes)

    def __post_init__(self):
        for name in ("iterations", "batch", "views_per_step", "rank", "save_every", "sample_every"):
            if getattr(self, name) < 1:
                raise SettingError(f"The setting {name} of a training must be at least 1.")
        if self.views_per_step > VIEWS:
            raise SettingError(f"There are {VIEWS} views; use at most so many a step.")
        if self.render_size < 32:
            raise SettingError("Views of a training must have at least 32 pixels a side.")

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, then down to 2 % along a cosine."""
        warm = min(1.0, (step + 1) / max(1, self.warmup))
        turn = 0.5 * (1 + math.cos(math.pi * step / self.iterations))
        return self.lr * warm * (0.02 + 0.98 * turn)

    def plain(self) -> dict:
        """As JSON can hold it."""
        return json.loads(json.dumps(asdict(self)))
