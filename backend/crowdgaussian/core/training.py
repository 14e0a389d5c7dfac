# SPDX-License-Identifier: Apache-2.0
"""The loop of every training: step, report, checkpoint, pictures.

A checkpoint is written between two steps and never from a half-done one. Whoever watches asks for
a stop by raising Cancelled from the report, which comes between steps: that saves first, on all
processes after the same step. A KeyboardInterrupt may come anywhere, so it saves nothing; the
training goes on from the last checkpoint.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from crowdgaussian_shared.errors import Cancelled, MissingFileError, SettingError
from PIL import Image
from torch import Tensor, nn

from .progress import Progress, Report

if TYPE_CHECKING:
    from accelerate import Accelerator


class Training(Protocol):
    """What the loop needs of a training."""

    accelerator: "Accelerator"
    step: int  # how many are done

    def iterate(self) -> str:
        """One step more; returns what to say of it."""

    def save(self) -> None:
        """Writes a checkpoint of the steps done, on the main process."""

    def sample(self) -> None:
        """Draws pictures, on the main process."""


def run_steps(
    training: Training, steps: int, save_every: int, sample_every: int, report: Report
) -> None:
    """Every step that is left.

    Raises:
        Cancelled: by `report`, after a checkpoint.
    """
    while training.step < steps:
        text = training.iterate()
        progress = Progress("train", training.step / steps, message=f"step {training.step}, {text}")
        stopped = _stopped(training.accelerator, report, progress)
        last = training.step == steps
        if stopped or last or training.step % save_every == 0:
            training.save()
        if stopped:
            raise Cancelled
        if last or training.step % sample_every == 0:
            training.sample()


def _stopped(accelerator: "Accelerator", report: Report, progress: Progress) -> bool:
    """Whether any process was asked to stop: then all do, or the others would wait for ever."""
    try:
        report(progress)
        stop = False
    except Cancelled:
        stop = True
    if accelerator.num_processes == 1:
        return stop
    votes = torch.tensor(float(stop), device=accelerator.device)
    return bool(accelerator.reduce(votes, "sum") > 0)


# The exponential moving average of a network's weights while it is trained


class WeightAverage:
    """Weights that follow those of a training slowly and are calmer than them."""

    def __init__(self, parameters: dict[str, nn.Parameter], decay: float) -> None:
        """Starts at the weights as they are.

        Args:
            parameters: what is trained, by name.
            decay: share of the old average that a step keeps, under 1.
        """
        self.parameters, self.decay = parameters, decay
        self.values = {name: value.detach().clone() for name, value in parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in the weights after `step` steps; early ones count more, as they change fast."""
        keep = min(self.decay, (1 + step) / (10 + step))
        for name, value in self.parameters.items():
            self.values[name].lerp_(value.detach(), 1 - keep)

    def load(self, values: dict[str, Tensor]) -> None:
        """Goes on from a saved average; KeyError where one is missing."""
        for name, value in self.values.items():
            value.copy_(values[name])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The network has the averaged weights while the block runs."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for name, value in self.parameters.items():
            value.data, self.values[name] = self.values[name], value.data


# What trainings of any network leave to look at: TensorBoard's curves and sample pictures

if TYPE_CHECKING:
    from torch import Tensor
    from torch.utils.tensorboard import SummaryWriter


def open_log(out: Path, step: int) -> "SummaryWriter":
    """TensorBoard's file in OUT/tensorboard, without what came after `step`.

    Raises:
        MissingFileError: TensorBoard is missing.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingFileError(
            "Training needs TensorBoard; install it with "
            "`pip install crowdgaussian[networks,train]`."
        ) from error
    return SummaryWriter(str(out / "tensorboard"), purge_step=step + 1)


def log_samples(log: "SummaryWriter", out: Path, step: int, picture: np.ndarray) -> None:
    """A sample grid [H, W, 3] uint8 into OUT/samples and into the log."""
    path = out / "samples" / f"step_{step:06d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
    log.add_image("samples", picture, step, dataformats="HWC")


def require_finite(loss: "Tensor", step: int) -> None:
    """Raises CrowdGaussianError when a step's loss is no number."""
    if not loss.isfinite():
        raise SettingError(
            f"The loss of step {step} is no number; go on from the "
            "last checkpoint with a lower learning rate (--lr)."
        )
