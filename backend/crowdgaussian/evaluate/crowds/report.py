# SPDX-License-Identifier: Apache-2.0
"""Tables and a CSV file of how crowds were refined."""

import csv
import io
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from crowdgaussian_shared.formats.atomic import write_bytes

# CPU seconds and memory of each step of some work

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


COLUMNS = {
    "psnr": "PSNR dB ↑",
    "masked_psnr": "masked PSNR dB ↑",
    "inside_psnr": "inside PSNR dB ↑",
    "ssim": "SSIM ↑",
    "masked_ssim": "masked SSIM ↑",
    "lpips": "LPIPS ↓",
    "masked_lpips": "masked LPIPS ↓",
    "photo": "photo's view: masked PSNR dB ↑",
}
COARSE = "coarse"
_IDENTITY = ("masked", "inside")
_IDENTITY_HEAD = ("refiner", "PSNR", "before, dB", "after, dB", "mean loss, dB", "worst loss, dB")
_COSTS = ("cpu_seconds", "peak_bytes", "more_bytes", "error")  # last columns of the table
ALLOWED = 0.2  # dB that a clean crowd may lose
_MIB = 2**20


@dataclass(frozen=True)
class SceneRow:
    """One crowd shown in one way."""

    crowd: int
    method: str
    values: dict[str, float]  # of COLUMNS


@dataclass(frozen=True)
class ClusterRow:
    """One cluster's refinement."""

    method: str
    crowd: int
    people: tuple[int, ...]
    cost: Cost
    error: str = ""


@dataclass(frozen=True)
class IdentityRow:
    """One clean person's refinement: PSNR against the truth, dB, masked and inside."""

    method: str
    crowd: int
    person: int
    before: tuple[float, float]
    after: tuple[float, float]

    @property
    def loss(self) -> tuple[float, float]:
        """Decibels; negative where refinement made the person better."""
        return self.before[0] - self.after[0], self.before[1] - self.after[1]


@dataclass
class CrowdReport:
    """Everything that was measured."""

    facts: list[str]
    lpips_missing: str  # why there is no LPIPS; empty where there is
    rows: list[SceneRow] = field(default_factory=list)
    clusters: list[ClusterRow] = field(default_factory=list)
    identity: list[IdentityRow] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        """Means, then every crowd, clean people, cost, and what failed."""
        lines = ["# Evaluation of refined crowds", "", *(f"- {fact}" for fact in self.facts)]
        if self.lpips_missing:
            lines.append(f"- LPIPS is {self.lpips_missing}")
        lines += ["", "## Mean over the crowds", "", *self._means()]
        lines += [
            "",
            "## Every crowd",
            "",
            *_table(
                ["crowd", "views", *COLUMNS.values()],
                [[row.crowd, row.method, *_cells(row.values)] for row in self.rows],
            ),
        ]
        if self.identity:
            lines += ["", "## Clean people", "", *self._identity()]
        if self.clusters:
            lines += ["", "## Cost of a cluster", "", *self._cost()]
        failed = [
            f"crowd {row.crowd}, {row.method}, people {_list(row.people)}: {row.error}"
            for row in self.clusters
            if row.error
        ] + self.errors
        lines += ["", "## What failed", "", *(f"- {text}" for text in failed or ["nothing"])]
        return "\n".join(lines) + "\n"

    def csv(self) -> str:
        """One line a crowd and method, a clean person, and a cluster."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        clean = [f"clean_{kind}_{part}" for part in ("before", "after") for kind in _IDENTITY]
        writer.writerow(["kind", "crowd", "method", "people", *COLUMNS, *clean, *_COSTS])
        none = [""] * len(COLUMNS)
        for row in self.rows:
            values = (_number(row.values.get(name, math.nan)) for name in COLUMNS)
            writer.writerow(["crowd", row.crowd, row.method, "", *values, *[""] * 8])
        for one in self.identity:
            numbers = map(_number, (*one.before, *one.after))
            writer.writerow(
                ["clean", one.crowd, one.method, one.person, *none, *numbers, *[""] * 4]
            )
        for cluster in self.clusters:
            cost = cluster.cost
            numbers = map(_number, (cost.cpu, cost.peak, cost.more))
            head = ["cluster", cluster.crowd, cluster.method, _list(cluster.people)]
            writer.writerow([*head, *none, *[""] * 4, *numbers, cluster.error])
        return text.getvalue()

    def write(self, folder: Path) -> None:
        """report.md and results.csv; each whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(folder / "report.md", self.markdown().encode())
        write_bytes(folder / "results.csv", self.csv().encode())

    def mean(self, method: str, name: str) -> float:
        """Of one of COLUMNS over the crowds."""
        values = [row.values.get(name, math.nan) for row in self.rows if row.method == method]
        values = [value for value in values if math.isfinite(value)]
        return float(np.mean(values)) if values else math.nan

    def _means(self) -> list[str]:
        rows = []
        for method in dict.fromkeys(row.method for row in self.rows):
            values = {name: self.mean(method, name) for name in COLUMNS}
            rows.append([method, *_cells(values), self._better(method)])
        return _table(["views", *COLUMNS.values(), "better than coarse (masked PSNR)"], rows)

    def _better(self, method: str) -> str:
        if method == COARSE:
            return "-"
        of = {
            kind: {row.crowd: row.values["masked_psnr"] for row in self.rows if row.method == kind}
            for kind in (COARSE, method)
        }
        gains = [value - of[COARSE][crowd] for crowd, value in of[method].items()]
        return f"{sum(gain > 0 for gain in gains)} of {len(gains)}, {np.mean(gains):+.3f} dB"

    def _identity(self) -> list[str]:
        rows = []
        for method in dict.fromkeys(row.method for row in self.identity):
            for kind, name in enumerate(_IDENTITY):
                some = [row for row in self.identity if row.method == method]
                before, after, loss = (
                    np.array([getattr(row, part)[kind] for row in some])
                    for part in ("before", "after", "loss")
                )
                worst, over = some[int(loss.argmax())], int((loss > ALLOWED).sum())
                rows.append(
                    [
                        method,
                        name,
                        f"{before.mean():.2f}",
                        f"{after.mean():.2f}",
                        f"{loss.mean():+.3f}",
                        f"{loss.max():+.3f} (crowd {worst.crowd}, person {worst.person})",
                        f"{over} of {len(some)}",
                    ]
                )
        losers = f"people who lose over {ALLOWED} dB"
        lines = _table([*_IDENTITY_HEAD, losers], rows)
        head = [f"{name}, {part}" for name in _IDENTITY for part in ("before", "after", "loss")]
        return [
            *lines,
            "",
            *_table(
                ["refiner", "crowd", "person", *head],
                [[row.method, row.crowd, row.person, *_person(row)] for row in self.identity],
            ),
        ]

    def _cost(self) -> list[str]:
        return _table(
            ["refiner", "crowd", "people", "CPU s", "CPU s a person", "peak MiB", "more MiB"],
            [
                [
                    row.method,
                    row.crowd,
                    _list(row.people),
                    f"{row.cost.cpu:.1f}",
                    f"{row.cost.cpu / len(row.people):.1f}",
                    _mib(row.cost.peak),
                    _mib(row.cost.more),
                ]
                for row in self.clusters
            ],
        )


def _person(row: IdentityRow) -> list[str]:
    """Before, after and loss of both kinds, as a table's cells."""
    return [
        text
        for before, after, loss in zip(row.before, row.after, row.loss)
        for text in (f"{before:.2f}", f"{after:.2f}", f"{loss:+.3f}")
    ]


def cell(name: str, value: float) -> str:
    """A number of a table as text; `name` says what it is."""
    if not math.isfinite(value):
        return "not available" if "lpips" in name else "-"
    return f"{value:.{3 if 'psnr' in name or name == 'photo' else 4}f}"


def _cells(values: dict[str, float]) -> list[str]:
    return [cell(name, values.get(name, math.nan)) for name in COLUMNS]


def _table(head: list[str], rows: Iterable[Sequence[object]]) -> list[str]:
    lines: list[Sequence[object]] = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(map(str, line)) + " |" for line in lines]


def _list(people: tuple[int, ...]) -> str:
    return " ".join(map(str, people))


def _number(value: float) -> str:
    return f"{value:.6g}" if math.isfinite(value) else ""


def _mib(size: float) -> str:
    return f"{size / _MIB:.0f}" if math.isfinite(size) else "-"
