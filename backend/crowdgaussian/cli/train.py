# SPDX-License-Identifier: Apache-2.0
"""crowdgaussian train: LORM's adapters, the completion network."""

import argparse
import os
from pathlib import Path

from crowdgaussian_shared.errors import SettingError

from .options import (
    add_fields,
    add_out,
    given_fields,
)

_GOES_ON = "folder; an interrupted training goes on there"


def add_commands(commands: argparse._SubParsersAction) -> argparse._SubParsersAction:
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
    add_out(parser, _GOES_ON)
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
    add_out(parser, _GOES_ON)
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
