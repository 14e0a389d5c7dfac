# SPDX-License-Identifier: Apache-2.0
"""How parameters move: Adam under a schedule for fits, warm-up and cosine for trainings.

And the best order of states, where a choice is a sequence (best_path).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
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


def best_path(gains: np.ndarray, change: float) -> np.ndarray:
    """Viterbi: the way through slots that gains most and never goes back to an earlier state.

    Args:
        gains: [B, S] of each state in each slot.
        change: what going on to another state costs; states may be left out.

    Returns:
        [B] int, rising.
    """
    count, states = gains.shape
    steps = np.where(np.triu(np.ones((states, states), bool)), -change, -np.inf)
    np.fill_diagonal(steps, 0.0)
    best, came = gains[0].copy(), np.zeros((count, states), int)
    for slot in range(1, count):
        options = best[:, None] + steps  # [from, to]
        came[slot] = options.argmax(0)
        best = options.max(0) + gains[slot]
    path = np.empty(count, int)
    path[-1] = best.argmax()
    for slot in range(count - 1, 0, -1):
        path[slot - 1] = came[slot, path[slot]]
    return path
