# SPDX-License-Identifier: Apache-2.0
"""crowdgaussian train refiner | evaluate refiner: Table 3 of the paper."""

import argparse
from pathlib import Path

from crowdgaussian_shared.errors import SettingError

from .options import (
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

_CROWD_GAUSSIANS = "8000"  # of a person of evaluated crowds, enough for their views
_REFINER = {
    name: name.replace("_", "-")
    for name in ("lr", "crop", "ema", "steps", "batch", "seed", "save_every", "sample_every")
}
_SHARES = {"clean": "scl", "half_clean": "half-clean"}
_TERMS = {
    name: name.replace("_", "-")
    for name in ("l2", "lpips", "ssim", "gram", "gram_after", "lpips_after")
}


def add_training(kinds: argparse._SubParsersAction) -> None:
    """Adds `train refiner`."""
    parser = kinds.add_parser("refiner", help="teach a network to clean views of a crowd")
    parser.add_argument("data", type=Path, metavar="DATA", help="of `data crowd-scenes`")
    add_out(parser, TRAINING_GOES_ON)
    _add_network(parser)
    add_preset(parser, "train.refiner")
    parser.late = _add_refiner_settings
    parser.set_defaults(run=_train)


def _add_network(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--base",
        metavar="BASE",
        help="sd-turbo, sd-2.1-base, or a folder with one of them as diffusers "
        "saves it; without it the small network is trained",
    )
    parser.add_argument(
        "--start", type=Path, metavar="FILE", help="go on from a trained small network's weights"
    )
    parser.add_argument("--no-normals", action="store_true", help="without normal maps")
    parser.add_argument(
        "--skips", action="store_true", help="with --base: from the VAE's encoder to its decoder"
    )
    parser.add_argument(
        "--decoder-alpha",
        type=int,
        metavar="N",
        help="with --base: of LoRA of rank 4 in the VAE's decoder (4; Difix 8)",
    )


def _add_refiner_settings(parser: argparse.ArgumentParser) -> None:
    from ..refiner.training.losses import (
        LPIPS,
        ST_LPIPS,
        CalibrationConfig,
        RefinerLossWeights,
        RefinerTraining,
    )

    add_fields(parser, RefinerTraining, _REFINER)
    clean = parser.add_argument_group("Self-Calibrated Learning")
    add_fields(clean, CalibrationConfig, _SHARES)
    clean.add_argument("--no-scl", action="store_true", help="none")
    losses = parser.add_argument_group("weights of the losses; 0 leaves one out")
    add_fields(losses, RefinerLossWeights, _TERMS)
    losses.add_argument(
        "--perceptual",
        choices=(LPIPS, ST_LPIPS),
        help="whose VGG16 the losses LPIPS and Gram look through: torchvision's (lpips), or that "
        "of the package stlpips_pytorch (st-lpips), which is another distance",
    )
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
    parser.add_argument(
        "--dressed", type=Path, metavar="FOLDER", help="of --crowds, as for `data crowd-scenes`"
    )
    add_preset(parser, "evaluate.refiner")
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
        choices=(*STAGES, DAMAGE),
        help=f"what makes the avatars of --crowds ({CrowdsJob.stage_1}); damage: clean ones are "
        "harmed as in training data",
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

    with_preset(arguments)
    config = _training(arguments)
    data = PairDataset(arguments.data, "train")
    loss = refiner_loss(config.losses, local_path("vgg16"), local_path("lpips-vgg-heads"))
    base = find_base(arguments.base) if arguments.base else None
    network = new_network(base, config.seed, arguments.start, **_changes(arguments))
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


def _changes(arguments: argparse.Namespace) -> dict[str, bool | int]:
    """What is not as usual in the network."""
    changes: dict[str, bool | int] = {"normals": not arguments.no_normals}
    if arguments.skips:
        changes["skips"] = True
    if arguments.decoder_alpha is not None:
        changes["alpha"] = arguments.decoder_alpha
    return changes


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
    from ..refiner.training.losses import ST_LPIPS, WITH_ST_LPIPS, RefinerLossWeights

    weights = given_fields(arguments, _TERMS)
    if arguments.perceptual == ST_LPIPS:
        weights = WITH_ST_LPIPS | weights
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

    with_preset(arguments)
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
        scanned_people(arguments.meshes, arguments.body)
        if arguments.meshes
        else made_up_people(arguments.dressed)
    )
    changes = {"avatar.gaussians": _CROWD_GAUSSIANS, **read_changes(arguments.changes)}
    stage_1 = arguments.stage_1 or CrowdsJob.stage_1
    damage = stage_1 == DAMAGE
    config = configured("open", changes | ({} if damage else {"stages.avatar": stage_1}))
    builder = None if damage else load_stage("avatar", config, body)
    job = CrowdsJob(
        out,
        arguments.crowds,
        **given_fields(arguments, _CROWDS),
        stage_1=stage_1,
        refine=config.refine,
        made_up=not arguments.meshes,
    )
    return evaluate_crowds(job, draw, builder, refiners, report).markdown()
