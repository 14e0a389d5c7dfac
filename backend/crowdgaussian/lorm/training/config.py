# SPDX-License-Identifier: Apache-2.0
"""Settings of the self-supervised training."""

from dataclasses import dataclass, field

from crowdgaussian_shared.errors import SettingError

from ...core.training import TrainingConfig
from ..model.adapters import DEFAULT_TARGETS, RANK
from .losses import VIEWS, DistillationWeights
from .occlusion import OcclusionConfig
from .sample import InputSizes


@dataclass(frozen=True)
class LormTraining(TrainingConfig):
    """How to train; steps, rank, views and the kind of loss are the paper's."""

    steps: int = 2000
    batch: int = 1  # people a step, on each GPU
    views_per_step: int = VIEWS  # of the 24, drawn at random each step
    render_size: int = 512  # side of a view, pixels
    lr: float = 1e-4
    warmup: int = 100  # steps
    rank: int = RANK
    targets: str = DEFAULT_TARGETS
    occlusions: int = 4  # different ones of each person, tokens cached; 0: a new one every time
    save_every: int = 200  # steps
    sample_every: int = 200
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
