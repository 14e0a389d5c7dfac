# SPDX-License-Identifier: Apache-2.0
"""The photo on its way to the server, piece by piece."""

from pathlib import Path

from .client_ticket import Ticket
from .errors import CrowdGaussianError
from .files import read_bytes
from .protocol.messages import CHUNK_BYTES
from .scene_schema import hash_bytes


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
            raise CrowdGaussianError(
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
