# SPDX-License-Identifier: Apache-2.0
"""Every message of the protocol as a frozen dataclass; the class is the schema.

`request` is a number the client chooses; every answer repeats it. Messages that the server sends
of its own accord (EVENT) carry 0.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from ..scene.edit import EDIT_LIMIT
from .codec import Span

CHUNK_BYTES = 1 << 20  # of an artefact or a photo in one message
CREDIT = 8  # chunks a client may have asked for and not yet received

JobState = Literal["uploading", "queued", "running", "done", "failed", "cancelled"]
DownloadState = Literal["idle", "running", "checking", "done", "failed"]
ENDED = ("done", "failed", "cancelled")
Request = Annotated[int, Span(2**53)]
JobId = Annotated[str, Span(36)]
Name = Annotated[str, Span(200)]
Hash = Annotated[str, Span(64)]
Size = Annotated[int, Span(2**40)]
Fraction = Annotated[float, Span(1)]
Sentence = Annotated[str, Span(500)]  # for people to read
EditText = Annotated[str, Span(EDIT_LIMIT)]


@dataclass(frozen=True)
class Model:
    """One model the server would use, and what its licence allows."""

    name: Name
    version: Name
    blake2b: Hash
    licence: Name
    commercial: bool


@dataclass(frozen=True)
class Preset:
    """A way to reconstruct that this server offers."""

    name: Name
    available: bool
    commercial: bool  # whether its results may be used commercially
    licence: str  # in words, for the panel
    missing: str = ""  # what it lacks when it is not available
    models: Annotated[tuple[Model, ...], Span(64)] = ()
    download: Size = 0  # bytes that DOWNLOAD gets of what it lacks; 0: none


@dataclass(frozen=True)
class Device:
    """What the server computes on."""

    kind: Literal["cpu", "cuda"]
    name: Name
    memory_total: Size  # bytes
    memory_free: Size  # bytes


@dataclass(frozen=True)
class Limits:
    """What the server accepts."""

    photo_bytes: Size = 64 << 20
    photo_pixels: Size = 100_000_000
    people: Annotated[int, Span(10_000)] = 100
    jobs_per_client: Annotated[int, Span(10_000)] = 8
    jobs_total: Annotated[int, Span(100_000)] = 64
    chunk_bytes: Size = CHUNK_BYTES
    credit: Annotated[int, Span(64, 1)] = CREDIT


@dataclass(frozen=True)
class Artifact:
    """One file of the scene folder as the server has it now."""

    name: Name  # path inside the scene folder, forward slashes
    size: Size
    blake2b: Hash  # BLAKE2b-256 of the whole file, hex


@dataclass(frozen=True)
class Progress:
    """Where a running job is."""

    stage: Name = ""
    fraction: Fraction = 0.0
    person: Annotated[int, Span(10_000)] | None = None  # counted from 0
    people: Annotated[int, Span(10_000)] | None = None
    message: Sentence = ""


@dataclass(frozen=True)
class Job:
    """A job as the store knows it."""

    job: JobId
    state: JobState
    photo_name: Name = ""
    preset: Name = ""
    created: float = 0.0  # seconds since 1970, UTC
    position: Annotated[int, Span(100_000)] = 0  # in the queue, 1 is next; 0 when not queued
    received: Size = 0  # bytes of the photo that have arrived
    progress: Progress = field(default_factory=Progress)
    error: Sentence = ""  # why it failed, and what to do
    last_seq: Request = 0  # number of its newest event; ATTACH from 0 names every artefact


# What a client says


@dataclass(frozen=True)
class Hello:
    """The first message: who is there."""

    request: Request
    client: Name  # such as "blender-addon 0.1.0"
    client_id: JobId  # the same after a reconnect, so that limits count per client


@dataclass(frozen=True)
class Submit:
    """A new job. The same id again is the same job and is answered as it stands.

    Only a job that failed or was cancelled is taken up again: its finished people are kept.
    """

    request: Request
    job: JobId  # UUID made by the client
    photo_name: Name
    photo_bytes: Size
    photo_blake2b: Hash
    preset: Name = "open"
    settings: Annotated[dict[str, Annotated[str, Span(200)]], Span(100)] = field(
        default_factory=dict
    )
    edit: EditText = ""  # corrections of the result as JSON; for servers of minor version 1 on


@dataclass(frozen=True)
class Upload:
    """A piece of the photo, as the one payload. Goes over the data socket."""

    request: Request
    job: JobId
    offset: Size


@dataclass(frozen=True)
class Status:
    """How a job stands."""

    request: Request
    job: JobId


@dataclass(frozen=True)
class Attach:
    """Replay the events after last_seq, then send new ones as they come."""

    request: Request
    job: JobId
    last_seq: Request = 0


@dataclass(frozen=True)
class Fetch:
    """One chunk of an artefact, from offset. Goes over the data socket.

    With the hash from an EVENT the chunk is of that very version, or the answer is the error
    `unknown-artifact` because a newer one has taken its place; without it, of the newest one.
    """

    request: Request
    job: JobId
    artifact: Name
    offset: Size = 0
    blake2b: Hash = ""


@dataclass(frozen=True)
class Cancel:
    """Stop a job; people that are finished stay."""

    request: Request
    job: JobId


@dataclass(frozen=True)
class List:
    """All jobs of this client."""

    request: Request


@dataclass(frozen=True)
class Delete:
    """Remove a job that has ended, with its photo and results."""

    request: Request
    job: JobId


@dataclass(frozen=True)
class Download:
    """Have the server fetch what a preset lacks, or ask how that goes; from minor version 2 on."""

    request: Request
    preset: Name
    start: bool = False


@dataclass(frozen=True)
class Ping:
    """Are you there?"""

    request: Request


# What the server says


@dataclass(frozen=True)
class Welcome:
    """The answer to HELLO."""

    request: Request
    server: Name
    data_port: Annotated[int, Span(65535)]
    device: Device
    limits: Limits
    presets: Annotated[tuple[Preset, ...], Span(64)] = ()
    minor: Annotated[int, Span(255)] = 0  # version of the protocol that the server speaks


@dataclass(frozen=True)
class Busy:
    """No room for another job now."""

    request: Request
    reason: Sentence
    retry_after: Annotated[float, Span(86_400)]  # seconds


@dataclass(frozen=True)
class JobInfo:
    """The answer to SUBMIT, STATUS, ATTACH and CANCEL."""

    request: Request
    job: Job


@dataclass(frozen=True)
class Jobs:
    """The answer to LIST."""

    request: Request
    jobs: Annotated[tuple[Job, ...], Span(100)]  # newest first


@dataclass(frozen=True)
class Event:
    """Something happened to a job. seq counts from 1 without gaps."""

    request: Request
    job: JobId
    seq: Request
    state: JobState
    progress: Progress
    artifacts: Annotated[tuple[Artifact, ...], Span(100)] = ()  # new or changed since the last
    error: Sentence = ""


@dataclass(frozen=True)
class Uploaded:
    """The photo is here up to `received`; the next piece starts there."""

    request: Request
    job: JobId
    received: Size


@dataclass(frozen=True)
class Chunk:
    """A piece of an artefact, as the one payload."""

    request: Request
    job: JobId
    artifact: Name
    offset: Size
    size: Size  # of the whole artefact


@dataclass(frozen=True)
class Done:
    """The answer to DELETE."""

    request: Request


@dataclass(frozen=True)
class DownloadInfo:
    """The answer to DOWNLOAD."""

    request: Request
    preset: Preset  # as it is now
    state: DownloadState
    received: Size = 0  # bytes that are there
    size: Size = 0  # bytes of all that the preset wants, about
    error: Sentence = ""  # why it failed, and what to do


@dataclass(frozen=True)
class Pong:
    """The answer to PING."""

    request: Request


ErrorCode = Literal[
    "version",  # the other side speaks another major version
    "message",  # not understood
    "hello",  # this connection has to say HELLO (again); the server may have been restarted
    "denied",  # the key was revoked
    "unknown-job",
    "unknown-artifact",
    "limit",  # too large or too many
    "photo",  # not the bytes that were announced, or a photo that cannot be used
    "state",  # not possible in the job's present state
    "internal",
]


@dataclass(frozen=True)
class Error:
    """A request was refused; the message says why and what to do."""

    request: Request
    code: ErrorCode
    message: Sentence


Message = (
    Hello
    | Submit
    | Upload
    | Status
    | Attach
    | Fetch
    | Cancel
    | List
    | Delete
    | Download
    | Ping
    | Welcome
    | Busy
    | JobInfo
    | Jobs
    | Event
    | Uploaded
    | Chunk
    | Done
    | DownloadInfo
    | Pong
    | Error
)

MESSAGES: dict[str, type] = {cls.__name__.upper(): cls for cls in Message.__args__}
PAYLOADS: dict[str, int] = {"UPLOAD": 1, "CHUNK": 1}  # every other message has none
