# SPDX-License-Identifier: Apache-2.0
"""The command line: crowdgaussian reconstruct | batch | inspect | blend | export | serve ...

Exit codes: 0 done; 1 a photo of a batch failed; 2 bad input or a limit of the machine, with one
sentence on standard error; 130 stopped by Ctrl-C. Heavy modules are imported by the command that
needs them.
"""

import argparse
import json
import logging
import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from crowdgaussian_shared.errors import Cancelled, CrowdGaussianError, InputError

from ..core.progress import prepare_process, quiet_native_stderr
from . import doctor, export, refiner
from .batch import add_commands as add_batch_command
from .evaluate import add_commands as add_evaluate_commands
from .options import Parser, add_out, add_overwrite, add_setting_options, setting_changes
from .serve import STOPPED
from .serve import add_commands as add_service_commands
from .train import add_data_command, add_train_command
from .weights import add_commands as add_weights_commands

if TYPE_CHECKING:
    from crowdgaussian_shared.scene.folder import SceneFolder

    from ..pipeline.config import Job

USER_ERROR = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    prepare_process()
    try:
        given = sys.argv[1:] if argv is None else argv
        arguments = _parser().parse_args(given)
        arguments.command_line = shlex.join(["crowdgaussian", *given])
        level = logging.INFO if getattr(arguments, "verbose", False) else logging.CRITICAL
        logging.basicConfig(level=level)
        return arguments.run(arguments)
    except CrowdGaussianError as error:
        print(f"crowdgaussian: {error}", file=sys.stderr)
        return USER_ERROR
    except (Cancelled, KeyboardInterrupt):
        print("crowdgaussian: Stopped; run the same command again to go on.", file=sys.stderr)
        return STOPPED


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="crowdgaussian",
        description="One photo of a group of people becomes a "
        "Blender crowd of rigged 3D Gaussians.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_reconstruct(commands)
    add_batch_command(commands)
    _add_inspect(commands)
    _add_blend(commands)
    settings = commands.add_parser("settings", help="list every setting of a preset")
    settings.add_argument("--preset", default="open")
    settings.set_defaults(run=_settings)
    export.add_view_command(commands)
    doctor.add_command(commands)
    add_service_commands(commands)
    add_weights_commands(commands)
    export.add_export_command(commands)
    _add_edit(commands)
    refiner.add_evaluation(add_evaluate_commands(commands))
    refiner.add_training(add_train_command(commands))
    add_data_command(commands)
    return parser


def _add_reconstruct(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("reconstruct", help="photo -> scene folder")
    parser.add_argument("photo", type=Path, metavar="PHOTO")
    add_out(parser, "scene folder; an interrupted run of the same photo goes on there")
    add_setting_options(parser)
    add_overwrite(parser)
    parser.add_argument("--verbose", action="store_true", help="log details and tracebacks")
    parser.set_defaults(run=_reconstruct)


def _add_inspect(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("inspect", help="what a scene folder holds and how good it is")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--json", action="store_true", help="machine-readable")
    parser.set_defaults(run=_inspect)


def _add_blend(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("blend", help="scene folder -> .blend and previews")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument(
        "--blender",
        type=Path,
        metavar="PATH",
        help="a Blender, or a Python that has bpy (default: found by itself)",
    )
    parser.add_argument("--no-previews", action="store_true", help="only the .blend file")
    parser.set_defaults(run=_blend)


def _reconstruct(arguments: argparse.Namespace) -> int:
    from ..pipeline.config import Job, configured

    config = configured(arguments.preset, setting_changes(arguments))
    job = Job(arguments.photo, arguments.out, config, arguments.overwrite)
    folder, seconds = _run(job, arguments.verbose)
    people = folder.info.people
    done = sum(person.state == "done" for person in people)
    print(f"{done} of {len(people)} people done in {seconds:.0f} s")
    _print_result(folder)
    return 0


def _run(job: "Job", verbose: bool) -> tuple["SceneFolder", float]:
    """The pipeline with its progress on the console; and the seconds it took."""
    from rich.console import Console

    from ..pipeline.reconstruct import reconstruct
    from .console import ConsoleReport

    started = time.perf_counter()
    quiet = nullcontext() if verbose else quiet_native_stderr()
    with quiet, ConsoleReport(Console(soft_wrap=True)) as report:
        folder = reconstruct(job, report)
    return folder, time.perf_counter() - started


def _print_result(folder: "SceneFolder") -> None:
    from .console import print_checks, print_people

    print_people(folder.info.people)
    print_checks(folder.info)
    print(folder.path / "scene.json")


def _inspect(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from .inspect import inspect_scene, render_report

    report = inspect_scene(arguments.out)
    if arguments.json:
        print(json.dumps(report, indent=1))
    else:
        console = Console()
        render_report(report, console if console.is_terminal else Console(width=160))
    return 0


def _blend(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from .blend import BlendJob, blend_scene
    from .console import ConsoleReport

    job = BlendJob(arguments.out, previews=not arguments.no_previews, blender=arguments.blender)
    with ConsoleReport(Console(soft_wrap=True)) as report:
        files = blend_scene(job, report)
    for path in files:
        print(path)
    return 0


def _settings(arguments: argparse.Namespace) -> int:
    from ..pipeline.config import preset

    for name, value in preset(arguments.preset).flat().items():
        print(f"{name}={value}")
    return 0


# Corrections of a finished scene: crowdgaussian edit SCENE EDIT.json -o OUT


def _add_edit(commands: argparse._SubParsersAction) -> None:
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
    add_overwrite(parser)
    parser.add_argument("--verbose", action="store_true", help="log details and tracebacks")
    parser.set_defaults(run=_edit)


def _edit(arguments: argparse.Namespace) -> int:
    from crowdgaussian_shared.scene.folder import SceneFolder

    scene = SceneFolder.open(arguments.scene)
    if arguments.scene.resolve() == arguments.out.resolve():
        raise InputError(f"{arguments.out} is the scene itself; choose another folder.")
    folder, _ = _run(_job(scene, arguments), arguments.verbose)
    _print_result(folder)
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
