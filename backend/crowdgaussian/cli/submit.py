# SPDX-License-Identifier: Apache-2.0
"""The commands that talk to a service: crowdgaussian submit | jobs."""

import argparse
import sys
from datetime import datetime
from pathlib import Path

from crowdgaussian_shared.errors import Cancelled, RemoteError

from .. import __version__
from .options import add_out, add_setting_options, setting_changes

ANSWER_SECONDS = 15.0
STOPPED = 130


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Adds the commands to the command line."""
    _add_submit(commands)
    _add_jobs(commands)


def _add_submit(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("submit", help="photo -> scene folder, computed by a server")
    parser.add_argument("photo", type=Path, metavar="PHOTO")
    _add_server(parser)
    add_out(parser, "scene folder; the same command again goes on there")
    add_setting_options(parser)
    parser.add_argument(
        "--edit",
        type=Path,
        metavar="EDIT.json",
        help="corrections of that photo's result (docs/people.md)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a scene in OUT")
    parser.add_argument(
        "--detach",
        action="store_true",
        help="leave when the server has the photo; the same command again fetches the result",
    )
    parser.set_defaults(run=_submit)


def _add_jobs(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("jobs", help="list, cancel or delete jobs on a server")
    _add_server(parser)
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--cancel", metavar="JOB", help="stop a job; finished people stay")
    action.add_argument("--delete", metavar="JOB", help="remove a job that has ended")
    parser.set_defaults(run=_jobs)


def _add_server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--server",
        default="",
        metavar="ADDRESS",
        help="such as tcp://127.0.0.1:5555 (default: the one in the pairing line)",
    )
    parser.add_argument(
        "--pairing",
        default="",
        metavar="LINE|FILE",
        help="what `crowdgaussian keys new` printed on the server, or a file with "
        "it; not needed on this computer",
    )
    parser.add_argument(
        "--data-port",
        type=int,
        default=0,
        metavar="PORT",
        help="where the server's data port is forwarded to",
    )


def _submit(arguments: argparse.Namespace) -> int:
    from crowdgaussian_shared.client.ticket import JobRequest
    from crowdgaussian_shared.scene.edit import SceneEdits
    from crowdgaussian_shared.scene.folder import SceneFolder
    from rich.console import Console

    from .console import ConsoleReport, print_checks

    edit = SceneEdits.read(arguments.edit).to_json() if arguments.edit else ""
    request = JobRequest(
        arguments.photo,
        arguments.out,
        arguments.preset,
        setting_changes(arguments),
        arguments.overwrite,
        edit,
    )
    with _client(arguments) as client, ConsoleReport(Console(soft_wrap=True)) as report:
        job = client.submit(request)
        try:
            left = _follow(client, job, report, arguments.detach)
        except Cancelled:
            left = STOPPED
    if left is not None:
        print(
            f"Job {job} goes on at {client.server}; the same command again follows it, and "
            f"`crowdgaussian jobs --server {client.server} --cancel {job}` stops it.",
            file=sys.stderr,
        )
        return left
    if SceneFolder.exists(arguments.out):  # not yet with --detach
        print_checks(SceneFolder.open(arguments.out).info)
    print(arguments.out / "scene.json")
    return 0


def _follow(client, job: str, report, detach: bool) -> int | None:
    """Until the whole result is here -> None; or until the server has the photo -> 0."""
    from crowdgaussian_shared.client.blocking import Watch, follow

    def look() -> None:
        if report.cancelled:
            raise Cancelled

    def lost(update) -> None:
        if update.message:
            report.console.print(f"{update.message} Trying again.", highlight=False, markup=False)

    watch = Watch(on_progress=report, on_server=lost, on_round=look)
    enough = (lambda update: update.state in ("queued", "running")) if detach else None
    update = follow(client, job, watch, enough)
    return None if update.finished else 0


def _jobs(arguments: argparse.Namespace) -> int:
    from crowdgaussian_shared.client.blocking import wait_for
    from crowdgaussian_shared.client.updates import Deleted, JobList, RequestFailed

    with _client(arguments) as client:
        if arguments.delete:
            client.delete(arguments.delete)
        if arguments.cancel:
            client.cancel(arguments.cancel)
        if not arguments.delete:
            client.list_jobs()
        update = wait_for(client, (JobList, Deleted, RequestFailed), ANSWER_SECONDS)
    if isinstance(update, RequestFailed):
        raise RemoteError(update.message)
    for job in update.jobs if isinstance(update, JobList) else ():
        day = datetime.fromtimestamp(job.created).strftime("%Y-%m-%d %H:%M")
        where = f"number {job.position}" if job.position else f"{job.progress.fraction:.0%}"
        line = f"{job.job}  {day}  {job.state:<9}  {where:<10} {job.photo_name}  {job.error}"
        print(line.rstrip())
    return 0


def _client(arguments: argparse.Namespace):
    from crowdgaussian_shared.client.client import Client
    from crowdgaussian_shared.client.server import Server, stable_client_id

    from ..service.results import default_data

    server = Server.parse(arguments.server, arguments.pairing, arguments.data_port)
    client_id = stable_client_id(default_data() / "client-id")
    return Client(server, f"crowdgaussian {__version__}", client_id)
