# SPDX-License-Identifier: Apache-2.0
"""What every step of the GPU check measures with: sizes, times, memory, and figures."""

import resource
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import torch

GIB = 2**30
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Machine:
    """Where the steps run, and how large they are."""

    device: str  # "cuda" or "cpu"
    small: bool  # a dry run: every step, at sizes that a CPU does in seconds

    def pick(self, full: _Value, small: _Value) -> _Value:
        """The size of this run."""
        return small if self.small else full

    def wait(self) -> None:
        """Until the device has done all that it was told."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def bfloat16(self) -> AbstractContextManager:
        """As networks compute in a training."""
        return torch.autocast(self.device, torch.bfloat16)

    def forget_peak(self) -> None:
        """The next peak is of what comes now; a CPU's is of the whole process."""
        if self.device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def peak_gib(self) -> float:
        """The most memory since forget_peak, GiB of the card, or resident on a CPU."""
        if self.device == "cuda":
            return torch.cuda.max_memory_allocated() / GIB
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB


@dataclass(frozen=True)
class Figure:
    """One number, and what was to be expected where something was."""

    what: str
    value: float
    unit: str = ""
    wanted: str = ""
    good: bool | None = None  # None: only a measurement


@dataclass
class Outcome:
    """What became of a step."""

    name: str
    title: str
    state: str  # "ok", "failed", "skipped", "stopped"
    seconds: float = 0.0
    note: str = ""
    figures: list[Figure] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, told: dict[str, Any]) -> "Outcome":
        """Back from JSON."""
        return cls(**{**told, "figures": [Figure(**each) for each in told["figures"]]})


def milliseconds(machine: Machine, work: Callable[[], object], per: int = 1) -> list[Figure]:
    """Median time of some runs after warming up, and the peak of their memory.

    Args:
        machine: where it runs.
        work: what is timed.
        per: how many views or people each run is for.
    """
    for _ in range(machine.pick(3, 1)):
        work()
    machine.wait()
    machine.forget_peak()
    times = []
    for _ in range(machine.pick(10, 1)):
        started = time.perf_counter()
        work()
        machine.wait()
        times.append(1000 * (time.perf_counter() - started) / per)
    return [
        Figure("time, median", statistics.median(times), "ms"),
        Figure("slowest", max(times), "ms"),
        Figure("memory, peak", machine.peak_gib(), "GiB"),
    ]


def named(title: str, figures: list[Figure]) -> list[Figure]:
    """The same figures with the name of what they are of in front."""
    return [
        Figure(f"{title}: {one.what}", one.value, one.unit, one.wanted, one.good) for one in figures
    ]


def below(what: str, value: float, limit: float, unit: str = "") -> Figure:
    """A figure that has to stay below a limit."""
    return Figure(what, value, unit, f"< {limit:g}", value < limit)


def matrix_peak(machine: Machine) -> float:
    """Operations a second of a large bf16 matrix product: the card's practical peak."""
    size, repeats = machine.pick(8192, 256), machine.pick(20, 2)
    a = torch.randn(size, size, device=machine.device, dtype=torch.bfloat16)
    a @ a
    machine.wait()
    started = time.perf_counter()
    for _ in range(repeats):
        a @ a
    machine.wait()
    return repeats * 2 * size**3 / (time.perf_counter() - started)
