# SPDX-License-Identifier: Apache-2.0
"""crowdgaussian evaluate lorm | inputs | people | refiner: numbers against the truth."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crowdgaussian_shared.errors import MissingFileError, SettingError

from .options import add_fields, add_out, add_setting_options, given_fields, setting_changes

_HIDDEN, _PICTURES = {"occlusions": "occlusion"}, {"pictures": "pictures"}

if TYPE_CHECKING:
    from ..evaluate.lorm import Evaluation


def add_commands(commands: argparse._SubParsersAction) -> argparse._SubParsersAction:
    """Adds `evaluate`; returns where other things to evaluate are added."""
    parser = commands.add_parser("evaluate", help="measure results against the truth")
    kinds = parser.add_subparsers(title="what", required=True, metavar="WHAT")
    _add_lorm(kinds)
    inputs = kinds.add_parser("inputs", help="write the hidden images, to run other systems on")
    _add_data(inputs)
    inputs.late = _add_hidden
    inputs.set_defaults(run=_inputs)
    _add_people(kinds)
    return kinds


def _add_people(kinds: argparse._SubParsersAction) -> None:
    parser = kinds.add_parser(
        "people", help="who is found in photos, against annotators' keypoints and outlines"
    )
    parser.add_argument(
        "data", type=Path, metavar="DATA.json", help="people in COCO's layout, with keypoints"
    )
    parser.add_argument("images", type=Path, metavar="IMAGES", help="folder of the photos")
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        default=Path("out/people"),
        metavar="OUT",
        help="for people.json and people.png (default out/people)",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N photos")
    parser.add_argument(
        "--pictures", type=int, default=24, metavar="N", help="photos on the sheet (default 24)"
    )
    add_setting_options(parser)
    parser.set_defaults(run=_people)


def _add_lorm(kinds: argparse._SubParsersAction) -> None:
    parser = kinds.add_parser(
        "lorm", help="PSNR, SSIM and LPIPS of completed people (the paper's Tables 1 and 2)"
    )
    _add_data(parser)
    parser.add_argument(
        "--import",
        action="append",
        default=[],
        dest="imported",
        metavar="NAME=FOLDER[:UP,FRONT]",
        help="results of another system: FOLDER/PERSON_OCCLUSION.ply, .obj or .glb",
    )
    add_setting_options(parser)
    parser.late = _add_lorm_fields
    parser.set_defaults(run=_lorm)


def _add_lorm_fields(parser: argparse.ArgumentParser) -> None:
    from ..evaluate.lorm import Evaluation
    from ..evaluate.systems import OWN, REFINED

    parser.add_argument(
        "--systems",
        default=",".join(Evaluation.systems),
        metavar="LIST",
        help=f"some of {', '.join(OWN)}, each also with {REFINED}; or none (%(default)s)",
    )
    add_fields(parser, Evaluation, _HIDDEN | _PICTURES)


def _add_hidden(parser: argparse.ArgumentParser) -> None:
    from ..evaluate.lorm import Evaluation

    add_fields(parser, Evaluation, _HIDDEN)


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", type=Path, metavar="DATASET")
    add_out(parser)
    parser.add_argument("--people", nargs="+", default=[], metavar="NAME", help="only these")
    parser.add_argument(
        "--smplx", type=Path, metavar="PATH", help="SMPLX_NEUTRAL.npz, for data sets with that body"
    )


def _job(arguments: argparse.Namespace, **more: Any) -> "Evaluation":
    from ..evaluate.lorm import Evaluation

    return Evaluation(
        arguments.dataset,
        arguments.out,
        **given_fields(arguments, _HIDDEN),
        people=tuple(arguments.people),
        smplx=arguments.smplx,
        **more,
    )


def _lorm(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from ..evaluate.lorm import evaluate_lorm
    from ..pipeline.config import configured
    from .console import ConsoleReport

    names = tuple(name for name in arguments.systems.split(",") if name and name != "none")
    job = _job(
        arguments,
        config=configured(arguments.preset, setting_changes(arguments)),
        systems=names,
        imported=tuple(_imported(text) for text in arguments.imported),
        **given_fields(arguments, _PICTURES),
    )
    with ConsoleReport(Console(soft_wrap=True)) as report:
        result = evaluate_lorm(job, report)
    print(result.markdown())
    print(job.out / "report.md")
    return 0


def _imported(text: str):
    from ..evaluate.lorm import Imported
    from ..evaluate.systems import Axes

    name, equals, place = text.partition("=")
    folder, colon, axes = place.partition(":")
    up, comma, front = axes.partition(",")
    if not (name and equals and folder) or (colon and not comma):
        raise SettingError(
            f"'--import {text}' is not understood; write NAME=FOLDER or NAME=FOLDER:UP,FRONT."
        )
    chosen = Axes(up, front) if colon else None
    if chosen is not None:
        chosen.vectors()
    return Imported(name, Path(folder), chosen)


def _inputs(arguments: argparse.Namespace) -> int:
    from ..evaluate.lorm import write_inputs

    for path in write_inputs(_job(arguments)):
        print(path)
    return 0


def _people(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from ..core.progress import quiet_native_stderr
    from ..pipeline.config import configured
    from .console import ConsoleReport

    try:
        from ..evaluate.people import PeopleJob, evaluate_people
    except ImportError as error:
        raise MissingFileError(
            'Annotations are read with pycocotools: pip install "crowdgaussian[evaluate]".'
        ) from error
    if arguments.pictures < 0 or (arguments.limit is not None and arguments.limit < 1):
        raise SettingError("Evaluate at least one photo, and draw none or more.")
    job = PeopleJob(
        arguments.data,
        arguments.images,
        arguments.out,
        configured(arguments.preset, setting_changes(arguments)),
        arguments.limit,
        arguments.pictures,
    )
    with quiet_native_stderr(), ConsoleReport(Console(soft_wrap=True)) as report:
        result = evaluate_people(job, report)
    print(result.markdown())
    for path in result.files:
        print(path)
    return 0
