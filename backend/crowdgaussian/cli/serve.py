# SPDX-License-Identifier: Apache-2.0
"""The service's commands: crowdgaussian serve | keys new, list, revoke | submit | jobs."""

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from crowdgaussian_shared.errors import Cancelled, RemoteError

from .. import __version__
from .options import (
    add_changes,
    add_fields,
    add_out,
    add_overwrite,
    add_setting_options,
    given_fields,
    setting_changes,
)

GIB = 1 << 30
_FIELDS = {name: name.replace("_", "-") for name in ("data_port", "workers", "keep_hours")}


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Adds the service's commands to the command line."""
    _add_serve(commands)
    _add_keys(commands)
    _add_submit(commands)
    _add_jobs(commands)


def _add_serve(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("serve", help="reconstruct for Blender, here or over the network")
    parser.late = _add_settings
    _add_data(parser)
    add_changes(parser, "change a limit, such as jobs_total=128 or photo_pixels=50000000")
    parser.add_argument(
        "--stop-with-parent", action="store_true", help="stop when standard input ends"
    )
    parser.add_argument("--pipeline", help=argparse.SUPPRESS)
    parser.set_defaults(run=_serve)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    from ..service.settings import ServiceSettings

    parser.add_argument(
        "--bind",
        default=ServiceSettings.bind.endpoint(),
        metavar="ADDRESS",
        help="address of the control socket (%(default)s); any other than this computer's own "
        "needs keys",
    )
    add_fields(parser, ServiceSettings, _FIELDS)
    parser.add_argument(
        "--keep-gib",
        type=float,
        default=ServiceSettings.keep_bytes / GIB,
        metavar="G",
        help="size of all results together (%(default)s)",
    )


def _add_keys(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("keys", help="who may connect over the network")
    actions = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    new = actions.add_parser("new", help="let a computer in; prints the line to paste there")
    new.add_argument("name", metavar="NAME")
    new.add_argument(
        "--address",
        default="",
        metavar="ADDRESS",
        help="of this server, such as tcp://gpu.example.org:5555; goes into the line",
    )
    new.set_defaults(run=_new_key)
    listing = actions.add_parser("list", help="who is let in")
    listing.set_defaults(run=_list_keys)
    revoke = actions.add_parser("revoke", help="shut a computer out, at once")
    revoke.add_argument("name", metavar="NAME")
    revoke.set_defaults(run=_revoke_key)
    for action in (new, listing, revoke):
        _add_data(action)


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", type=Path, metavar="FOLDER", help="where the service keeps its jobs and keys"
    )


def _serve(arguments: argparse.Namespace) -> int:
    from ..service.broker import Broker

    logging.getLogger().handlers.clear()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    settings = _settings(arguments)
    broker = Broker(settings)
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # the last: its terminal was closed
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # as by nohup
            signal.signal(number, lambda *_: broker.stop())
    if arguments.stop_with_parent:
        threading.Thread(target=wait_for_parent, args=(broker.stop,), daemon=True).start()
    host = settings.bind.endpoint().rsplit(":", 1)[0]
    print(f"ready on {host}:{broker.port}, data port {broker.data_port}", flush=True)
    try:
        broker.run()
    finally:
        broker.close()
    return 0


def _settings(arguments: argparse.Namespace):
    from ..service.results import default_data
    from ..service.settings import PIPELINE, ServiceSettings, parse_address, with_number

    settings = ServiceSettings(
        data=arguments.data or default_data(),
        bind=parse_address(arguments.bind),
        keep_bytes=int(arguments.keep_gib * GIB),
        pipeline=arguments.pipeline or PIPELINE,
        **given_fields(arguments, _FIELDS),
    )
    for text in arguments.changes:
        settings = with_number(settings, *text.partition("=")[::2])
    return settings


def wait_for_parent(stop: Callable[[], object]) -> None:
    """Calls stop when standard input ends; for a thread of its own."""
    # Not sys.stdin.read: its lock ends a program that ends meanwhile with a fatal error.
    while os.read(sys.stdin.fileno(), 4096):
        pass
    stop()


def _new_key(arguments: argparse.Namespace) -> int:
    from ..service.settings import parse_address

    if arguments.address:
        parse_address(arguments.address)
    pairing = _keys(arguments).new(arguments.name, arguments.address)
    print("Paste this line in Blender; it is a secret and is shown only once:", file=sys.stderr)
    print(pairing.line())
    return 0


def _list_keys(arguments: argparse.Namespace) -> int:
    for client in _keys(arguments).clients():
        day = datetime.fromtimestamp(client.created).strftime("%Y-%m-%d %H:%M")
        print(f"{client.name:<32} {day}  {client.public}")
    return 0


def _revoke_key(arguments: argparse.Namespace) -> int:
    _keys(arguments).revoke(arguments.name)
    print(f"{arguments.name} is shut out.")
    return 0


def _keys(arguments: argparse.Namespace):
    from ..service.results import Folders, default_data
    from ..service.settings import KeyFolder, ServiceSettings

    data = arguments.data or default_data()
    Folders(data).make()
    return KeyFolder(ServiceSettings(data).keys)


# Those that talk to a service from elsewhere

ANSWER_SECONDS = 15.0
STOPPED = 130


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
    add_overwrite(parser)
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
