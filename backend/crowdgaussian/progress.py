# SPDX-License-Identifier: Apache-2.0
"""How long work tells where it is, and how it is told to stop."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Progress:
    """One report: a stage, how far it is, and whom it is about."""

    stage: str  # "people", "masks", "avatars", ...
    fraction: float  # 0..1 of this stage
    person: int | None = None  # index of the person at work
    people: int | None = None  # how many people the stage has
    message: str = ""


class Report(Protocol):
    """Called between steps; raises crowdgaussian_shared.errors.Cancelled to stop the work."""

    def __call__(self, progress: Progress) -> None: ...


def silent(progress: Progress) -> None:
    """A report that goes nowhere."""
