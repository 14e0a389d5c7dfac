# SPDX-License-Identifier: Apache-2.0
"""CPU seconds and memory of each step of some work."""

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

Step = TypeVar("Step")

_STATUS, _FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Cost:
    """What one step took."""

    cpu: float  # seconds of all threads
    peak: float  # bytes, the most that lay in memory; NaN where the system does not tell
    more: float  # bytes, by how much that is above what lay there before


def costed(steps: Iterable[Step]) -> Iterator[tuple[Step, Cost]]:
    """Each step with what it took to make it."""
    iterator = iter(steps)
    while True:
        before, started = _forget_peak(), time.process_time()
        try:
            step = next(iterator)
        except StopIteration:
            return
        peak = _memory("VmHWM")
        yield step, Cost(time.process_time() - started, peak, peak - before)


def _forget_peak() -> float:
    """Starts the peak anew; returns what lies in memory now, NaN where that cannot be done."""
    try:
        _FORGET.write_text("5")
    except OSError:
        return math.nan
    return _memory("VmRSS")


def _memory(name: str) -> float:
    """A line of Linux' account of this process.  # bytes"""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return math.nan
    found = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return 1024.0 * int(found[0]) if found else math.nan
