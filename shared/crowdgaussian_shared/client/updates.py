# SPDX-License-Identifier: Apache-2.0
"""What a Client tells its owner: frozen records, taken from a queue."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..protocol.messages import ENDED, DownloadInfo, Job, JobState, Progress, Welcome

Reason = Literal[
    "",
    "refused",  # nobody listens there
    "unreachable",  # no such host, or no way to it
    "silent",  # connected, but no answer
    "key",  # the server's key is another one than in the pairing line
    "denied",  # the server does not know this client's key (any more)
    "pairing",  # one side uses keys and the other does not
    "version",  # another major version of the protocol
    "foreign",  # something else listens there
    "lost",  # the connection broke
]


@dataclass(frozen=True)
class ServerUpdate:
    """The connection changed."""

    state: Literal["connecting", "connected", "lost"]
    reason: Reason = ""
    message: str = ""  # one sentence: what is wrong and what to do
    retry_in: float = 0.0  # seconds until the next attempt
    welcome: Welcome | None = None  # when connected


@dataclass(frozen=True)
class JobUpdate:
    """A job moved on.

    `finished` is the last word: the job has ended and all its files are here, or this client has
    given it up (`error` says why). Until then updates keep coming, also across lost connections.
    """

    job: str
    folder: Path
    state: JobState | Literal["submitting", "busy"]
    progress: Progress = field(default_factory=Progress)
    position: int = 0  # in the queue, 1 is next; 0 when not queued
    error: str = ""  # why it failed or waits, and what to do
    sent: float = 0.0  # share of the photo that is with the server
    files_missing: int = 0  # announced and not here yet
    bytes_missing: int = 0
    finished: bool = False

    @property
    def succeeded(self) -> bool:
        """Whether the whole result is here."""
        return self.finished and self.state == "done" and not self.error

    @property
    def ended(self) -> bool:
        """Whether the server has stopped working on it; files may still be on their way."""
        return self.state in ENDED


@dataclass(frozen=True)
class SceneUpdate:
    """scene.json in the mirrored folder was renewed; every file it names is there."""

    job: str
    folder: Path


@dataclass(frozen=True)
class JobList:
    """The answer to Client.list_jobs."""

    jobs: tuple[Job, ...]


@dataclass(frozen=True)
class Deleted:
    """The server has removed a job."""

    job: str


@dataclass(frozen=True)
class DownloadUpdate:
    """The answer to Client.download: how the download of a preset's models goes."""

    info: DownloadInfo


@dataclass(frozen=True)
class RequestFailed:
    """The server refused a cancel, delete, list or download."""

    request: str  # CANCEL, DELETE, LIST or DOWNLOAD
    job: str
    code: str
    message: str


Update = ServerUpdate | JobUpdate | SceneUpdate | JobList | Deleted | DownloadUpdate | RequestFailed
