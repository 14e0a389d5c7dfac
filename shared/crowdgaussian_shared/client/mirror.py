# SPDX-License-Identifier: Apache-2.0
"""A scene folder that follows the server's, file by file, and is valid at every moment.

scene.json takes its place only when every file it names is there.
"""

import shutil
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from ..errors import CrowdGaussianError, DiskFullError, RemoteError
from ..formats.atomic import remove_half_written, write_bytes
from ..protocol.messages import Artifact
from ..scene.folder import SCENE_FILE, SceneFolder
from ..scene.json import scene_from_json
from ..scene.schema import SceneInfo, hash_file, resolve_inside
from .ticket import WIRE_FOLDER
from .transfer import Damaged, Download

MAX_FILES = 20_000
MAX_FILE_BYTES = 4 << 30
MAX_SCENE_BYTES = 64 << 20
SPARE_BYTES = 64 << 20  # of the disk, left to others
TRIES = 3  # for a file that arrives damaged
PRIVATE = ("fit",)  # files that scene.json names and the server keeps to itself
Key = tuple[str, str]  # name and hash


class Mirror:
    """The files of one job.

    Attributes:
        folder: the scene folder.
        settled: the newest event up to which every announced file is here.
        renewals: how often scene.json has been renewed.
    """

    def __init__(self, folder: Path, settled: int = 0) -> None:
        self.folder = Path(folder)
        self._parts = self.folder / WIRE_FOLDER
        self._queue: dict[Key, Artifact] = {}  # announced and not here, in order
        self._active: dict[Key, Download] = {}
        self._events: deque[tuple[int, set[Key]]] = deque()
        self._held: tuple[Key, bytes, SceneInfo] | None = None  # a scene.json that has to wait
        self._damaged: dict[Key, int] = {}
        self._names: set[str] = set()
        self._holes: set[str] = set()  # files whose newest version has yet to be announced
        self.renewals = 0
        remove_half_written(self.folder)  # by a client that was killed
        self.settled = settled if self.whole() else 0

    @property
    def pending(self) -> int:
        """Files that were announced and are not here."""
        return len(self._queue)

    @property
    def pending_bytes(self) -> int:
        active = sum(download.received for download in self._active.values())
        return sum(artifact.size for artifact in self._queue.values()) - active

    def whole(self) -> bool:
        """Whether there is a scene.json, every file it names, and nothing newer is missing."""
        if self._queue or self._holes:
            return False
        try:
            info = SceneFolder.open(self.folder).info
        except CrowdGaussianError:
            return False
        return not self._missing(info)

    def announce(self, seq: int, artifacts: Iterable[Artifact]) -> None:
        """Takes note of an event's files; those that are here already are not fetched.

        Raises:
            RemoteError: too many or too large files, or a hash that is none.
            DamagedFileError: a name that leaves the folder.
            DiskFullError: not enough room on the disk.
        """
        keys = set()
        for artifact in artifacts:
            self._check(artifact)
            self._holes.discard(artifact.name)
            key = (artifact.name, artifact.blake2b)
            if key in self._queue:
                keys.add(key)
                continue
            self._supersede(artifact)
            target = self.folder / artifact.name
            if target.is_file() and target.stat().st_size == artifact.size:
                if hash_file(target) == artifact.blake2b:
                    continue
            self._queue[key] = artifact
            keys.add(key)
        if keys:
            self._check_room()
        self._events.append((seq, keys))
        self._settle()

    def next_request(self) -> tuple[Download, int] | None:
        """The next chunk to ask for: the files in the order in which they were announced."""
        for key in list(self._queue):
            if self._held is not None and key == self._held[0]:
                continue
            if key not in self._active and not self._start(key):
                continue
            download = self._active[key]
            offset = download.next_offset()
            if offset is not None:
                return download, offset
        return None

    def add_chunk(self, download: Download, offset: int, size: int, data: bytes) -> None:
        """Takes a chunk.

        Raises:
            ResourceError: the disk is full or the folder cannot be written.
            RemoteError: a file arrives damaged again and again.
        """
        key = (download.artifact.name, download.artifact.blake2b)
        if self._active.get(key) is not download:
            return
        try:
            download.add(offset, size, data)
            if download.whole:
                self._finish(key, download)
        except Damaged:
            self._retry(key, download)

    def gone(self, download: Download) -> None:
        """The server has no such version any more; a newer one was or will be announced."""
        key = (download.artifact.name, download.artifact.blake2b)
        if self._active.get(key) is download:
            self._forget(key)
            if not any(name == key[0] for name, _ in self._queue):
                self._holes.add(key[0])

    def rewind(self) -> None:
        """The data connection broke: what was asked for has to be asked for again."""
        for download in self._active.values():
            download.rewind()

    def close(self) -> None:
        """Lets go of every file; .part files stay for later."""
        for download in self._active.values():
            download.close()
        self._active.clear()

    def tidy(self) -> None:
        """Removes left-over .part files of a job that is all here."""
        for path in self._parts.glob("*.part"):
            path.unlink(missing_ok=True)

    def _check(self, artifact: Artifact) -> None:
        where = f"The server's file name {artifact.name[:80]!r}"
        resolve_inside(self.folder, artifact.name, where)
        if artifact.name.split("/")[0] == WIRE_FOLDER:
            raise RemoteError(f"{where} is one that this client keeps for itself.")
        if len(artifact.blake2b) != 64 or set(artifact.blake2b) - set("0123456789abcdef"):
            raise RemoteError(f"{where} comes without a proper hash; update the server.")
        limit = MAX_SCENE_BYTES if artifact.name == SCENE_FILE else MAX_FILE_BYTES
        self._names.add(artifact.name)
        if artifact.size > limit or len(self._names) > MAX_FILES:
            raise RemoteError(
                f"{where} was refused: a scene has at most {MAX_FILES} files, and this one may "
                f"have {limit} bytes."
            )

    def _check_room(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        if self.pending_bytes + SPARE_BYTES > free:
            raise DiskFullError(
                f"The disk of {self.folder} has {free >> 20} MiB left and the result needs "
                f"{(self.pending_bytes + SPARE_BYTES) >> 20} MiB; free some space and go on."
            )

    def _supersede(self, artifact: Artifact) -> None:
        """Older versions of a file are of no use, except a scene.json whose files are ahead of it.

        Such a one makes people appear while more files keep arriving.
        """
        older = [key for key in self._queue if key[0] == artifact.name]
        if artifact.name == SCENE_FILE:
            last = next(reversed(self._queue), None)
            older = [key for key in older if key == last and key not in self._active]
        for key in older:
            self._forget(key)

    def _start(self, key: Key) -> bool:
        """Opens a download -> whether there is anything to ask for."""
        download = self._active[key] = Download(self._queue[key], self._parts)
        if not download.whole:
            return True
        try:
            self._finish(key, download)
        except Damaged:
            self._retry(key, download)
        return False

    def _finish(self, key: Key, download: Download) -> None:
        """A download is whole."""
        if key[0] != SCENE_FILE:
            download.finish(resolve_inside(self.folder, key[0], "The server's file name"))
            self._landed(key)
        else:
            data = download.finish(None) or b""
            self._active.pop(key)
            self._held = (key, data, scene_from_json(data, f"{SCENE_FILE} of the server"))
        self._place_scene()

    def _place_scene(self) -> None:
        """Puts the waiting scene.json in its place as soon as all before it is there."""
        if self._held is None:
            return
        key, data, info = self._held
        for older in list(self._queue):
            if older == key:
                break
            if older[0] != SCENE_FILE:
                return
            self._forget(older)
        if not self._missing(info):
            write_bytes(self.folder / SCENE_FILE, data)
            self.renewals += 1
            self._landed(key)

    def _missing(self, info: SceneInfo) -> bool:
        names = [info.photo.file, *info.previews]
        for person in info.people:
            names += [name for kind, name in person.files.items() if kind not in PRIVATE]
        return not all((self.folder / name).is_file() for name in names)

    def _retry(self, key: Key, download: Download) -> None:
        download.drop()
        self._active.pop(key)
        self._damaged[key] = self._damaged.get(key, 0) + 1
        if self._damaged[key] >= TRIES:
            raise RemoteError(
                f"{key[0]} arrived damaged {TRIES} times; check the network and the server's disk."
            )

    def _forget(self, key: Key) -> None:
        download = self._active.get(key)
        if download is not None:
            download.drop()
        self._landed(key)

    def _landed(self, key: Key) -> None:
        self._active.pop(key, None)
        self._queue.pop(key, None)
        if self._held is not None and self._held[0] == key:
            self._held = None
        for _, keys in self._events:
            keys.discard(key)
        self._settle()

    def _settle(self) -> None:
        while self._events and not self._events[0][1]:
            self.settled = max(self.settled, self._events.popleft()[0])
