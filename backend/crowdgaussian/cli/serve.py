# SPDX-License-Identifier: Apache-2.0
"""The service's commands: crowdgaussian serve | keys new | keys list | keys revoke."""

import argparse
import logging
import signal
import sys
import threading
from datetime import datetime
from pathlib import Path

from .options import add_changes, add_fields, given_fields

GIB = 1 << 30
_FIELDS = {name: name.replace("_", "-") for name in ("data_port", "workers", "keep_hours")}


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Adds the service's commands to the command line."""
    _add_serve(commands)
    _add_keys(commands)


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
        threading.Thread(target=_wait_for_parent, args=(broker.stop,), daemon=True).start()
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


def _wait_for_parent(stop) -> None:
    while sys.stdin.buffer.read(4096):
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
