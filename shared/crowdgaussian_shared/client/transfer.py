# SPDX-License-Identifier: Apache-2.0
"""One file on its way: chunks go into a .part file, which is checked and then renamed."""

import hashlib
import os
from pathlib import Path

from ..errors import InputError
from ..formats.atomic import read_bytes, read_error, write_error
from ..protocol.messages import CHUNK_BYTES, Artifact
from ..scene.schema import hash_bytes
from .ticket import Ticket


class Damaged(Exception):
    """What arrived is not the file that was announced."""


class Download:
    """A file that a server announced.

    The .part file is named after the content and goes on from its size, in this process or in a
    later one. Chunks may arrive in any order.

    Args:
        artifact: what was announced.
        parts: folder for .part files, on the same file system as the target.

    Raises:
        CrowdGaussianError: the .part file cannot be read or written.
    """

    def __init__(self, artifact: Artifact, parts: Path) -> None:
        self.artifact = artifact
        name = f"{artifact.blake2b}-{hash_bytes(artifact.name.encode())[:8]}.part"
        self.path = parts / name
        self.resumed = 0  # bytes that were there already
        self._digest = hashlib.blake2b(digest_size=32)
        self._early: dict[int, bytes] = {}  # chunks that came before their turn
        self._open()
        self.received = self.resumed
        self.requested = self.resumed

    @property
    def whole(self) -> bool:
        return self.received == self.artifact.size

    def next_offset(self) -> int | None:
        """Where the next chunk to ask for starts; None when all is asked for."""
        if self.requested >= self.artifact.size:
            return None
        offset = self.requested
        self.requested = min(self.artifact.size, offset + CHUNK_BYTES)
        return offset

    def rewind(self) -> None:
        """Answers to what was asked for will not come any more."""
        self._early.clear()
        self.requested = self.received

    def add(self, offset: int, size: int, data: bytes) -> None:
        """Takes a chunk.

        Args:
            offset: where it starts.
            size: of the whole file, as the server says.
            data: the bytes.

        Raises:
            Damaged: it does not fit the file that was announced.
            ResourceError: the disk is full or the folder cannot be written.
        """
        wanted = min(CHUNK_BYTES, self.artifact.size - offset)
        if size != self.artifact.size or len(data) != wanted or offset >= self.requested:
            raise Damaged
        if offset < self.received:
            return
        self._early[offset] = data
        try:
            while self.received in self._early:
                piece = self._early.pop(self.received)
                self._stream.write(piece)
                self._digest.update(piece)
                self.received += len(piece)
        except OSError as error:
            raise write_error(self.path, error) from error

    def finish(self, target: Path | None) -> bytes | None:
        """Checks the hash and puts the file in its place.

        Args:
            target: the place; None returns the content instead and removes the .part file.

        Raises:
            Damaged: the hash is wrong; the .part file is removed.
            ResourceError: the folder cannot be written.
        """
        if self._digest.hexdigest() != self.artifact.blake2b:
            self.drop()
            raise Damaged
        try:
            os.fsync(self._stream.fileno())
            self._stream.close()
            if target is None:
                data = self.path.read_bytes()
                self.path.unlink()
                return data
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(self.path, target)
        except OSError as error:
            raise write_error(target or self.path, error) from error
        return None

    def close(self) -> None:
        """Lets go of the .part file, which stays for later."""
        self._stream.close()

    def drop(self) -> None:
        """Removes the .part file."""
        self._stream.close()
        self.path.unlink(missing_ok=True)

    def _open(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = self.path.open("a+b", buffering=0)
            self._stream.seek(0)
            while piece := self._stream.read(CHUNK_BYTES):
                self._digest.update(piece)
                self.resumed += len(piece)
        except OSError as error:
            raise read_error(self.path, error) from error
        if self.resumed > self.artifact.size:
            self._stream.truncate(0)
            self._digest = hashlib.blake2b(digest_size=32)
            self.resumed = 0


# The photo on its way to the server, piece by piece


class PhotoUpload:
    """A photo in memory until the server has all of it.

    Args:
        ticket: names the photo.
        received: bytes that the server has already.

    Raises:
        CrowdGaussianError: the photo is gone or has changed since it was submitted.
    """

    def __init__(self, ticket: Ticket, received: int) -> None:
        self._data = read_bytes(Path(ticket.photo), ticket.photo_bytes)
        if hash_bytes(self._data) != ticket.photo_blake2b:
            raise InputError(
                f"{ticket.photo} has changed since it was submitted; submit it as a new job."
            )
        self.confirmed = received
        self._requested = received

    @property
    def whole(self) -> bool:
        return self.confirmed >= len(self._data)

    @property
    def share(self) -> float:
        """How much of the photo the server has, 0..1."""
        return min(1.0, self.confirmed / max(1, len(self._data)))

    def next_piece(self) -> tuple[int, bytes] | None:
        """(offset, bytes) of the next piece to send; None when all is sent."""
        offset = self._requested
        if offset >= len(self._data):
            return None
        self._requested = min(len(self._data), offset + CHUNK_BYTES)
        return offset, self._data[offset : self._requested]

    def confirm(self, received: int, last: bool) -> None:
        """The server has so many bytes.

        Args:
            received: as UPLOADED says.
            last: nothing else is on its way; when the server has less than was sent, it is sent
                again from there.
        """
        self.confirmed = received
        if last and not self.whole:
            self._requested = received
