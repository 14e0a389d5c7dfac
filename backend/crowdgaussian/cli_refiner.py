# SPDX-License-Identifier: Apache-2.0
"""crowdgaussian train refiner, evaluate refiner."""

import argparse
from pathlib import Path

from crowdgaussian_shared.errors import CrowdGaussianError


def add_training(kinds: argparse._SubParsersAction) -> None:
    """Adds `train refiner`."""
    parser = kinds.add_parser("refiner", help="teach a network to clean views of a crowd")
    parser.add_argument("data", type=Path, metavar="DATA", help="of `data crowd-scenes`")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT",
                        help="folder; an interrupted training goes on there")
    parser.add_argument("--base", type=Path, metavar="FOLDER",
                        help="SD-Turbo or SD 2.1-base; without it the small network is trained")
    parser.add_argument("--without-vgg", action="store_true",
                        help="leave out the losses LPIPS and Gram, which need VGG16")
    parser.add_argument("--no-scl", action="store_true", help="without Self-Calibrated Learning")
    parser.add_argument("--no-normals", action="store_true", help="without normal maps")
    parser.add_argument("--lr", type=float, metavar="N",
                        help="learning rate (1e-3, with --base 2e-5)")
    parser.add_argument("--crop", type=int, metavar="PIXELS", help="(128, with --base 512)")
    _add_numbers(parser, (("steps", 10_000, "how many"), ("batch", 2, "crops of a step"),
                          ("seed", 0, "of everything random"),
                          ("save-every", 500, "steps between checkpoints"),
                          ("sample-every", 500, "steps between pictures")))
    parser.set_defaults(run=_train)


def _add_numbers(parser: argparse.ArgumentParser, rows: tuple[tuple[str, int, str], ...]) -> None:
    """Whole numbers: name, default, what it means."""
    for name, value, text in rows:
        parser.add_argument(f"--{name}", type=int, default=value, metavar="N",
                            help=f"{text} (default {value})")


def add_evaluation(kinds: argparse._SubParsersAction) -> None:
    """Adds `evaluate refiner`."""
    parser = kinds.add_parser("refiner", help="PSNR and SSIM of refined views (Table 3)")
    parser.add_argument("data", type=Path, metavar="DATA", help="of `data crowd-scenes`")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT")
    parser.add_argument("--refiner", action="append", required=True, dest="refiners",
                        metavar="NAME=PATH", help="a small refiner's file, or SD-Turbo's folder")
    parser.set_defaults(run=_evaluate)


def _train(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from .console import ConsoleReport
    from .refiner.pairs import PairDataset
    from .refiner.perceptual import refiner_loss
    from .refiner.train_files import new_network, save_trained
    from .refiner.training import Trainer
    from .weights import local_path

    config = _training(arguments)
    data = PairDataset(arguments.data, "train")
    loss = refiner_loss(config.losses, local_path("vgg16"), local_path("lpips-vgg-heads"))
    network = new_network(arguments.base, not arguments.no_normals, config.seed)
    trainer = Trainer(network, data, arguments.out, config, loss)
    if arguments.without_vgg:
        print("Without VGG16: the losses are L2 and SSIM only.")
    with ConsoleReport(Console(soft_wrap=True)) as report:
        trainer.run(report)
    print(save_trained(network, arguments.out, config))
    return 0


def _training(arguments: argparse.Namespace):
    from .refiner.calibrated import CalibrationConfig
    from .refiner.losses import LossWeights
    from .refiner.training import RefinerTraining

    large = arguments.base is not None
    losses = LossWeights().without_vgg() if arguments.without_vgg else LossWeights()
    return RefinerTraining(
        steps=arguments.steps, batch=arguments.batch, seed=arguments.seed,
        crop=arguments.crop or (512 if large else 128),
        lr=arguments.lr or (2e-5 if large else 1e-3), losses=losses,
        save_every=arguments.save_every, sample_every=arguments.sample_every,
        calibration=CalibrationConfig(0.0) if arguments.no_scl else CalibrationConfig())


def _evaluate(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from .console import ConsoleReport
    from .evaluate.refiner import evaluate_refiners
    from .refiner.pairs import PairDataset
    from .refiner.train_files import load_any

    refiners = {}
    for text in arguments.refiners:
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            raise CrowdGaussianError(f"'--refiner {text}' is not understood; write NAME=PATH.")
        refiners[name] = load_any(Path(path))
    data = PairDataset(arguments.data, "test")
    with ConsoleReport(Console(soft_wrap=True)) as report:
        text = evaluate_refiners(data, arguments.out, refiners, report)
    print(text)
    print(arguments.out / "report.md")
    return 0
