# SPDX-License-Identifier: Apache-2.0
"""What a batch has to do: its photos, their folders, what has become of them, and the queue.

The scene folders are the checkpoint. The manifest beside them, OUT/batch.jsonl, says what was ended
with which settings, so that ten thousand finished photos are passed over without opening one.
"""

import csv
import glob
import io
import itertools
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Protocol

from crowdgaussian_shared.errors import Cancelled, InputError, ResourceError
from crowdgaussian_shared.formats.atomic import write_bytes, write_error
from crowdgaussian_shared.scene.folder import SCENE_FILE

# Photos and their folders

# What counts as a photo in a folder; HEIC is refused later, with a sentence on what to do.
SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .mpo .png .tif .tiff .webp .avif .bmp .gif .ppm .heic .heif".split()
)


@dataclass(frozen=True)
class PhotoTask:
    """One photo of a batch."""

    photo: str  # absolute path
    folder: str  # of its scene under OUT, with forward slashes
    stamp: str = ""  # size and time of the file; empty: there is none


def find_photos(places: Sequence[str], out: Path) -> dict[str, str]:
    """Every photo once, in order, with the folder that it would like to have.

    Args:
        places: files, folders (searched to the bottom, links followed) and patterns such as
            "shoot/**/*.jpg".
        out: the batch's folder; what lies in it is a result and no photo.

    Raises:
        InputError: no photo is there.
    """
    found: dict[str, str] = {}
    seen: set[str] = set()
    for place in places:
        for path, name in _expanded(place, out):
            real = os.path.realpath(path)
            if real not in seen:
                seen.add(real)
                found[os.path.abspath(path)] = name
    if not found:
        raise InputError(
            f"There is no photo in {', '.join(places)}; give photos, folders of photos or patterns."
        )
    return found


def _expanded(place: str, out: Path) -> Iterator[tuple[str, str]]:
    if os.path.isdir(place):
        yield from _in_folder(place, out)
    elif os.path.exists(place) or not glob.has_magic(place):
        yield place, _name(os.path.basename(place))
    else:
        for match in sorted(glob.glob(place, recursive=True)):
            if os.path.isdir(match):
                yield from _in_folder(match, out)
            else:
                yield match, _name(os.path.basename(match))


def _in_folder(top: str, out: Path) -> Iterator[tuple[str, str]]:
    """The photos below a folder; each folder is looked into once, wherever links lead."""
    known = {os.path.realpath(out)}
    for folder, below, files in os.walk(top, followlinks=True):
        real = os.path.realpath(folder)
        if real in known or SCENE_FILE in files:
            below.clear()
            continue
        known.add(real)
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES:
                path = os.path.join(folder, name)
                yield path, _name(os.path.relpath(path, top))


def _name(path: str) -> str:
    parts = Path(os.path.splitext(path)[0]).parts
    return "/".join(part.lstrip(".") or "photo" for part in parts)


def plan(found: dict[str, str], known: Iterable["Entry"]) -> list[PhotoTask]:
    """Give each photo a folder: the one it had, or the first free name; none lies in another.

    Args:
        found: as find_photos returns.
        known: the manifest.
    """
    before = {entry.photo: entry for entry in known}
    owners = {entry.folder.casefold(): entry for entry in before.values()}
    names, parents = set(owners), set()
    for name in owners:
        parents.update(_parents(name))
    tasks = []
    for photo, wish in found.items():
        stamp, entry = _stamp(photo), before.get(photo)
        folder = entry.folder if entry else ""
        candidates = _candidates(wish, photo)
        while not folder:
            name = next(candidates)
            key = name.casefold()
            owner = owners.get(key)  # the same photo in another place keeps its folder
            moved = owner is not None and stamp and owner.stamp == stamp
            moved = moved and owner is not None and owner.photo not in found
            if moved or not (key in names or key in parents or names & _parents(key)):
                folder = name
                owners.pop(key, None)
        names.add(folder.casefold())
        parents |= _parents(folder.casefold())
        tasks.append(PhotoTask(photo, folder, stamp))
    return tasks


def _candidates(wish: str, photo: str) -> Iterator[str]:
    yield wish
    yield f"{wish}-{os.path.splitext(photo)[1][1:].lower() or 'photo'}"
    flat = wish.replace("/", "-")  # lies in no scene, whatever photos are called as folders are
    for number in itertools.count(1):
        yield flat if number == 1 else f"{flat}-{number}"


def _parents(name: str) -> set[str]:
    parts = name.split("/")
    return {"/".join(parts[:count]) for count in range(1, len(parts))}


def _stamp(photo: str) -> str:
    try:
        status = os.stat(photo)
    except OSError:
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"


def shard(tasks: Sequence[PhotoTask], number: int, count: int) -> list[PhotoTask]:
    """Part `number` of `count`, from 1; the same on every machine that sees the same photos."""
    return list(tasks[number - 1 :: count])


# The manifest


@dataclass(frozen=True)
class Outcome:
    """How one try at a photo ended."""

    # done, partly (some people failed) or failed; busy (another program is at work in the folder),
    # lost (the worker ended), cancelled, or unusable (no photo would fare better, the disk is full)
    state: str
    people: int = 0
    built: int = 0  # people who are done
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0
    sentence: str = ""
    host: str = ""
    worked: bool = True  # whether anything was left to do


@dataclass(frozen=True)
class Entry:
    """A photo that has ended, as a line of the manifest."""

    photo: str
    folder: str
    state: str  # done, partly or failed
    people: int
    built: int
    warnings: tuple[str, ...]
    seconds: float
    sentence: str
    attempts: int
    host: str
    ended: float  # seconds since 1970
    stamp: str
    settings: str  # hash of all settings

    def counts(self, out: Path, task: PhotoTask, settings: str, retry_failed: bool) -> bool:
        """Whether the photo need not be looked at again."""
        if (self.stamp, self.settings) != (task.stamp, settings):
            return False
        if self.state != "done" and retry_failed:
            return False
        return self.state == "failed" or (out / self.folder / SCENE_FILE).is_file()


_COLUMNS = ("photo", "folder", "state", "people", "built", "warnings", "seconds", "sentence")


class Manifest:
    """OUT/batch.jsonl, only ever added to, and OUT/batch.csv for tables.

    Args:
        out: the batch's folder.
        part: of a shard, such as "-2-of-8", so that no two machines append to one file.
    """

    def __init__(self, out: Path, part: str = "") -> None:
        self.path = out / f"batch{part}.jsonl"
        self.table = out / "batch.csv"

    def read(self) -> dict[str, Entry]:
        """The last word on each folder, of all shards; a line that was cut off is no word."""
        entries = []
        for path in sorted(self.path.parent.glob("batch*.jsonl")):
            try:
                lines = path.read_bytes().splitlines()
            except OSError as error:
                raise ResourceError(f"{path} cannot be read ({error.strerror}).") from error
            entries += [entry for entry in map(_entry, lines) if entry is not None]
        entries.sort(key=lambda entry: entry.ended)
        return {entry.folder: entry for entry in entries}

    def add(self, entry: Entry) -> None:
        """One line, whole even where two programs add at once."""
        line = json.dumps(asdict(entry)).encode() + b"\n"
        try:
            with self.path.open("ab+", buffering=0) as stream:
                if stream.tell():
                    stream.seek(-1, os.SEEK_END)
                    line = line if stream.read(1) == b"\n" else b"\n" + line
                stream.write(line)
        except OSError as error:
            raise write_error(self.path, error) from error

    def write_table(self) -> None:
        """The manifest as CSV, a row each photo."""
        text = io.StringIO()
        rows = csv.writer(text)
        rows.writerow(_COLUMNS)
        for entry in self.read().values():
            row = replace(entry, warnings=(str(len(entry.warnings)),), seconds=round(entry.seconds))
            values = [getattr(row, name) for name in _COLUMNS]
            rows.writerow([value[0] if isinstance(value, tuple) else value for value in values])
        write_bytes(self.table, text.getvalue().encode("utf-8", "surrogateescape"))


def _entry(line: bytes) -> Entry | None:
    try:
        values = json.loads(line)
        values = {one.name: values[one.name] for one in fields(Entry)}
        return Entry(**values | {"warnings": tuple(values["warnings"])})
    except (ValueError, TypeError, KeyError):
        return None


# The queue

TRIES = 2  # of a photo at which a worker ended: once may be another's fault, as on a full memory
BUSY_PAUSE = 3.0  # seconds before a folder in which another program is at work is tried again
CANCEL_SECONDS = 20.0  # for workers to obey; Slurm kills 30 s after it has asked


class Pool(Protocol):
    """Workers, wherever they are."""

    def free(self) -> int:
        """How many photos can be started now."""

    def start(self, task: PhotoTask) -> None:
        """Hands a photo to a free worker."""

    def ended(self, seconds: float) -> list[tuple[PhotoTask, Outcome]]:
        """What has ended; waits for something at most so long."""

    def cancel(self) -> None:
        """Asks everybody at work to stop at the next step."""


@dataclass
class Queue:
    """The photos of a batch on their way through the workers."""

    tasks: Sequence[PhotoTask]
    pool: Pool
    tell: Callable[[PhotoTask, Outcome, int], None]  # of each end, with the number of tries
    stopping: Callable[[], bool]
    _tries: dict[PhotoTask, int] = field(default_factory=dict, init=False)
    _later: deque[tuple[float, PhotoTask]] = field(default_factory=deque, init=False)

    def run(self) -> None:
        """Until every photo has ended.

        Raises:
            ResourceError: no photo would fare better, as without room on the disk.
            Cancelled: it was told to stop, and everybody has.
        """
        waiting, at_work = deque(self.tasks), 0
        while waiting or at_work or self._later:
            if self.stopping():
                self._stop(at_work)
            while self._later and self._later[0][0] <= time.monotonic():
                waiting.append(self._later.popleft()[1])
            while waiting and self.pool.free() > 0:
                self.pool.start(waiting.popleft())
                at_work += 1
            for task, outcome in self.pool.ended(0.2):
                at_work -= 1
                self._end(task, outcome)

    def _end(self, task: PhotoTask, outcome: Outcome) -> None:
        tries = self._tries[task] = self._tries.get(task, 0) + (outcome.state != "busy")
        if outcome.state == "unusable":
            raise ResourceError(outcome.sentence)
        if outcome.state == "busy":
            self._later.append((time.monotonic() + BUSY_PAUSE, task))
        elif outcome.state == "lost" and tries < TRIES:
            self._later.append((time.monotonic(), task))
        elif outcome.state == "lost":
            sentence = f"{outcome.sentence} It did so at each of {tries} tries."
            self.tell(task, replace(outcome, state="failed", sentence=sentence), tries)
        elif outcome.state != "cancelled":
            self.tell(task, outcome, tries)

    def _stop(self, at_work: int) -> None:
        """Lets those at work stop, and keeps what ends in time."""
        self.pool.cancel()
        until = time.monotonic() + CANCEL_SECONDS
        while at_work and time.monotonic() < until:
            for task, outcome in self.pool.ended(0.2):
                at_work -= 1
                if outcome.state in ("done", "partly", "failed"):
                    self._end(task, outcome)
        raise Cancelled
