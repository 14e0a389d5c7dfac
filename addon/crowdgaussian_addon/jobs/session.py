# SPDX-License-Identifier: GPL-3.0-or-later
"""All that happens off Blender's data: servers, jobs, files. Free of bpy.

The client's thread owns the sockets; the session is called from Blender's main thread only, never
waits, and turns what the client tells into rows of the job table.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from crowdgaussian_shared.client.ticket import JobRequest, open_ticket
from crowdgaussian_shared.client.updates import (
    DownloadUpdate,
    JobUpdate,
    RequestFailed,
    SceneUpdate,
    ServerUpdate,
    Update,
)
from crowdgaussian_shared.errors import CrowdGaussianError, InputError, MissingFileError
from crowdgaussian_shared.protocol.messages import DownloadInfo, Welcome

from .local_server import LocalServer
from .table import TABLE_FILE, JobRow, JobTable, take_files

if TYPE_CHECKING:  # these bring ZeroMQ, which is loaded when it is needed
    from crowdgaussian_shared.client.client import Client
    from crowdgaussian_shared.client.server import Server

log = logging.getLogger(__name__)
THIS_COMPUTER = "this computer"
ASK_EVERY = 1.0  # seconds between two questions how a download goes
SAVE_EVERY = 2.0  # seconds between two writings of the table while jobs run


@dataclass(frozen=True)
class Target:
    """The server that the user has chosen."""

    backend: str = ""  # this computer: the environment to start it from
    server: Server | None = None  # another one

    @property
    def label(self) -> str:
        """By which jobs remember it."""
        return str(self.server) if self.server else THIS_COMPUTER


@dataclass
class ServerView:
    """How the server stands, as the panel shows it."""

    state: str = "stopped"  # stopped, starting, connecting, connected, lost
    sentence: str = ""  # what is wrong and what to do
    welcome: Welcome | None = None
    label: str = ""
    downloads: dict[str, DownloadInfo] = field(default_factory=dict)  # by preset

    @property
    def fetching(self) -> list[str]:
        """Presets whose models the server is fetching."""
        under_way = ("running", "checking")
        return [name for name, info in self.downloads.items() if info.state in under_way]


class Session:
    """The jobs of one Blender.

    Args:
        cache: folder for the job table, the scenes, and the server on this computer.
        name: of this program, for the server's log.
    """

    def __init__(self, cache: Path, name: str) -> None:
        self.cache = cache
        self.name = name
        self.table = JobTable(cache / TABLE_FILE)
        self.table.load()
        self.local = LocalServer(cache / "server")
        self.server = ServerView()
        self._client: Client | None = None
        self._changed = False
        self._save_at = self._ask_at = 0.0
        self._loading = threading.Thread(target=_load_network, daemon=True)

    @property
    def rows(self) -> list[JobRow]:
        """Newest first."""
        return self.table.rows

    @property
    def busy(self) -> bool:
        """Whether anything is on its way."""
        return self.server.state in ("starting", "connecting") or (
            self._client is not None
            and (bool(self.server.fetching) or any(row.active for row in self.rows))
        )

    def open(self, target: Target) -> None:
        """Connects, or goes on connecting, to a server; starts the one on this computer.

        Raises:
            CrowdGaussianError: the backend cannot be started, or the network part is missing.
        """
        if self.server.label != target.label:
            self.close()
        self.server.label = target.label
        if target.server is not None:
            if self._client is None:
                self._connect(target.server)
            else:
                self._client.retry_now()
        elif not self.local.running:
            self._drop_client()
            self.server = ServerView("starting", label=target.label)
            self._loading = threading.Thread(target=_load_network, daemon=True)
            self._loading.start()
            try:
                self.local.start(target.backend)
            except CrowdGaussianError as error:
                self._server_gone(str(error))
                raise

    @contextmanager
    def threads_at_rest(self) -> Iterator[None]:
        """No thread of ours runs Python while the block runs."""
        if self._loading.is_alive():
            self._loading.join()
        with nullcontext() if self._client is None else self._client.held():
            yield

    def close(self) -> None:
        """Lets go of the server; one on this computer is stopped. Unfinished jobs are paused."""
        self._drop_client()
        self.local.stop()
        self.server = ServerView()
        self._pause("", "Not connected; press Continue.")
        self.save()

    def submit(self, target: Target, request: JobRequest, source: Path | None = None) -> JobRow:
        """A new row; the photo is sent as soon as the server is there.

        Args:
            target: who does the work.
            request: what is wanted.
            source: of a correction: the scene folder that it is of; what it does not change need
                not be fetched again.

        Raises:
            CrowdGaussianError: the photo cannot be read, or the folder holds something else.
        """
        ticket = open_ticket(request, target.label)
        if request.edit and source is not None:
            take_files(source, Path(request.folder))
        row = JobRow(
            ticket.job,
            ticket.photo,
            str(Path(request.folder).absolute()),
            target.label,
            request.preset,
            dict(request.settings),
            edit=request.edit,
        )
        row.count_people()
        self.table.add(row)
        self.save()
        self.go_on(row, target)
        return row

    def unfinished(self, request: JobRequest) -> JobRow | None:
        """A row that is on its way with the same photo, preset and settings, wherever it goes."""
        photo = str(Path(request.photo).absolute())
        wanted = (photo, request.preset, dict(request.settings), request.edit)
        return next(
            (
                row
                for row in self.rows
                if row.active and (row.photo, row.preset, row.settings, row.edit) == wanted
            ),
            None,
        )

    def go_on(self, row: JobRow, target: Target) -> None:
        """Takes a row up (again): paused, failed or cancelled. What is wrong stays in the row."""
        row.server = target.label
        row.finished, row.cancelling = False, False
        row.error = ""
        self._changed = True
        try:
            self.open(target)
            row.state, row.trouble = "submitting", ""
            if self._client is not None:
                self._hand_over(self._client, row)
        except CrowdGaussianError as error:
            self._hold(row, str(error))

    def cancel(self, row: JobRow) -> None:
        """Stops a job; people that are finished stay."""
        if self._client is not None and row.server == self.server.label:
            row.cancelling = True
            self._client.cancel(row.job)
        else:
            row.state, row.finished, row.trouble = "cancelled", True, ""
        self._changed = True

    def fetch_models(self, preset: str) -> None:
        """Has the server fetch what a preset lacks; the panel shows how that goes."""
        if self._client is not None:
            self._client.download(preset, start=True)

    def remove(self, row: JobRow) -> None:
        """Takes a row off the list; its files stay. An active job goes on without us."""
        if self._client is not None:
            self._client.detach(row.job)
        self.table.remove(row.job)
        self.save()

    def poll(self) -> set[str]:
        """Takes in all news -> ids of the jobs whose scene has more people than before."""
        self._look_after_local()
        renewed: set[str] = set()
        if self._client is not None:
            if self.server.fetching and time.monotonic() >= self._ask_at:
                self._ask_at = time.monotonic() + ASK_EVERY
                for preset in self.server.fetching:
                    self._client.download(preset)
            for update in self._client.poll():
                self._take(update, renewed)
        if self._changed and time.monotonic() >= self._save_at:
            self.save()
        return renewed

    def save(self) -> None:
        """Writes the job table; a cache that cannot be written is told with the server."""
        self._changed = False
        self._save_at = time.monotonic() + SAVE_EVERY
        try:
            self.table.save()
        except CrowdGaussianError as error:
            self.server.sentence = str(error)

    def touch(self) -> None:
        """The table is written at the next poll."""
        self._changed = True

    def _connect(self, server: Server) -> None:
        if not _load_network():
            raise MissingFileError(
                "The extension's network part (pyzmq) does not load; install its zip for this "
                "Blender version again."
            )
        from crowdgaussian_shared.client.client import Client
        from crowdgaussian_shared.client.server import stable_client_id

        client_id = stable_client_id(self.cache / "client_id")
        self.server = ServerView("connecting", label=self.server.label)
        self._client = Client(server, self.name, client_id)
        self._client.start()
        for row in self.rows:
            if row.active and row.server == self.server.label:
                try:
                    self._hand_over(self._client, row)
                except CrowdGaussianError as error:
                    self._hold(row, str(error))

    def _hand_over(self, client: Client, row: JobRow) -> None:
        """The client follows the job from here on; it knows itself where the job stands."""
        request = JobRequest(
            Path(row.photo), Path(row.folder), row.preset, row.settings, edit=row.edit
        )
        if Path(row.photo).is_file():
            job = client.submit(request)
        else:
            job = client.attach(row.folder)
        if job != row.job:
            raise InputError(
                f"{row.folder} holds another job by now; remove this row and start again."
            )
        row.state, row.trouble = "submitting", ""

    def _look_after_local(self) -> None:
        if not self.local.running:
            return
        self.local.poll()
        if not self.local.running:
            self._server_gone(self.local.failure)
        elif self.local.address and self._client is None and not self._loading.is_alive():
            from crowdgaussian_shared.client.server import Server

            try:
                self._connect(Server.parse(self.local.address))
            except CrowdGaussianError as error:
                self.local.stop()
                self._server_gone(str(error))

    def _take(self, update: Update, renewed: set[str]) -> None:
        if isinstance(update, ServerUpdate):
            self._take_server(update)
            return
        if isinstance(update, DownloadUpdate):
            self._take_download(update.info)
            return
        if isinstance(update, RequestFailed) and update.request == "DOWNLOAD":
            self.server.sentence = update.message
        row = self.table.get(update.job) if hasattr(update, "job") else None
        if row is None:
            return
        if isinstance(update, SceneUpdate):
            row.count_people()
            renewed.add(row.job)
        elif isinstance(update, RequestFailed):
            row.cancelling, row.note = False, update.message
        elif isinstance(update, JobUpdate):
            self._take_job(row, update, renewed)
        self._changed = True

    def _take_server(self, update: ServerUpdate) -> None:
        if update.state == "connecting" and self.server.state == "lost":
            return  # the reason of the last failure stays readable
        self.server.state, self.server.sentence = update.state, update.message
        self.server.welcome = update.welcome
        for row in self.rows:
            if row.active and row.server == self.server.label:
                row.trouble = update.message

    def _take_download(self, info: DownloadInfo) -> None:
        """How a download goes; the preset may be available by now."""
        self.server.downloads[info.preset.name] = info
        if self.server.welcome is not None:
            presets = tuple(
                info.preset if preset.name == info.preset.name else preset
                for preset in self.server.welcome.presets
            )
            self.server.welcome = replace(self.server.welcome, presets=presets)

    def _take_job(self, row: JobRow, update: JobUpdate, renewed: set[str]) -> None:
        row.state, row.error = update.state, update.error
        row.stage, row.fraction = update.progress.stage, update.progress.fraction
        row.person, row.position = update.progress.person, update.position
        if update.progress.people:
            row.people_found = update.progress.people
        row.sent, row.files_missing = update.sent, update.files_missing
        row.reached = row.progress if update.state == "running" else 0.0
        row.finished = update.finished
        if update.finished:
            row.cancelling, row.trouble = False, ""
            if update.error and update.state != "cancelled":
                row.state = "failed"
            row.count_people()
            renewed.add(row.job)
            self._save_at = 0.0

    def _server_gone(self, sentence: str) -> None:
        label = self.server.label
        self._drop_client()
        self.server = ServerView("stopped", sentence, label=label)
        self._pause(label, sentence)
        self._changed = True

    def _pause(self, label: str, sentence: str) -> None:
        """Rows of a server, or of all, wait for the user."""
        for row in self.rows:
            if row.active and label in ("", row.server):
                self._hold(row, sentence)

    def _hold(self, row: JobRow, sentence: str) -> None:
        row.state, row.trouble, row.cancelling = "paused", sentence, False

    def _drop_client(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


def _load_network() -> bool:
    """Loads ZeroMQ, half a second the first time -> whether it is there."""
    try:
        from crowdgaussian_shared.client import client as client
    except ImportError:
        return False
    return True
