# SPDX-License-Identifier: Apache-2.0
"""Results on disk: the scene folder the pipeline works in, and what has been announced of it.

    results/KEY/scene/         the pipeline's own folder; another run with this key goes on there
    results/KEY/objects/HASH   every announced file under its hash (a hard link), never changed

A file of the scene is replaced by renaming, so a link keeps the bytes it was made from.
"""

import contextlib
import mmap
import os
import secrets
import shutil
import sys
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from crowdgaussian_shared.errors import RemoteError, ResourceError, disk_error
from crowdgaussian_shared.formats.atomic import read_bytes, write_bytes
from crowdgaussian_shared.protocol.messages import Artifact, Fetch, Limits, Upload
from crowdgaussian_shared.scene.folder import SCENE_FILE
from crowdgaussian_shared.scene.json import scene_from_json, scene_to_json
from crowdgaussian_shared.scene.schema import hash_bytes, hash_file

from .store import JobRow, Store
from .submit import photo_size

_SCENE_LIMIT = 64 << 20  # bytes
FOLDER_MODE = 0o700


@dataclass(frozen=True)
class Results:
    """The results folder of a service."""

    root: Path
    trash: Path  # emptied in the background, since removing gigabytes takes time

    def scene(self, key: str) -> Path:
        """Where the pipeline writes."""
        return self.root / key / "scene"

    def objects(self, key: str) -> Path:
        return self.root / key / "objects"

    def open_folders(self, key: str) -> None:
        """Makes the folders of a result; a scene that was never whole makes room for a new one."""
        scene = self.scene(key)
        if scene.exists() and not (scene / SCENE_FILE).is_file():
            self.discard(scene)
        self.objects(key).mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)

    def path(self, key: str, artifact: Artifact) -> Path:
        """The file that holds an announced artefact; the name plays no part in it."""
        return self.objects(key) / artifact.blake2b

    def keep_objects(self, key: str, hashes: set[str]) -> None:
        """Removes versions that nobody needs, also those that were never announced."""
        if self.objects(key).is_dir():
            for path in self.objects(key).iterdir():
                if path.name not in hashes:
                    path.unlink(missing_ok=True)

    def discard(self, path: Path) -> None:
        """Moves a file or folder out of sight; the sweeper removes it."""
        with contextlib.suppress(FileNotFoundError):
            os.replace(path, self.trash / secrets.token_hex(8))

    def discard_result(self, key: str) -> None:
        self.discard(self.root / key)

    def sweep(self) -> None:
        """Empties the trash."""
        for path in self.trash.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def size(self, key: str) -> int:
        """Bytes on disk; a file and its links count once."""
        files = (p.stat() for p in (self.root / key).rglob("*") if p.is_file())
        return sum({info.st_ino: info.st_size for info in files}.values())

    def renamed(
        self, key: str, artifacts: tuple[Artifact, ...], photo_name: str
    ) -> tuple[Artifact, ...]:
        """The artefacts of a finished result for a photo of the same bytes with another name.

        Raises:
            CrowdGaussianError: a file of the result is missing or damaged.
        """
        old = next(a for a in artifacts if a.name == SCENE_FILE)
        info = scene_from_json(read_bytes(self.path(key, old), _SCENE_LIMIT))
        if info.photo.name == photo_name:
            return artifacts
        data = scene_to_json(replace(info, photo=replace(info.photo, name=photo_name)))
        new = Artifact(SCENE_FILE, len(data), hash_bytes(data))
        write_bytes(self.path(key, new), data)
        return tuple(new if a is old else a for a in artifacts)


# The service's data folder; nobody but its user can look inside


@dataclass(frozen=True)
class Folders:
    """Where everything lies."""

    data: Path

    @property
    def database(self) -> Path:
        return self.data / "jobs.sqlite"

    @property
    def results(self) -> Results:
        return Results(self.data / "results", self.data / "trash")

    @property
    def uploads(self) -> Path:
        return self.data / "uploads"

    def upload(self, job: str) -> Path:
        """The photo of a job, whole or in part."""
        return self.uploads / job

    def received(self, job: str) -> int:
        """Bytes of the photo that are here."""
        try:
            return self.upload(job).stat().st_size
        except FileNotFoundError:
            return 0

    def make(self) -> None:
        """Makes the folders.

        Raises:
            ResourceError: they cannot be made.
        """
        try:
            self.data.mkdir(parents=True, exist_ok=True)
            self.data.chmod(FOLDER_MODE)
            for name in ("uploads", "results", "trash"):
                (self.data / name).mkdir(mode=FOLDER_MODE, exist_ok=True)
        except OSError as error:
            raise disk_error(
                error, f"{self.data} cannot be used ({error.strerror}); choose another with --data."
            ) from error

    def lock(self) -> BinaryIO:
        """Holds the folder for this process until the returned file is closed.

        Raises:
            ResourceError: another service runs on it.
        """
        stream = (self.data / "lock").open("ab")
        try:
            _lock(stream)
        except OSError as error:
            stream.close()
            raise ResourceError(
                f"Another `crowdgaussian serve` runs on {self.data}; stop it, or choose another "
                "folder with --data."
            ) from error
        return stream


def default_data() -> Path:
    """Where a service keeps its data unless it is told otherwise."""
    if os.name == "nt":
        base = os.environ.get("LOCALAPPDATA", "") or Path.home() / "AppData/Local"
    else:
        base = os.environ.get("XDG_DATA_HOME", "") or Path.home() / ".local/share"
    return Path(base) / "crowdgaussian"


def _lock(stream: BinaryIO) -> None:
    if sys.platform == "win32":
        import msvcrt

        stream.seek(0)
        msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


# The artefacts that are being fetched just now, mapped into memory and sent from there

BELIEVED = 1.0  # seconds
OPEN = 64  # files


@dataclass
class OpenFile:
    """One announced file."""

    owner: str  # of the job
    size: int
    data: mmap.mmap | bytes
    checked: float  # when the store was asked

    def chunk(self, offset: int, length: int) -> memoryview:
        """A piece of it; shorter at its end.  # [<= length] bytes"""
        return memoryview(self.data)[offset : offset + length]


class OpenFiles:
    """The files of one data thread; the longest unused is closed first."""

    def __init__(self, store: Store, results: Results) -> None:
        self._store = store
        self._results = results
        self._files: OrderedDict[tuple[str, str, str], OpenFile] = OrderedDict()

    def find(self, fetch: Fetch) -> OpenFile | None:
        """The file a FETCH asks for; None when the job has announced no such file.

        Raises:
            OSError: it is gone.
        """
        name = fetch.job, fetch.artifact, fetch.blake2b
        found = self._files.get(name)
        if found is None or time.monotonic() - found.checked > BELIEVED:
            found = self._open(fetch)
            self._files.pop(name, None)
            if found is None:
                return None
            self._files[name] = found
        self._files.move_to_end(name)
        while len(self._files) > OPEN:
            self._files.popitem(last=False)
        return found

    def forget_old(self) -> None:
        """Closes what nobody has asked for lately."""
        oldest = time.monotonic() - BELIEVED
        for name in [n for n, file in self._files.items() if file.checked < oldest]:
            del self._files[name]

    def _open(self, fetch: Fetch) -> OpenFile | None:
        row = self._store.get(fetch.job)
        if row is None:
            return None
        artifact = self._store.artifact(fetch.job, fetch.artifact, fetch.blake2b)
        if artifact is None:
            return None
        with self._results.path(row.key, artifact).open("rb") as stream:
            data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) if artifact.size else b""
        return OpenFile(row.owner, len(data), data, time.monotonic())


# Photos on their way in: appended piece by piece, checked when whole

PHOTO_MODE = 0o600


class PhotoRefusedError(RemoteError):
    """The photo is whole and cannot be used; sending it again would not help."""


@dataclass(frozen=True)
class Uploads:
    """Receives the photos of a service."""

    folders: Folders
    limits: Limits

    def add(self, row: JobRow, piece: Upload, data: bytes) -> int:
        """Appends a piece -> bytes that are here now.

        A piece that does not start where the photo ends so far is left out; the number returned
        says where to go on.

        Raises:
            RemoteError: the piece is too large.
        """
        received = self.folders.received(row.job)
        if len(data) > self.limits.chunk_bytes or piece.offset + len(data) > row.photo_bytes:
            raise RemoteError(
                f"A piece of a photo is at most {self.limits.chunk_bytes} bytes and inside the "
                "announced size; send the photo again."
            )
        if piece.offset != received or not data:
            return received
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
        with open(os.open(self.folders.upload(row.job), flags, PHOTO_MODE), "ab") as stream:
            stream.write(data)
        return received + len(data)

    def check(self, row: JobRow) -> None:
        """Whether the whole photo is the announced one and of a size that may be decoded.

        Raises:
            PhotoRefusedError: it has too many pixels.
            RemoteError: it is not what was announced; it has been removed.
        """
        path = self.folders.upload(row.job)
        if hash_file(path) != row.photo_blake2b:
            path.unlink(missing_ok=True)
            raise RemoteError("The photo did not arrive as announced; send it again.")
        size = photo_size(path)
        if size is not None and size[0] * size[1] > self.limits.photo_pixels:
            raise PhotoRefusedError(
                f"The photo is {size[0]} x {size[1]} pixels, more than "
                f"{self.limits.photo_pixels // 1_000_000} million in all; make it smaller."
            )
