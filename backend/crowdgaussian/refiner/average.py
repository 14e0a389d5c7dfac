# SPDX-License-Identifier: Apache-2.0
"""The exponential moving average of a network's weights while it is trained."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


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
