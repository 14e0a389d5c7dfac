# SPDX-License-Identifier: Apache-2.0
"""Photos on their way in: appended piece by piece, checked when whole."""

import os
from dataclasses import dataclass

from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.protocol.messages import Limits, Upload
from crowdgaussian_shared.scene_schema import hash_file

from .folders import Folders
from .image_header import photo_size
from .store import JobRow

PHOTO_MODE = 0o600


class PhotoRefusedError(CrowdGaussianError):
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
            CrowdGaussianError: the piece is too large.
        """
        received = self.folders.received(row.job)
        if len(data) > self.limits.chunk_bytes or piece.offset + len(data) > row.photo_bytes:
            raise CrowdGaussianError(
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
            CrowdGaussianError: it is not what was announced; it has been removed.
        """
        path = self.folders.upload(row.job)
        if hash_file(path) != row.photo_blake2b:
            path.unlink(missing_ok=True)
            raise CrowdGaussianError("The photo did not arrive as announced; send it again.")
        size = photo_size(path)
        if size is not None and size[0] * size[1] > self.limits.photo_pixels:
            raise PhotoRefusedError(
                f"The photo is {size[0]} x {size[1]} pixels, more than "
                f"{self.limits.photo_pixels // 1_000_000} million in all; make it smaller."
            )
