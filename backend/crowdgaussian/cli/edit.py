# SPDX-License-Identifier: Apache-2.0
"""Corrections of a finished scene: crowdgaussian edit SCENE EDIT.json -o OUT."""

import argparse
from contextlib import nullcontext
from pathlib import Path

from crowdgaussian_shared.errors import InputError

from ..core.progress import quiet_native_stderr
from .options import add_out


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the command line."""
    parser = commands.add_parser(
        "edit", help="corrected poses, people left out or added -> scene folder"
    )
    parser.add_argument(
        "scene", type=Path, metavar="SCENE", help="what `crowdgaussian reconstruct` made"
    )
    parser.add_argument(
        "edit",
        type=Path,
        metavar="EDIT.json",
        help="the corrections, as docs/people.md explains them",
    )
    add_out(parser, "corrected scene folder; an interrupted run goes on there")
    parser.add_argument(
        "--photo",
        type=Path,
        metavar="PHOTO",
        help="the original photo (default: its copy in SCENE)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a scene in OUT")
    parser.add_argument("--verbose", action="store_true", help="log details and tracebacks")
    parser.set_defaults(run=_edit)


def _edit(arguments: argparse.Namespace) -> int:
    from crowdgaussian_shared.scene.folder import SceneFolder
    from rich.console import Console

    from ..pipeline.reconstruct import reconstruct
    from .console import ConsoleReport, print_checks, print_people

    scene = SceneFolder.open(arguments.scene)
    if arguments.scene.resolve() == arguments.out.resolve():
        raise InputError(f"{arguments.out} is the scene itself; choose another folder.")
    job = _job(scene, arguments)
    quiet = nullcontext() if arguments.verbose else quiet_native_stderr()
    with quiet, ConsoleReport(Console(soft_wrap=True)) as report:
        folder = reconstruct(job, report)
    print_people(folder.info.people)
    print_checks(folder.info)
    print(folder.path / "scene.json")
    return 0


def _job(scene, arguments: argparse.Namespace):
    """What the scene was made from and with, and the corrections behind those it has."""
    from crowdgaussian_shared.scene.edit import SceneEdits, edits_in

    from ..pipeline.config import Job, configured, preset

    known = preset(scene.info.preset).flat()
    changes = {
        name: str(value)
        for name, value in scene.info.settings.items()
        if name in known and value != known[name]
    }
    steps = (*edits_in(scene.info.settings), *SceneEdits.read(arguments.edit).steps)
    return Job(
        arguments.photo or scene.photo_path,
        arguments.out,
        configured(scene.info.preset, changes),
        arguments.overwrite,
        scene.info.photo.name,
        SceneEdits(steps),
        scene.path,
    )
