# SPDX-License-Identifier: Apache-2.0
"""Progress as a person sees it: bars on a terminal, plain lines anywhere else."""

import signal
import time
from bisect import bisect_right
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Any

from crowdgaussian_shared.errors import Cancelled
from crowdgaussian_shared.scene.schema import PersonEntry, SceneInfo
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from ..core.progress import Progress as Step

TITLES = {
    "people": "Finding people",
    "masks": "Cutting masks",
    "avatars": "Building avatars",
    "refine": "Refining the crowd",
    "choose": "Checking people",
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
# When the time left is told: after so many seconds and such a share of the stage, and once the end
# of the stage has moved by no more than this share of its length since half of the time so far.
LEAST_SECONDS, LEAST_SHARE, STEADY = 10.0, 0.05, 0.25


def print_people(people: Sequence[PersonEntry]) -> None:
    """One line for each person who failed or kept the first avatar."""
    for index, person in enumerate(people):
        if person.state == "failed":
            print(f"person {index} failed: {person.error}")
        elif person.refinement in ("kept", "failed"):
            print(f"person {index} is not refined: {person.refinement_note}")


def print_checks(info: SceneInfo) -> None:
    """The warnings of a scene, one line each; nothing when there are none."""
    for number, sentence in enumerate(info.checks):
        if number == 0:
            print("Check these:")
        print(f"- {sentence}")


class TimeLeft:
    """How long a stage still takes, from the time and the share it has taken so far."""

    def __init__(self) -> None:
        self._stage, self._first, self._share = "", (0.0, 0.0), 0.0
        self._ends: list[tuple[float, float]] = []  # when it was foreseen, and when the stage ends

    def words(self, step: Step, now: float) -> str:
        """In words, or empty while nobody can tell.

        Args:
            step: the latest report.
            now: seconds of any clock that only goes forward.
        """
        if step.stage != self._stage or step.fraction < self._share:
            self._stage, self._first, self._ends = step.stage, (now, step.fraction), []
        self._share = step.fraction
        start, done = now - self._first[0], step.fraction - self._first[1]
        if done <= 0.0:
            return ""
        end = now + start / done * (1.0 - step.fraction)
        self._ends.append((now, end))
        if start < LEAST_SECONDS or done < LEAST_SHARE or not self._is_steady(now, end):
            return ""
        return _about(end - now)

    def _is_steady(self, now: float, end: float) -> bool:
        begun = self._first[0]
        half = bisect_right(self._ends, (begun + now) / 2, key=lambda one: one[0]) - 1
        return half >= 0 and abs(self._ends[half][1] - end) < STEADY * (end - begun)


def _about(seconds: float) -> str:
    """A rough time that is left; empty for a moment."""
    if seconds < LEAST_SECONDS:
        return ""
    if seconds < 90.0:
        return f"about {10 * round(seconds / 10):.0f} s left"
    return f"about {seconds / 60:.0f} min left"


class ConsoleReport:
    """A Report that draws, and that turns Ctrl-C into Cancelled at the next safe point.

    The first Ctrl-C (or SIGTERM) asks the work to stop; the second one interrupts it at once.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.cancelled = False
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._left = TimeLeft()
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
                TextColumn("{task.fields[left]}"),
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
        left = self._left.words(step, time.monotonic())
        if self._bars is not None:
            self._draw(self._bars, step, left)
        else:
            self._print(step, left)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self.cancelled:
            raise KeyboardInterrupt
        self.cancelled = True
        self.console.print("Stopping after this step; Ctrl-C again stops at once.", markup=False)

    def _draw(self, bars: Progress, step: Step, left: str) -> None:
        if step.stage not in self._tasks:
            self._tasks[step.stage] = bars.add_task(_title(step), total=1.0, who="", left="")
        for stage, task in self._tasks.items():
            if stage != step.stage:
                bars.update(task, left="")
        bars.update(self._tasks[step.stage], completed=step.fraction, who=_who(step), left=left)

    def _print(self, step: Step, left: str) -> None:
        now = time.monotonic()
        shown, person = self._last_line.get(step.stage, (-LINE_EVERY, None))
        finished = step.fraction >= 1.0
        if not finished and step.person == person and now - shown < LINE_EVERY:
            return
        self._last_line[step.stage] = (now, step.person)
        line = f"{_title(step)}: {step.fraction:4.0%} {_who(step)}".rstrip()
        line = f"{line}, {left}" if left else line
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
