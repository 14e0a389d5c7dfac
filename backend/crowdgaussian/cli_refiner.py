# SPDX-License-Identifier: Apache-2.0
"""crowdgaussian train refiner, evaluate refiner."""

import argparse
from pathlib import Path

from crowdgaussian_shared.errors import CrowdGaussianError

from .cli_crowds import STAGES, add_mesh_options, made_up_people, scanned_people
from .cli_settings import add_numbers, read_changes

_CROWD_GAUSSIANS = "8000"  # of a person of evaluated crowds, enough for their views
_LOSSES = (("l2", "squared difference (1)"), ("lpips", "LPIPS (1)"), ("ssim", "SSIM (0.2)"),
           ("gram", "Gram matrices (1)"))


def add_training(kinds: argparse._SubParsersAction) -> None:
    """Adds `train refiner`."""
    parser = kinds.add_parser("refiner", help="teach a network to clean views of a crowd")
    parser.add_argument("data", type=Path, metavar="DATA", help="of `data crowd-scenes`")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT",
                        help="folder; an interrupted training goes on there")
    parser.add_argument("--base", metavar="BASE",
                        help="sd-turbo, sd-2.1-base, or a folder with one of them as diffusers "
                             "saves it; without it the small network is trained")
    parser.add_argument("--no-normals", action="store_true", help="without normal maps")
    parser.add_argument("--skips", action="store_true",
                        help="with --base: from the VAE's encoder to its decoder")
    parser.add_argument("--lr", type=float, metavar="N",
                        help="learning rate (1e-3, with --base 2e-5)")
    parser.add_argument("--crop", type=int, metavar="PIXELS", help="(128, with --base 512)")
    parser.add_argument("--ema", type=float, default=0.0, metavar="DECAY",
                        help="average the weights over steps and give the average (such as 0.999)")
    add_numbers(parser, (("steps", 10_000, "how many"),
                         ("batch", 2, "crops of a step in each process"),
                         ("seed", 0, "of everything random"),
                         ("save-every", 500, "steps between checkpoints"),
                         ("sample-every", 500, "steps between pictures")))
    clean = parser.add_argument_group("Self-Calibrated Learning")
    clean.add_argument("--scl", type=float, metavar="P",
                       help="share of inputs that are clean already (0.3)")
    clean.add_argument("--no-scl", action="store_true", help="none")
    clean.add_argument("--half-clean", type=float, metavar="P",
                       help="share of inputs that are clean in part (0)")
    losses = parser.add_argument_group("weights of the losses; 0 leaves one out")
    for name, text in _LOSSES:
        losses.add_argument(f"--{name}", type=float, metavar="N", help=text)
    losses.add_argument("--gram-after", type=int, metavar="STEPS", help="without Gram (2000)")
    losses.add_argument("--without-vgg", action="store_true",
                        help="leave out LPIPS and Gram, which need VGG16")
    parser.set_defaults(run=_train)


def add_evaluation(kinds: argparse._SubParsersAction) -> None:
    """Adds `evaluate refiner`."""
    parser = kinds.add_parser(
        "refiner", help="refined views (Table 3) and refined crowds against the truth")
    parser.add_argument("data", type=Path, nargs="?", metavar="DATA",
                        help="of `data crowd-scenes`: refine its test views")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT")
    parser.add_argument("--refiner", action="append", required=True, dest="refiners",
                        metavar="NAME=PATH", help="a small refiner's file, or the folder of one on "
                             "SD-Turbo, trained or plain")
    add_mesh_options(parser)
    parser.add_argument("--stage-1", default="photo_fit", choices=(*STAGES, "damage"),
                        help="what makes the avatars of --crowds (default photo_fit); damage: "
                             "clean ones are harmed as in training data")
    add_numbers(parser, (("crowds", 0, "refine that many crowds too"),
                         ("people", 6, "of a crowd"), ("seed", 0, "of the crowds"),
                         ("views", 12, "held out, of each crowd"),
                         ("size", 320, "of a view, pixels")))
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="changes",
                        help="change a setting of the stages, see `crowdgaussian settings`")
    parser.set_defaults(run=_evaluate)


def _train(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from .console import ConsoleReport
    from .refiner.bases import find_base
    from .refiner.card import training_facts
    from .refiner.pairs import PairDataset
    from .refiner.perceptual import refiner_loss
    from .refiner.train_files import new_network, save_trained
    from .refiner.training import Trainer
    from .weights import local_path

    config = _training(arguments)
    data = PairDataset(arguments.data, "train")
    loss = refiner_loss(config.losses, local_path("vgg16"), local_path("lpips-vgg-heads"))
    base = find_base(arguments.base) if arguments.base else None
    network = new_network(base, not arguments.no_normals, config.seed, arguments.skips)
    trainer = Trainer(network, data, arguments.out, config, loss)
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
    from .refiner.calibrated import CalibrationConfig
    from .refiner.train_config import RefinerTraining

    large = arguments.base is not None
    shares = {"clean": 0.0 if arguments.no_scl else arguments.scl,
              "half_clean": arguments.half_clean}
    if arguments.no_scl and (arguments.scl or arguments.half_clean):
        raise CrowdGaussianError("Give --no-scl, or the shares --scl and --half-clean, not both.")
    return RefinerTraining(
        steps=arguments.steps, batch=arguments.batch, seed=arguments.seed,
        crop=arguments.crop or (512 if large else 128), ema=arguments.ema,
        lr=(2e-5 if large else 1e-3) if arguments.lr is None else arguments.lr,
        losses=_losses(arguments), calibration=CalibrationConfig(**_given(shares)),
        save_every=arguments.save_every, sample_every=arguments.sample_every)


def _losses(arguments: argparse.Namespace):
    from .refiner.losses import LossWeights

    weights = _given({name: getattr(arguments, name) for name, _ in _LOSSES}
                     | {"gram_after": arguments.gram_after})
    if arguments.without_vgg and (weights.get("lpips") or weights.get("gram")):
        raise CrowdGaussianError("The losses LPIPS and Gram need VGG16; leave out --without-vgg, "
                                 "or --lpips and --gram.")
    losses = LossWeights(**weights)
    return losses.without_vgg() if arguments.without_vgg else losses


def _given(options: dict) -> dict:
    """Those that the command line gave."""
    return {name: value for name, value in options.items() if value is not None}


def _evaluate(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from .console import ConsoleReport
    from .evaluate.refiner import evaluate_refiners
    from .refiner.pairs import PairDataset

    if arguments.data is None and arguments.crowds < 1:
        raise CrowdGaussianError("There is nothing to evaluate; give DATA, or --crowds 5.")
    refiners = _refiners(arguments.refiners)
    texts = []
    with ConsoleReport(Console(soft_wrap=True)) as report:
        if arguments.data is not None:
            data = PairDataset(arguments.data, "test")
            texts += [evaluate_refiners(data, arguments.out, refiners, report),
                      str(arguments.out / "report.md")]
        if arguments.crowds:
            out = arguments.out / "crowds"
            texts += [_evaluate_crowds(arguments, out, refiners, report), str(out / "report.md")]
    print("\n".join(texts))
    return 0


def _refiners(options: list[str]) -> dict:
    """Refiners by name, on the best device."""
    import torch

    from .refiner.train_files import load_any

    refiners = {}
    for text in options:
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            raise CrowdGaussianError(f"'--refiner {text}' is not understood; write NAME=PATH.")
        refiners[name] = load_any(Path(path)).to("cuda" if torch.cuda.is_available() else "cpu")
    return refiners


def _evaluate_crowds(arguments: argparse.Namespace, out: Path, refiners: dict, report) -> str:
    from .config import configured
    from .evaluate.refined_crowd import CrowdsJob, evaluate_crowds
    from .refiner.pairs import DAMAGE
    from .stages import load_stage

    draw, body = (scanned_people(arguments.meshes, arguments.body) if arguments.meshes
                  else made_up_people())
    changes = {"avatar.gaussians": _CROWD_GAUSSIANS, **read_changes(arguments.changes)}
    damage = arguments.stage_1 == DAMAGE
    config = configured("open", changes | ({} if damage else {"stages.avatar": arguments.stage_1}))
    builder = None if damage else load_stage("avatar", config, body)
    job = CrowdsJob(out, arguments.crowds, arguments.people, arguments.seed, arguments.views,
                    arguments.size, stage_1=arguments.stage_1, refine=config.refine,
                    made_up=not arguments.meshes)
    return evaluate_crowds(job, draw, builder, refiners, report).markdown()
