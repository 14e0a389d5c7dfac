# SPDX-License-Identifier: Apache-2.0
"""Settings of the self-supervised training."""

from dataclasses import dataclass, field

from crowdgaussian_shared.errors import SettingError

from ...core.training import TrainingConfig, setting
from ..model.adapters import DEFAULT_TARGETS, RANK
from .losses import VIEWS, DistillationWeights
from .occlusion import OcclusionConfig
from .sample import InputSizes


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
