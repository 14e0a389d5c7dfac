# SPDX-License-Identifier: Apache-2.0
"""How parameters move: Adam under a schedule for fits, warm-up and cosine for trainings."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler


@dataclass(frozen=True)
class Descent:
    """How a fit goes down."""

    steps: int
    betas: tuple[float, float] = (0.9, 0.999)  # of Adam's moments
    eps: float = 1e-8  # of Adam: gradients much smaller than this move little
    rate: Callable[[float], float] | None = None  # share of steps done -> factor; None: a cosine


def minimise(
    groups: list[dict[str, Any]],
    descent: Descent,
    loss_at: Callable[[int], Tensor],
    ended: Callable[[int, Tensor], bool | None] | None = None,
) -> None:
    """Lower a loss with Adam, in place.

    Args:
        groups: parameters with their learning rates, as torch.optim takes them.
        descent: how.
        loss_at: the loss with its gradient; gets the number of the step, from 0.
        ended: called after each step with its number and its loss; true ends the fit, and it may
            raise to do so.
    """
    optimiser = torch.optim.Adam(groups, betas=descent.betas, eps=descent.eps)
    schedule = _schedule(optimiser, descent)
    for step in range(descent.steps):
        optimiser.zero_grad()
        loss = loss_at(step)
        loss.backward()
        optimiser.step()
        schedule.step()
        if ended is not None and ended(step, loss.detach()):
            break


def _schedule(optimiser: torch.optim.Optimizer, descent: Descent) -> LRScheduler:
    factor, steps = descent.rate, descent.steps
    if factor is None:
        return CosineAnnealingLR(optimiser, steps)
    return LambdaLR(optimiser, lambda step: factor(step / max(1, steps)))


def parameter_groups(free: dict[str, Tensor], rates: dict[str, float]) -> list[dict[str, Any]]:
    """What moves, each tensor at the rate of its name, in the order of `free`."""
    return [{"params": [tensor], "lr": rates[name]} for name, tensor in free.items()]


def warmed_cosine(lr: float, step: int, steps: int, warmup: int) -> float:
    """A training's learning rate: a linear warm-up, then a cosine down to 2 %.

    Args:
        lr: the highest.
        step: how many are done.
        steps: of the whole training.
        warmup: steps until the factor is whole.
    """
    warm = min(1.0, (step + 1) / max(1, warmup))
    return lr * warm * (0.51 + 0.49 * math.cos(math.pi * step / steps))
