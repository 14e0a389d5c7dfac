# SPDX-License-Identifier: Apache-2.0
"""For scripts: a job from photo to scene folder in one call."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import Cancelled, CrowdGaussianError
from ..protocol.messages import Progress
from .client import Client
from .server import Server
from .session import PERMANENT_FAILURES
from .ticket import JobRequest
from .updates import JobUpdate, ServerUpdate, Update

CANCEL_SECONDS = 5.0  # for the server to hear of it
OWN_STAGES = ("connect", "wait", "upload", "queue", "start", "download")


@dataclass(frozen=True)
class Watch:
    """Who is told while follow() waits; raising Cancelled there ends the waiting."""

    on_progress: Callable[[Progress], None] = lambda progress: None  # whenever it has changed
    on_server: Callable[[ServerUpdate], None] = lambda update: None  # the connection changed
    on_round: Callable[[], None] = lambda: None  # at least four times per second


def reconstruct(
    photo: str | Path,
    out: str | Path,
    server: str | Server,
    *,
    preset: str = "open",
    settings: Mapping[str, str] | None = None,
    edit: str = "",
    watch: Watch | None = None,
) -> Path:
    """Sends a photo and waits for the whole scene folder, which it returns.

    Calling it again with the same photo and folder goes on where it was.

    Args:
        photo: the photo's file.
        out: the scene folder.
        server: its address, or Server.parse(address, pairing line).
        preset: as `crowdgaussian settings` names them.
        settings: changed settings, as texts.
        edit: corrections of that photo's result, as SceneEdits.to_json writes them.
        watch: told of the progress; raises Cancelled to stop the job.

    Raises:
        CrowdGaussianError: the photo or folder cannot be used, there is no way to the server, or
            the job failed.
        Cancelled: by `watch`; the job is cancelled on the server too.
    """
    server = Server.parse(server) if isinstance(server, str) else server
    request = JobRequest(Path(photo), Path(out), preset, settings or {}, edit=edit)
    with Client(server, "crowdgaussian script") as client:
        job = client.submit(request)
        try:
            return follow(client, job, watch or Watch()).folder
        except Cancelled:
            client.cancel(job)
            _wait_for_end(client, job)
            raise


def follow(
    client: Client, job: str, watch: Watch, enough: Callable[[JobUpdate], bool] | None = None
) -> JobUpdate:
    """Pumps a client that has no thread until the job has ended and all its files are here.

    Args:
        client: not started.
        job: its id.
        watch: told what happens.
        enough: ends the waiting early.

    Raises:
        CrowdGaussianError: the server cannot be reached at the first attempt, refuses this
            client, or the job failed or was cancelled.
    """
    connected, shown = False, Progress("connect")
    watch.on_progress(shown)
    while True:
        watch.on_round()
        client.pump()
        for update in client.poll():
            if isinstance(update, ServerUpdate):
                connected |= update.state == "connected"
                if update.state == "lost" and (
                    not connected or update.reason in PERMANENT_FAILURES
                ):
                    raise CrowdGaussianError(update.message)
                watch.on_server(update)
            elif isinstance(update, JobUpdate) and update.job == job:
                shown = _show(watch, shown, describe(update))
                if update.finished:
                    _raise_failure(update)
                if update.finished or (enough is not None and enough(update)):
                    return update


def _show(watch: Watch, before: Progress, now: Progress) -> Progress:
    """Tells of a change; a stage that is only this client's is full when it is over."""
    if now.stage != before.stage and before.stage in OWN_STAGES and before.fraction < 1.0:
        watch.on_progress(Progress(before.stage, 1.0))
    if now != before:
        watch.on_progress(now)
    return now


def describe(update: JobUpdate) -> Progress:
    """A job's progress including what the server knows nothing of."""
    if update.state == "submitting":
        return Progress("connect")
    if update.state == "busy":
        return Progress("wait", message=update.error)
    if update.state == "uploading":
        return Progress("upload", update.sent)
    if update.state == "queued":
        return Progress("queue", message=f"number {update.position}" if update.position else "")
    if update.finished:
        return Progress("download", 1.0)
    if update.ended:
        return Progress("download", message=f"{update.bytes_missing / (1 << 20):.1f} MiB left")
    return update.progress if update.progress.stage else Progress("start")


def wait_for(client: Client, wanted: tuple[type, ...], seconds: float) -> Update:
    """Pumps a client that has no thread until an update of one of these kinds comes.

    Raises:
        CrowdGaussianError: there is no way to the server.
    """
    for update in _updates(client, seconds):
        if isinstance(update, wanted):
            return update
        if isinstance(update, ServerUpdate) and update.state == "lost":
            raise CrowdGaussianError(update.message)
    raise CrowdGaussianError(f"{client.server} did not answer in time; try again later.")


def _wait_for_end(client: Client, job: str) -> None:
    for update in _updates(client, CANCEL_SECONDS):
        if isinstance(update, JobUpdate) and update.job == job and update.ended:
            return


def _updates(client: Client, seconds: float) -> Iterable[Update]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        client.pump()
        yield from client.poll()


def _raise_failure(update: JobUpdate) -> None:
    if update.error:
        raise CrowdGaussianError(update.error)
    if update.state == "cancelled":
        raise CrowdGaussianError("The job was cancelled; submit the photo again to go on with it.")
