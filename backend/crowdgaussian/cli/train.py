# SPDX-License-Identifier: Apache-2.0
"""crowdgaussian data | train: what to train on and to measure with, and two of the networks."""

import argparse
import os
from dataclasses import replace
from pathlib import Path

from crowdgaussian_shared.errors import SettingError

from .options import (
    RUN_GOES_ON,
    STAGES,
    TRAINING_GOES_ON,
    add_changes,
    add_fields,
    add_mesh_options,
    add_out,
    add_preset,
    given_fields,
    made_up_people,
    read_changes,
    scanned_people,
    with_preset,
)


def add_train_command(commands: argparse._SubParsersAction) -> argparse._SubParsersAction:
    """Adds `train`; returns where other things to train are added."""
    parser = commands.add_parser("train", help="train a network on your own data")
    kinds = parser.add_subparsers(title="what", required=True, metavar="WHAT")
    _add_lorm(kinds)
    _add_completion(kinds)
    hidden = kinds.add_parser("occlusion", help="draw the steps that hide parts of a person")
    hidden.add_argument("image", type=Path, metavar="IMAGE")
    hidden.add_argument("mask", type=Path, metavar="MASK", help="8 bit, 128 and more is the person")
    hidden.add_argument("-o", "--out", type=Path, required=True, metavar="PNG")
    hidden.add_argument("--seed", type=int, default=0, help="of the first row")
    hidden.add_argument("--rows", type=int, default=3, metavar="N")
    hidden.set_defaults(run=_occlusion)
    return kinds


def _add_lorm(kinds: argparse._SubParsersAction) -> None:
    parser = kinds.add_parser(
        "lorm", help="teach LHM to complete hidden people (not for commercial use)"
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="people; see docs/training.md")
    add_out(parser, TRAINING_GOES_ON)
    parser.add_argument(
        "--list", type=Path, metavar="FILE", help="only people named in this file, one a line"
    )
    files = parser.add_argument_group("network")
    files.add_argument("--weights", default="3DAIGC/LHM-500M-HF", metavar="FOLDER")
    files.add_argument("--sapiens", default="", metavar="FILE")
    files.add_argument("--points", default="", metavar="FILE")
    files.add_argument("--device", default="", help="cuda, cuda:1 or cpu (default: a GPU)")
    files.add_argument(
        "--cache",
        type=Path,
        metavar="FOLDER",
        help="tokens and teacher's renders (default: OUT/cache)",
    )
    parser.late = _add_lorm_settings
    parser.set_defaults(run=_lorm)


_LORM = {
    name: name.replace("_", "-")
    for name in ("people", "batch", "views_per_step", "render_size", "lr", "rank", "occlusions",
                 "save_every", "sample_every", "seed", "targets")
} | {"steps": "iterations"}  # fmt: skip
_LORM_LOSS = {"rgb": "rgb-weight", "ssim": "ssim-weight"}


def _add_lorm_settings(parser: argparse.ArgumentParser) -> None:
    from ..lorm.training.distill import DistillationWeights, LormTraining

    group = parser.add_argument_group("training")
    add_fields(group, LormTraining, _LORM)
    add_fields(group, DistillationWeights, _LORM_LOSS)
    group.add_argument("--no-checkpointing", action="store_true", help="faster, much more memory")


def _config(arguments: argparse.Namespace):
    from ..lorm.training.distill import DistillationWeights, LormTraining

    return LormTraining(
        **given_fields(arguments, _LORM),
        loss=DistillationWeights(**given_fields(arguments, _LORM_LOSS)),
        gradient_checkpointing=not arguments.no_checkpointing,
    )


def _lorm(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from ..core.device import choose_device
    from ..lorm.checkpoint import load_configured
    from ..lorm.model.adapters import adapter_size
    from ..lorm.training.dataset import PeopleDataset, landmark_finder, read_names
    from ..lorm.training.trainer import TrainJob, train
    from ..lorm.weights import LormStageConfig
    from .console import ConsoleReport

    config, rank = _config(arguments), int(os.environ.get("LOCAL_RANK", "0"))
    device = choose_device(arguments.device, "--device")
    if device.type == "cuda" and "LOCAL_RANK" in os.environ:
        device = choose_device(f"cuda:{rank}", "--device")
    files = LormStageConfig(
        weights=arguments.weights, sapiens=arguments.sapiens, points=arguments.points
    )
    model = load_configured(files, device)
    people = PeopleDataset(arguments.data, model.mesh, read_names(arguments.list))
    job = TrainJob(people, arguments.out, config, arguments.cache, landmark_finder())
    console = Console(soft_wrap=True, quiet=rank > 0)
    console.print(adapter_size(model, config.rank, config.targets), highlight=False)
    with ConsoleReport(console) as report:
        path = train(model, job, report)
    if rank == 0:
        print(path)
        print("Made from LHM, so for research only: CC BY-NC 4.0.")
    return 0


def _occlusion(arguments: argparse.Namespace) -> int:
    import numpy as np
    from PIL import Image

    from ..core.crop import read_image
    from ..lorm.training.occlusion import stage_picture

    if arguments.rows < 1:
        raise SettingError("Draw at least one row.")
    image, mask = read_image(arguments.image), read_image(arguments.mask, "L")
    rows = [stage_picture(image, mask, seed=arguments.seed + k) for k in range(arguments.rows)]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows)).save(arguments.out)
    print(arguments.out)
    return 0


# crowdgaussian train completion

_COMPLETION = {
    name: name.replace("_", "-")
    for name in ("steps", "batch", "lr", "ema", "seed", "save_every", "sample_every")
}


def _add_completion(kinds: argparse._SubParsersAction) -> None:
    parser = kinds.add_parser(
        "completion", help="teach a network to colour what a photo does not show of a person"
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="of `data completion`")
    add_out(parser, TRAINING_GOES_ON)
    parser.add_argument("--start", type=Path, metavar="FILE", help="weights to begin with (none)")
    parser.late = _add_completion_settings
    parser.set_defaults(run=_completion)


def _add_completion_settings(parser: argparse.ArgumentParser) -> None:
    from ..completion.training import CompletionTraining

    add_fields(parser, CompletionTraining, _COMPLETION)


def _completion(arguments: argparse.Namespace) -> int:
    import torch
    from rich.console import Console

    from ..completion.layout import open_sheet
    from ..completion.model import CompletionNet
    from ..completion.stage import load_completion
    from ..completion.training import CompletionTrainer, CompletionTraining, save_trained
    from .console import ConsoleReport

    config, sheet = CompletionTraining(**given_fields(arguments, _COMPLETION)), open_sheet()
    torch.manual_seed(config.seed)
    start = arguments.start
    network = load_completion(start, sheet) if start else CompletionNet(sheet)
    trainer = CompletionTrainer(network, sheet, arguments.data, arguments.out, config)
    main_process = trainer.accelerator.is_main_process
    with ConsoleReport(Console(soft_wrap=True, quiet=not main_process)) as report:
        trainer.run(report)
    if main_process:
        print(save_trained(trainer, arguments.command_line))
    return 0


# Data: crowdgaussian data crowd-scenes | completion | people | thuman-eval

_SMALLER = {  # photo_fit for the small pictures that training looks at: 3 s a person on one core
    "avatar.gaussians": "8000",
    "avatar.max_crop_px": "480",
    "avatar.pose_steps": "4",
    "avatar.contour_steps": "4",
    "avatar.colour_steps": "40",
}
_SCANS = {name: name for name in ("count", "size", "seed")}
_NUMBERS = {
    name: name for name in ("scenes", "views", "rings", "size", "fewest", "most", "test", "seed")
}
_LESSONS = {name: name for name in ("geometries", "looks", "views", "seed")}


def add_data_command(commands: argparse._SubParsersAction) -> None:
    """Adds `data`."""
    parser = commands.add_parser("data", help="make data to train on and to measure with")
    kinds = parser.add_subparsers(title="what", required=True, metavar="WHAT")
    people = kinds.add_parser("people", help="made-up people, for `evaluate lorm`")
    people.add_argument("out", type=Path, metavar="OUT")
    people.add_argument("--count", type=int, default=4, metavar="N")
    people.add_argument("--size", type=int, default=256, metavar="PIXELS", help="of the views")
    people.add_argument("--seed", type=int, default=0)
    people.add_argument(
        "--dressed",
        type=Path,
        metavar="FOLDER",
        help="in clothes and hair cut from MakeHuman's base.obj (CC0) of that folder, or its own",
    )
    people.add_argument(
        "--held-out",
        action="store_true",
        help="with --dressed: in outfits and hair that no training data of ours shows",
    )
    people.set_defaults(run=_people)
    _add_scenes(kinds)
    _add_completion_data(kinds)
    _add_scans(kinds)


def _add_scenes(kinds: argparse._SubParsersAction) -> None:
    scenes = kinds.add_parser("crowd-scenes", help="crowds, true and coarse, from all around")
    scenes.add_argument("out", type=Path, metavar="OUT", help=RUN_GOES_ON)
    scenes.add_argument(
        "--coarse",
        action="append",
        choices=("damage", *STAGES, "estimated"),
        metavar="KIND",
        help="what the coarse pictures show: true people damaged (damage, the "
        "default), rebuilt from a photo of them with the true bodies and masks (photo_fit, lorm), "
        "or by the whole pipeline (estimated); given several times, scenes take turns",
    )
    scenes.add_argument(
        "--dressed",
        type=Path,
        metavar="FOLDER",
        help="made-up people in clothes and hair of their own surfaces, as for `data completion`",
    )
    add_mesh_options(scenes)
    add_preset(scenes, "data.crowd-scenes")
    add_changes(scenes, "change a setting of photo_fit or lorm, see `crowdgaussian settings`")
    scenes.late = _add_numbers
    scenes.set_defaults(run=_scenes)


def _add_completion_data(kinds: argparse._SubParsersAction) -> None:
    lessons = kinds.add_parser("completion", help="dressed people, for `train completion`")
    lessons.add_argument("out", type=Path, metavar="OUT", help=RUN_GOES_ON)
    lessons.add_argument(
        "--makehuman",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="holds MakeHuman's base.obj, and base/clothes and base/hair if wanted (CC0)",
    )
    lessons.late = _add_lessons
    lessons.set_defaults(run=_lessons)


def _add_numbers(parser: argparse.ArgumentParser) -> None:
    from ..refiner.training.dataset import ScenesConfig

    add_fields(parser, ScenesConfig, _NUMBERS)


def _add_scans(kinds: argparse._SubParsersAction) -> None:
    scans = kinds.add_parser(
        "thuman-eval", help="scanned people, for `evaluate lorm` (the paper's Tables 1 and 2)"
    )
    scans.add_argument("scans", type=Path, metavar="SCANS", help="in the layout of THuman2.1")
    add_out(scans, RUN_GOES_ON)
    scans.add_argument(
        "--list", type=Path, metavar="FILE", help="people named in this file, one a line"
    )
    scans.add_argument(
        "--body", type=Path, metavar="FILE", help="SMPL-X .npz that the bodies were fitted with"
    )
    scans.late = _add_scan_numbers
    scans.set_defaults(run=_scans_run)


def _add_scan_numbers(parser: argparse.ArgumentParser) -> None:
    from ..evaluate.subjects import ScansJob

    add_fields(parser, ScansJob, _SCANS)


def _scans_run(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from ..evaluate.subjects import ScansJob, write_scans
    from ..lorm.training.dataset import read_names
    from .console import ConsoleReport

    names = read_names(arguments.list)
    job = ScansJob(arguments.out, **given_fields(arguments, _SCANS), names=names)
    people, _ = scanned_people(arguments.scans, arguments.body, whole=False)
    console = Console(soft_wrap=True)
    with ConsoleReport(console) as report:
        written, refused = write_scans(people, job, report)
    for reason in refused.values():
        console.print(f"Left out: {reason}", markup=False, highlight=False)
    print(f"{len(written)} people in {arguments.out}, {len(refused)} left out.")
    return 0


def _add_lessons(parser: argparse.ArgumentParser) -> None:
    from ..synthetic.lessons import LessonsConfig

    add_fields(parser, LessonsConfig, _LESSONS)


def _lessons(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from ..body import load_body
    from ..synthetic.lessons import LessonsConfig, write_lessons
    from .console import ConsoleReport

    config = LessonsConfig(**given_fields(arguments, _LESSONS))
    with ConsoleReport(Console(soft_wrap=True)) as report:
        write_lessons(arguments.out, load_body("open"), arguments.makehuman, config, report)
    print(arguments.out)
    return 0


def _scenes(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from ..refiner.training.dataset import ESTIMATED, ScenesConfig, write_scenes
    from .console import ConsoleReport

    with_preset(arguments)
    numbers = given_fields(arguments, _NUMBERS)
    coarse = tuple(arguments.coarse or ("damage",))
    config = ScenesConfig(**numbers, coarse=coarse, changes=tuple(arguments.changes))
    if arguments.meshes and arguments.dressed:
        raise SettingError("Give --meshes or --dressed: people are scanned or made up.")
    if arguments.meshes:
        people, body = scanned_people(arguments.meshes, arguments.body)
        draw, draw_test = people.split()
        config = replace(config, people=f"{len(people.names)} of {arguments.meshes.resolve().name}")
    else:
        (draw, body), draw_test = made_up_people(arguments.dressed), None
        config = replace(config, people="dressed" if arguments.dressed else "")
    builders = {name: _builder(name, arguments.changes, body) for name in STAGES if name in coarse}
    if ESTIMATED in coarse:
        builders[ESTIMATED] = _pipeline(arguments.changes, body)
    with ConsoleReport(Console(soft_wrap=True)) as report:
        write_scenes(arguments.out, config, draw, report, builders, draw_test)
    print(arguments.out)
    return 0


def _builder(name: str, changes: list[str], body):
    """An appearance stage as the pipeline makes it."""
    from ..pipeline.config import configured
    from ..pipeline.stages import load_stage

    settings = {"stages.avatar": name, **_SMALLER, **read_changes(changes)}
    return load_stage("avatar", configured("open", settings), body)


def _pipeline(changes: list[str], body):
    """All stages that turn a photo into avatars, with photo_fit as for scenes."""
    from ..pipeline.config import configured
    from ..pipeline.stages import load_stage
    from ..synthetic.photo import WholePipeline

    config = configured("open", {**_SMALLER, **read_changes(changes)})
    people, segment = load_stage("people", config, body), load_stage("segment", config, body)
    return WholePipeline(people, segment, load_stage("avatar", config, body))


def _people(arguments: argparse.Namespace) -> int:
    from ..body import load_body
    from ..evaluate.subjects import write_people

    if arguments.count < 1 or not 32 <= arguments.size <= 2048:
        raise SettingError("Make at least one person, in views of 32 to 2048 pixels.")
    if arguments.held_out and arguments.dressed is None:
        raise SettingError("What is held out is worn: give --dressed too, with MakeHuman's folder.")
    given = arguments.count, arguments.size, arguments.seed, arguments.dressed, arguments.held_out
    for path in write_people(arguments.out, load_body("open"), *given):
        print(path)
    return 0
