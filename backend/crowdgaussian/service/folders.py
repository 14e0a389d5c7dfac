# SPDX-License-Identifier: Apache-2.0
"""The service's data folder; nobody but its user can look inside.

    DATA/jobs.sqlite   jobs and events        DATA/uploads/JOB    photos as they arrive
    DATA/results/      see results.py         DATA/keys/          see keys.py
    DATA/trash/        being removed          DATA/lock           held by the running service
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from crowdgaussian_shared.errors import CrowdGaussianError

from .results import FOLDER_MODE, Results


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

    def upload(self, job: str) -> Path:
        """The photo of a job, whole or in part."""
        return self.data / "uploads" / job

    def received(self, job: str) -> int:
        """Bytes of the photo that are here."""
        try:
            return self.upload(job).stat().st_size
        except FileNotFoundError:
            return 0

    def make(self) -> None:
        """Makes the folders.

        Raises:
            CrowdGaussianError: they cannot be made.
        """
        try:
            self.data.mkdir(parents=True, exist_ok=True)
            self.data.chmod(FOLDER_MODE)
            for name in ("uploads", "results", "trash"):
                (self.data / name).mkdir(mode=FOLDER_MODE, exist_ok=True)
        except OSError as error:
            raise CrowdGaussianError(
                f"{self.data} cannot be used ({error.strerror}); choose another with --data."
            ) from error

    def lock(self) -> BinaryIO:
        """Holds the folder for this process until the returned file is closed.

        Raises:
            CrowdGaussianError: another service runs on it.
        """
        stream = (self.data / "lock").open("ab")
        try:
            _lock(stream)
        except OSError as error:
            stream.close()
            raise CrowdGaussianError(
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
    if os.name == "nt":
        import msvcrt

        stream.seek(0)
        msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
