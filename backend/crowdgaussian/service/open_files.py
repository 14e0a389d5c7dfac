# SPDX-License-Identifier: Apache-2.0
"""The artefacts that are being fetched just now, mapped into memory and sent from there.

A mapped file costs no copy: libzmq sends (or encrypts) straight from the pages. What the store says
about a file is believed for a moment, which is what makes a stream of chunks cheap.
"""

import mmap
import time
from collections import OrderedDict
from dataclasses import dataclass

from crowdgaussian_shared.protocol.messages import Fetch

from .results import Results
from .store import Store

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
        artifact = row and self._store.artifact(fetch.job, fetch.artifact, fetch.blake2b)
        if artifact is None:
            return None
        with self._results.path(row.key, artifact).open("rb") as stream:
            data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) if artifact.size else b""
        return OpenFile(row.owner, len(data), data, time.monotonic())
