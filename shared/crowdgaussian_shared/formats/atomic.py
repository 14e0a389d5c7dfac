# SPDX-License-Identifier: Apache-2.0
"""Files that are either whole or not there, and folders that one program writes at a time.

A file is written beside its place, flushed to disk, then renamed. Whoever writes a folder keeps a
lease in it, a file made as only one program can make it, and touches it while at work. It needs no
locks of the file system, which a shared disk may lack.
"""

import json
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from ..errors import (
    BusyError,
    DamagedFileError,
    DiskFullError,
    MissingFileError,
    ResourceError,
    is_full,
)

_HALF_WRITTEN = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")  # by atomic_file


@contextmanager
def atomic_file(path: str | Path) -> Iterator[BinaryIO]:
    """Open a new file that takes the place of `path` only when the block ends well.

    Raises:
        ResourceError: the disk is full (DiskFullError) or the folder cannot be written; an older
            file at `path` is untouched.
    """
    path = Path(path)
    temp: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.parent / f".{path.name}.{secrets.token_hex(4)}.tmp"
        with beside.open("xb") as stream:
            temp = beside
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temp, path)
        temp = None
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        if temp is not None:
            temp.unlink(missing_ok=True)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a whole file atomically; errors as in atomic_file."""
    with atomic_file(path) as stream:
        stream.write(data)


def remove_half_written(folder: Path) -> None:
    """Removes what atomic_file left beside its files when it was killed; nobody may write there."""
    for path in folder.glob("**/.*.tmp"):
        if _HALF_WRITTEN.fullmatch(path.name):
            path.unlink(missing_ok=True)


def read_bytes(path: str | Path, limit: int) -> bytes:
    """Read a whole file of at most `limit` bytes.

    Raises:
        MissingFileError: there is no such file.
        ResourceError: it cannot be read.
        DamagedFileError: it is larger than the limit.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            data = stream.read(limit + 1)
    except OSError as error:
        raise read_error(path, error) from error
    if len(data) > limit:
        raise DamagedFileError(f"{path} is larger than {limit} bytes, which no such file can be.")
    return data


def read_error(path: Path, error: OSError) -> MissingFileError | ResourceError:
    """Why a file could not be read, to raise from the system's error."""
    if isinstance(error, FileNotFoundError):
        return MissingFileError(
            f"{path} does not exist; check the path or reconstruct the photo again."
        )
    return ResourceError(
        f"{path} cannot be read ({error.strerror or error}); check the file and its permissions."
    )


def write_error(path: Path, error: OSError) -> ResourceError:
    """Why a file could not be written, to raise from the system's error."""
    if is_full(error):
        return DiskFullError(
            f"The disk is full: {path} was not written; free some space and run again."
        )
    return ResourceError(
        f"{path} cannot be written ({error.strerror or error}); choose another folder."
    )


# One writer a folder

LEASE_FILE = ".writer.json"
BEAT_SECONDS = 10.0  # between two touches of a lease
# Without a touch for so long the lease of another computer is free: eight touches that did not come
# through are no slow disk. A program of this computer is asked for by its number instead.
STALE_SECONDS = 90.0
_TRIES = 5  # to make a lease while others come and go
_LEASE_LIMIT = 4096  # bytes


@dataclass(frozen=True)
class _Writer:
    """Who holds a lease."""

    token: str
    host: str = "another computer"
    machine: str = ""  # this boot and container, where process numbers mean the same; "": unknown
    pid: int = 0
    started: str = ""  # when the process began, as the system counts

    def is_dead(self) -> bool:
        """Whether it is a process of this machine that has ended."""
        if not self.machine or self.machine != _machine():
            return False
        return _started(self.pid) != self.started


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process began; empty for one that has ended, waited for or not."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


@contextmanager
def only_writer(folder: Path) -> Iterator[Callable[[], None]]:
    """Hold a folder, made when it is missing; taken away again when nothing came into it.

    The lease of a program that has ended is taken over.

    Yields:
        A check to call now and then while writing; raises ResourceError once another program has
        taken over, as after a long sleep of this one.

    Raises:
        BusyError: another program is writing there.
        ResourceError: the folder cannot be written.
    """
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    lease = _Lease(folder / LEASE_FILE)
    try:
        lease.take()
        yield lease.check
    finally:
        lease.give_back()
        with suppress(OSError):
            for place in made:
                place.rmdir()  # only what is empty


class _Lease:
    """The file that says who writes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        pid = os.getpid()
        self._mine = _Writer(
            secrets.token_hex(8), socket.gethostname(), _machine(), pid, _started(pid)
        )
        self._ended = threading.Event()
        self._lost = False
        self._touched = 0.0  # time.monotonic

    def take(self) -> None:
        """Makes the file, and keeps touching it."""
        for _ in range(_TRIES):
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                if self._made():
                    break
            except FileNotFoundError:
                continue  # another program took its empty folder away
            except OSError as error:
                raise write_error(self._path, error) from error
        else:
            raise BusyError(f"Several programs begin in {self._path.parent}; try again.")
        self._touched = time.monotonic()
        threading.Thread(target=self._keep, daemon=True).start()

    def _made(self) -> bool:
        """One try; a lease that counts no more is removed for the next."""
        beside = self._beside(self._mine.token)
        with beside.open("xb") as stream:
            try:
                stream.write(json.dumps(asdict(self._mine)).encode())
                stream.flush()
                now = os.fstat(stream.fileno()).st_mtime  # by the clock of the disk
                with suppress(FileExistsError):
                    _make(self._path, beside)
            finally:
                beside.unlink()
        found = self._read()
        if found is None:
            return False
        writer, touched = found
        if writer.token == self._mine.token:
            return True
        silent = now - touched
        if not writer.is_dead() and (writer.machine == _machine() or silent < STALE_SECONDS):
            raise BusyError(
                f"{self._path.parent} is being written by process {writer.pid} on {writer.host} "
                f"(last seen {max(silent, 0):.0f} s ago); wait for its end, or stop it."
            )
        self._remove(writer, now)
        return False

    def _remove(self, writer: _Writer, now: float) -> None:
        """Removes the lease of a writer who is gone; of several who try only one does."""
        mark = self._beside(f"{writer.token}-over")
        try:
            mark.open("xb").close()
        except FileExistsError:
            with suppress(OSError):
                if now - mark.stat().st_mtime > STALE_SECONDS:  # who wanted to has ended
                    mark.unlink()
            return
        with suppress(FileNotFoundError):
            found = self._read()
            if found is not None and found[0] == writer:
                self._path.unlink()
        mark.unlink(missing_ok=True)

    def _beside(self, name: str) -> Path:
        return self._path.with_name(f".writer.{name}.tmp")

    def _read(self) -> tuple[_Writer, float] | None:
        """Who holds it, and when it was touched; opened, as a shared disk keeps old stats."""
        try:
            with self._path.open("rb") as stream:
                touched = os.fstat(stream.fileno()).st_mtime
                text = stream.read(_LEASE_LIMIT)
        except FileNotFoundError:
            return None
        try:
            return _Writer(**json.loads(text)), touched
        except (ValueError, TypeError):
            return _Writer("damaged"), touched

    def _keep(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            self._touch()

    def _touch(self) -> None:
        """Says that this program is alive; a disk that does not answer now may do so later."""
        with suppress(OSError):
            found = self._read()
            if found is None or found[0].token != self._mine.token:
                self._lost = True
                return
            os.utime(self._path)
            self._touched = time.monotonic()

    def check(self) -> None:
        """Raises ResourceError once another program has taken over."""
        if time.monotonic() - self._touched > STALE_SECONDS / 2:
            self._touch()
        if self._lost:
            raise ResourceError(
                f"{self._path.parent} was taken over by another program, or removed, while this "
                "one was at work; look there, or run again."
            )

    def give_back(self) -> None:
        """Removes the file, where it is still this program's."""
        self._ended.set()
        with suppress(OSError):
            found = self._read()
            if found is not None and found[0].token == self._mine.token:
                self._path.unlink()


def _make(path: Path, beside: Path) -> None:
    """A file with the content of another at once, or FileExistsError."""
    try:
        os.link(beside, path)
    except FileExistsError:
        raise
    except OSError:  # no links here
        content = beside.read_bytes()
        with path.open("xb") as stream:
            stream.write(content)
