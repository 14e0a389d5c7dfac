# SPDX-License-Identifier: Apache-2.0
"""Progress as a person sees it: bars on a terminal, plain lines anywhere else."""

import signal
import time
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Any

from crowdgaussian_shared.errors import Cancelled
from crowdgaussian_shared.scene.schema import PersonEntry
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from ..core.progress import Progress as Step

TITLES = {
    "people": "Finding people",
    "masks": "Cutting masks",
    "avatars": "Building avatars",
    "refine": "Refining the crowd",
    "connect": "Connecting",
    "upload": "Sending the photo",
    "wait": "Waiting for the server",
    "queue": "Waiting in the queue",
    "start": "Starting",
    "download": "Fetching files",
    "blend": "Building the .blend file",
    "previews": "Rendering previews",
}
SIGNALS = (signal.SIGINT, signal.SIGTERM)
LINE_EVERY = 10.0  # seconds between plain lines of one stage


def print_people(people: Sequence[PersonEntry]) -> None:
    """One line for each person who failed or kept the first avatar."""
    for index, person in enumerate(people):
        if person.state == "failed":
            print(f"person {index} failed: {person.error}")
        elif person.refinement in ("kept", "failed"):
            print(f"person {index} is not refined: {person.refinement_note}")


class ConsoleReport:
    """A Report that draws, and that turns Ctrl-C into Cancelled at the next safe point.

    The first Ctrl-C (or SIGTERM) asks the work to stop; the second one interrupts it at once.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.cancelled = False
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._last_line: dict[str, tuple[float, int | None]] = {}
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "ConsoleReport":
        for number in SIGNALS:
            self._before[number] = signal.signal(number, self._interrupt)
        if self.console.is_terminal:
            self._bars = Progress(
                TextColumn("{task.description:<24}"),
                BarColumn(),
                TextColumn("{task.fields[who]}"),
                TimeElapsedColumn(),
                console=self.console,
            )
            self._bars.start()
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, step: Step) -> None:
        if self.cancelled:
            raise Cancelled
        if self._bars is not None:
            self._draw(self._bars, step)
        else:
            self._print(step)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self.cancelled:
            raise KeyboardInterrupt
        self.cancelled = True
        self.console.print("Stopping after this step; Ctrl-C again stops at once.", markup=False)

    def _draw(self, bars: Progress, step: Step) -> None:
        if step.stage not in self._tasks:
            self._tasks[step.stage] = bars.add_task(_title(step), total=1.0, who="")
        bars.update(self._tasks[step.stage], completed=step.fraction, who=_who(step))

    def _print(self, step: Step) -> None:
        now = time.monotonic()
        shown, person = self._last_line.get(step.stage, (-LINE_EVERY, None))
        finished = step.fraction >= 1.0
        if not finished and step.person == person and now - shown < LINE_EVERY:
            return
        self._last_line[step.stage] = (now, step.person)
        line = f"{_title(step)}: {step.fraction:4.0%} {_who(step)}".rstrip()
        self.console.print(line, highlight=False, markup=False)


def _title(step: Step) -> str:
    return TITLES.get(step.stage, step.stage.capitalize())


def _who(step: Step) -> str:
    parts = []
    if step.person is not None:
        total = f" of {step.people}" if step.people else ""
        parts.append(f"person {step.person + 1}{total}")
    if step.message:
        parts.append(step.message)
    return " ".join(parts)
