# SPDX-License-Identifier: Apache-2.0
"""The loop of every training: step, report, checkpoint, pictures.

A checkpoint is written between two steps and never from a half-done one. Whoever watches asks for
a stop by raising Cancelled from the report, which comes between steps: that saves first, on all
processes after the same step. A KeyboardInterrupt may come anywhere, so it saves nothing; the
training goes on from the last checkpoint.
"""

from typing import TYPE_CHECKING, Protocol

import torch
from crowdgaussian_shared.errors import Cancelled

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


def run_steps(training: Training, steps: int, save_every: int, sample_every: int,
              report: Report) -> None:
    """Every step that is left.

    Raises:
        Cancelled: by `report`, after a checkpoint.
    """
    while training.step < steps:
        text = training.iterate()
        progress = Progress("train", training.step / steps,
                            message=f"step {training.step}, {text}")
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
