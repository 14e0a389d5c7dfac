# SPDX-License-Identifier: Apache-2.0
"""crowdgaussian train: LORM's adapters, the completion network, the refiners."""

import argparse
import os
from pathlib import Path

from crowdgaussian_shared.errors import SettingError

from .options import (
    STAGES,
    add_changes,
    add_fields,
    add_mesh_options,
    add_out,
    given_fields,
    made_up_people,
    read_changes,
    scanned_people,
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


# crowdgaussian train refiner, evaluate refiner

_CROWD_GAUSSIANS = "8000"  # of a person of evaluated crowds, enough for their views
_REFINER = {
    name: name.replace("_", "-")
    for name in ("lr", "crop", "ema", "steps", "batch", "seed", "save_every", "sample_every")
}
_SHARES = {"clean": "scl", "half_clean": "half-clean"}
_TERMS = {"l2": "l2", "lpips": "lpips", "ssim": "ssim", "gram": "gram", "gram_after": "gram-after"}


def add_training(kinds: argparse._SubParsersAction) -> None:
    """Adds `train refiner`."""
    parser = kinds.add_parser("refiner", help="teach a network to clean views of a crowd")
    parser.add_argument("data", type=Path, metavar="DATA", help="of `data crowd-scenes`")
    add_out(parser, _GOES_ON)
    _add_network(parser)
    parser.late = _add_refiner_settings
    parser.set_defaults(run=_train)


def _add_network(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--base",
        metavar="BASE",
        help="sd-turbo, sd-2.1-base, or a folder with one of them as diffusers "
        "saves it; without it the small network is trained",
    )
    parser.add_argument("--no-normals", action="store_true", help="without normal maps")
    parser.add_argument(
        "--skips", action="store_true", help="with --base: from the VAE's encoder to its decoder"
    )


def _add_refiner_settings(parser: argparse.ArgumentParser) -> None:
    from ..refiner.training.losses import CalibrationConfig, RefinerLossWeights, RefinerTraining

    add_fields(parser, RefinerTraining, _REFINER)
    clean = parser.add_argument_group("Self-Calibrated Learning")
    add_fields(clean, CalibrationConfig, _SHARES)
    clean.add_argument("--no-scl", action="store_true", help="none")
    losses = parser.add_argument_group("weights of the losses; 0 leaves one out")
    add_fields(losses, RefinerLossWeights, _TERMS)
    losses.add_argument(
        "--without-vgg", action="store_true", help="leave out LPIPS and Gram, which need VGG16"
    )


def add_evaluation(kinds: argparse._SubParsersAction) -> None:
    """Adds `evaluate refiner`."""
    parser = kinds.add_parser(
        "refiner", help="refined views (Table 3) and refined crowds against the truth"
    )
    parser.add_argument(
        "data",
        type=Path,
        nargs="?",
        metavar="DATA",
        help="of `data crowd-scenes`: refine its test views",
    )
    add_out(parser)
    parser.add_argument(
        "--refiner",
        action="append",
        required=True,
        dest="refiners",
        metavar="NAME=PATH",
        help="a small refiner's file, or the folder of one on SD-Turbo, trained or plain",
    )
    add_mesh_options(parser)
    add_changes(parser, "change a setting of the stages, see `crowdgaussian settings`")
    parser.late = _add_crowds
    parser.set_defaults(run=_evaluate)


_CROWDS = {name: name for name in ("people", "seed", "views", "size")}


def _add_crowds(parser: argparse.ArgumentParser) -> None:
    from ..evaluate.crowds.run import CrowdsJob
    from ..refiner.training.dataset import DAMAGE

    parser.add_argument(
        "--crowds", type=int, default=0, metavar="N", help="refine that many crowds too (none)"
    )
    parser.add_argument(
        "--stage-1",
        default=CrowdsJob.stage_1,
        choices=(*STAGES, DAMAGE),
        help="what makes the avatars of --crowds (%(default)s); damage: clean ones are harmed as "
        "in training data",
    )
    add_fields(parser, CrowdsJob, _CROWDS)


def _train(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from ..refiner.training.dataset import PairDataset
    from ..refiner.training.losses import refiner_loss
    from ..refiner.training.trainer import RefinerTrainer, new_network, save_trained, training_facts
    from ..refiner.types import find_base
    from ..weights import local_path
    from .console import ConsoleReport

    config = _training(arguments)
    data = PairDataset(arguments.data, "train")
    loss = refiner_loss(config.losses, local_path("vgg16"), local_path("lpips-vgg-heads"))
    base = find_base(arguments.base) if arguments.base else None
    network = new_network(base, not arguments.no_normals, config.seed, arguments.skips)
    trainer = RefinerTrainer(network, data, arguments.out, config, loss)
    console = Console(soft_wrap=True, quiet=not trainer.accelerator.is_main_process)
    console.print(f"Losses: {config.losses.in_words()}.", highlight=False, markup=False)
    with ConsoleReport(console) as report:
        trainer.run(report)
    if trainer.accelerator.is_main_process:
        facts = training_facts(config, data, base, arguments.command_line)
        with trainer.averaged():
            print(save_trained(network, arguments.out, facts))
    return 0


def _training(arguments: argparse.Namespace):
    from ..refiner.training.losses import WITH_BASE, CalibrationConfig, RefinerTraining

    shares = given_fields(arguments, _SHARES)
    if arguments.no_scl and any(shares.values()):
        raise SettingError("Give --no-scl, or the shares --scl and --half-clean, not both.")
    if arguments.no_scl:
        shares["clean"] = 0.0
    usual = {} if arguments.base is None else WITH_BASE
    return RefinerTraining(
        **(usual | given_fields(arguments, _REFINER)),
        losses=_losses(arguments),
        calibration=CalibrationConfig(**shares),
    )


def _losses(arguments: argparse.Namespace):
    from ..refiner.training.losses import RefinerLossWeights

    weights = given_fields(arguments, _TERMS)
    if arguments.without_vgg and (weights.get("lpips") or weights.get("gram")):
        raise SettingError(
            "The losses LPIPS and Gram need VGG16; leave out --without-vgg, or --lpips and --gram."
        )
    losses = RefinerLossWeights(**weights)
    return losses.without_vgg() if arguments.without_vgg else losses


def _evaluate(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from ..evaluate.refiner import evaluate_refiners
    from ..refiner.training.dataset import PairDataset
    from .console import ConsoleReport

    if arguments.data is None and arguments.crowds < 1:
        raise SettingError("There is nothing to evaluate; give DATA, or --crowds 5.")
    refiners = _refiners(arguments.refiners)
    texts = []
    with ConsoleReport(Console(soft_wrap=True)) as report:
        if arguments.data is not None:
            data = PairDataset(arguments.data, "test")
            texts += [
                evaluate_refiners(data, arguments.out, refiners, report),
                str(arguments.out / "report.md"),
            ]
        if arguments.crowds:
            out = arguments.out / "crowds"
            texts += [_evaluate_crowds(arguments, out, refiners, report), str(out / "report.md")]
    print("\n".join(texts))
    return 0


def _refiners(options: list[str]) -> dict:
    """Refiners by name, on the best device."""
    from ..core.device import choose_device
    from ..refiner.training.trainer import load_any

    refiners = {}
    for text in options:
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            raise SettingError(f"'--refiner {text}' is not understood; write NAME=PATH.")
        refiners[name] = load_any(Path(path)).to(choose_device())
    return refiners


def _evaluate_crowds(arguments: argparse.Namespace, out: Path, refiners: dict, report) -> str:
    from ..evaluate.crowds.run import CrowdsJob, evaluate_crowds
    from ..pipeline.config import configured
    from ..pipeline.stages import load_stage
    from ..refiner.training.dataset import DAMAGE

    draw, body = (
        scanned_people(arguments.meshes, arguments.body) if arguments.meshes else made_up_people()
    )
    changes = {"avatar.gaussians": _CROWD_GAUSSIANS, **read_changes(arguments.changes)}
    damage = arguments.stage_1 == DAMAGE
    config = configured("open", changes | ({} if damage else {"stages.avatar": arguments.stage_1}))
    builder = None if damage else load_stage("avatar", config, body)
    job = CrowdsJob(
        out,
        arguments.crowds,
        **given_fields(arguments, _CROWDS),
        stage_1=arguments.stage_1,
        refine=config.refine,
        made_up=not arguments.meshes,
    )
    return evaluate_crowds(job, draw, builder, refiners, report).markdown()
