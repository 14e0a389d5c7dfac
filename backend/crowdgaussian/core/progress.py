# SPDX-License-Identifier: Apache-2.0
"""What work tells the user: where it is, and what its settings mean; how it is told to stop."""

import atexit
import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, TypeVar

_Item = TypeVar("_Item")


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

    def __call__(self, progress: Progress, /) -> None: ...


def silent(progress: Progress) -> None:
    """A report that goes nowhere."""


def within(report: Report, low: float, high: float) -> Report:
    """A report of a part of a stage, told from 0 to 1, as low to high of the whole stage."""

    def told(progress: Progress) -> None:
        share = min(max(progress.fraction, 0.0), 1.0)
        report(replace(progress, fraction=low + (high - low) * share))

    return told


def each(items: Sequence[_Item], report: Report, step: Progress) -> Iterator[_Item]:
    """The items one by one, with a report before each: step, its fraction from 0 towards 1."""
    for number, item in enumerate(items):
        report(replace(step, fraction=number / len(items)))
        yield item


def avatars_among(report: Report, people: Sequence[int], total: int) -> Report:
    """A report of single people's progress as that of the whole avatars stage.

    Args:
        report: told of the stage.
        people: whom the stage is for, in order; each step names one of them.
        total: how many people the photo shows.
    """

    def told(progress: Progress) -> None:
        step = progress
        own = min(max(step.fraction, 0.0), 1.0)
        fraction = (people.index(step.person or 0) + own) / len(people)
        report(Progress("avatars", fraction, step.person, total, step.message))

    return told


def freeing(report: Report) -> Report:
    """A report before which, at every new step, memory that is no longer used is given back.

    glibc keeps freed pages otherwise: a photo of six people took 1.37 GB instead of 1.11, and with
    the refiner 1.54 instead of 1.31.
    """
    before: tuple[str, int | None, str] | None = None
    trim = _malloc_trim()

    def told(progress: Progress) -> None:
        nonlocal before
        step = (progress.stage, progress.person, progress.message)
        if step != before:
            before = step
            trim(0)
        report(progress)

    return told


def _malloc_trim() -> Callable[[int], int]:
    """glibc's function of that name; does nothing with other C libraries."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    return getattr(library, "malloc_trim", lambda _: 0)


# Options of the command line whose defaults are fields of a dataclass

_Value = TypeVar("_Value")


def setting(default: _Value, text: str) -> _Value:
    """A field of a dataclass with its default and what the command line says of it."""
    return field(default=default, metadata={"help": text})


# What has to be set before torch, numba and MediaPipe are imported


def available_cores() -> int:
    """Cores this process may use, which a container or taskset can make fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def gpu_indices() -> list[str]:
    """The GPUs that workers may use, one each; empty without any. Does not import torch."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [index for index in chosen.split(",") if index.strip()]
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    query = [tool, "--query-gpu=index", "--format=csv,noheader"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return told.stdout.split()


def prepare_process() -> None:
    """Thread numbers, no spinning idle threads, quiet native libraries; the user's choice stands.

    Spinning OpenMP threads of one library starve the others: measured 100 times slower.
    """
    threads = str(available_cores())
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(name, threads)
    os.environ.setdefault("GLOG_minloglevel", "3")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    _place_for_kernels()


def _place_for_kernels() -> None:
    """Where neither the install nor the home can be written, kernels are compiled for this run.

    numba ends the process there otherwise. The folder is this process's own, as what lies in a
    cache is run.
    """
    beside = Path(__file__).parents[1] / "splat" / "kernels"
    home = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    if "NUMBA_CACHE_DIR" in os.environ or _writable(beside) or _writable(home):
        return
    folder = tempfile.mkdtemp(prefix="crowdgaussian-kernels-")
    os.environ["NUMBA_CACHE_DIR"] = folder
    atexit.register(shutil.rmtree, folder, ignore_errors=True)


def _writable(folder: Path) -> bool:
    """Whether a file can be made in a folder, or in the one in which it would be made."""
    there = next(place for place in (folder, *folder.parents) if place.is_dir())
    return os.access(there, os.W_OK)


@contextmanager
def quiet_native_stderr() -> Iterator[None]:
    """Silences what C++ libraries write to standard error on their own, and nothing after it.

    MediaPipe prints notices there that no setting turns off.
    """
    sys.stderr.flush()
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(saved, 2)
        os.close(saved)
