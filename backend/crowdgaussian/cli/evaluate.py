# SPDX-License-Identifier: Apache-2.0
"""crowdgaussian evaluate lorm | inputs | degradation | inpainting | people: numbers."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crowdgaussian_shared.errors import MissingFileError, SettingError

from .options import add_fields, add_out, add_setting_options, given_fields, setting_changes

_HIDDEN, _PICTURES = {"occlusions": "occlusion"}, {"pictures": "pictures"}

if TYPE_CHECKING:
    from ..core.progress import Report as Tell
    from ..evaluate.degradation import Cases
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
    _add_degradation(kinds)
    _add_people(kinds)
    return kinds


def _add_degradation(kinds: argparse._SubParsersAction) -> None:
    shrunk = kinds.add_parser(
        "degradation", help="systems on photos of fewer and fewer pixels (the paper's Figure 8)"
    )
    _add_systems(shrunk)
    shrunk.late = _add_factors
    shrunk.set_defaults(run=_degradation)
    painted = kinds.add_parser(
        "inpainting", help="systems on photos whose hidden parts were painted in 2D (Figure 13)"
    )
    _add_systems(painted)
    painted.add_argument(
        "--inpaint",
        default="opencv",
        metavar="COMMAND",
        help='opencv (default), or your own program: "python mine.py {photo} {mask} {out}"',
    )
    painted.late = _add_lorm_fields
    painted.set_defaults(run=_inpainting)


def _add_factors(parser: argparse.ArgumentParser) -> None:
    from ..evaluate.degradation import FACTORS
    from ..evaluate.lorm import Evaluation

    _add_system_names(parser)
    parser.add_argument(
        "--factors",
        type=int,
        nargs="+",
        default=list(FACTORS),
        metavar="N",
        help=f"by which width and height shrink ({' '.join(map(str, FACTORS))})",
    )
    add_fields(parser, Evaluation, _PICTURES)


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
    _add_systems(parser)
    parser.late = _add_lorm_fields
    parser.set_defaults(run=_lorm)


def _add_systems(parser: argparse.ArgumentParser) -> None:
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


def _add_lorm_fields(parser: argparse.ArgumentParser) -> None:
    from ..evaluate.lorm import Evaluation

    _add_system_names(parser)
    add_fields(parser, Evaluation, _HIDDEN | _PICTURES)


def _add_system_names(parser: argparse.ArgumentParser) -> None:
    from ..evaluate.lorm import Evaluation
    from ..evaluate.systems import OWN, REFINED

    parser.add_argument(
        "--systems",
        default=",".join(Evaluation.systems),
        metavar="LIST",
        help=f"some of {', '.join(OWN)}, each also with {REFINED}; or none (%(default)s)",
    )


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


def _job(arguments: argparse.Namespace, hidden: Mapping[str, str], **more: Any) -> "Evaluation":
    from ..evaluate.lorm import Evaluation

    return Evaluation(
        arguments.dataset,
        arguments.out,
        **given_fields(arguments, hidden),
        people=tuple(arguments.people),
        smplx=arguments.smplx,
        **more,
    )


def _systems_job(arguments: argparse.Namespace, hidden: Mapping[str, str]) -> "Evaluation":
    """The job of a command with systems, and with hidden shares where it has such options."""
    from ..pipeline.config import configured

    names = tuple(name for name in arguments.systems.split(",") if name and name != "none")
    return _job(
        arguments,
        hidden,
        config=configured(arguments.preset, setting_changes(arguments)),
        systems=names,
        imported=tuple(_imported(text) for text in arguments.imported),
        **given_fields(arguments, _PICTURES),
    )


def _degradation(arguments: argparse.Namespace) -> int:
    from ..evaluate.degradation import low_resolutions

    cases = low_resolutions(tuple(arguments.factors))
    return _cases(_systems_job(arguments, {}), cases, "Photos of fewer pixels")


def _inpainting(arguments: argparse.Namespace) -> int:
    from ..evaluate.degradation import inpaintings

    job = _systems_job(arguments, _HIDDEN)
    return _cases(job, inpaintings(job.occlusions, arguments.inpaint), "Hidden parts painted in 2D")


def _cases(job: "Evaluation", cases: "Cases", title: str) -> int:
    from ..evaluate.degradation import evaluate_cases

    return _shown(job, lambda report: evaluate_cases(job, cases, title, report))


def _lorm(arguments: argparse.Namespace) -> int:
    from ..evaluate.lorm import evaluate_lorm

    job = _systems_job(arguments, _HIDDEN)
    return _shown(job, lambda report: evaluate_lorm(job, report))


def _shown(job: "Evaluation", run: Callable[["Tell"], Any]) -> int:
    """Runs an evaluation with its progress, then prints its report and where it lies."""
    from rich.console import Console

    from .console import ConsoleReport

    with ConsoleReport(Console(soft_wrap=True)) as report:
        result = run(report)
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

    for path in write_inputs(_job(arguments, _HIDDEN)):
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
