# SPDX-License-Identifier: Apache-2.0
"""crowdgaussian train lorm | occlusion: LORM's adapters from pictures of single people."""

import argparse
import os
from pathlib import Path

from crowdgaussian_shared.errors import CrowdGaussianError


def add_commands(commands: argparse._SubParsersAction) -> argparse._SubParsersAction:
    """Adds `train`; returns where other things to train are added."""
    parser = commands.add_parser("train", help="train a network on your own data")
    kinds = parser.add_subparsers(title="what", required=True, metavar="WHAT")
    _add_lorm(kinds)
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
        "lorm", help="teach LHM to complete hidden people (not for commercial use)")
    parser.add_argument("data", type=Path, metavar="DATA", help="people; see docs/training.md")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT",
                        help="folder; an interrupted training goes on there")
    files = parser.add_argument_group("network")
    files.add_argument("--weights", default="3DAIGC/LHM-500M-HF", metavar="FOLDER")
    files.add_argument("--sapiens", default="", metavar="FILE")
    files.add_argument("--points", default="", metavar="FILE")
    files.add_argument("--device", default="", help="cuda, cuda:1 or cpu (default: a GPU)")
    files.add_argument("--cache", type=Path, metavar="FOLDER",
                       help="tokens and teacher's renders (default: OUT/cache)")
    group = parser.add_argument_group("training")
    for name, kind, text in _SETTINGS:
        group.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar="N", help=text)
    group.add_argument("--targets", help="samples, attention, attention+ff or all")
    group.add_argument("--rgb-weight", type=float, metavar="N", help="lambda_rgb (1)")
    group.add_argument("--ssim-weight", type=float, metavar="N", help="lambda_ssim (0.2)")
    group.add_argument("--no-checkpointing", action="store_true",
                       help="keep every layer in memory: faster, much more memory")
    parser.set_defaults(run=_lorm)


_SETTINGS = (
    ("iterations", int, "steps (2000)"), ("batch", int, "people a step on each GPU (1)"),
    ("views_per_step", int, "of the 24 views (24)"), ("render_size", int, "pixels (512)"),
    ("lr", float, "learning rate (1e-4)"), ("rank", int, "of the adapters (32)"),
    ("occlusions", int, "different ones of each person, cached; 0: always new (4)"),
    ("save_every", int, "steps between checkpoints (200)"),
    ("sample_every", int, "steps between pictures (200)"), ("seed", int, "of everything random"),
)


def _config(arguments: argparse.Namespace):
    from .lorm.losses import LossWeights
    from .lorm.train_config import TrainConfig

    names = [name for name, _, _ in _SETTINGS] + ["targets"]
    given = {name: getattr(arguments, name) for name in names
             if getattr(arguments, name) is not None}
    weights = {"rgb": arguments.rgb_weight, "ssim": arguments.ssim_weight}
    weights = {name: value for name, value in weights.items() if value is not None}
    return TrainConfig(**given, loss=LossWeights(**weights),
                       gradient_checkpointing=not arguments.no_checkpointing)


def _lorm(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from .console import ConsoleReport
    from .lorm.batches import choose_device
    from .lorm.dataset import PeopleDataset
    from .lorm.files import load_configured
    from .lorm.stage_config import LormStageConfig
    from .lorm.training import TrainJob, train

    config, rank = _config(arguments), int(os.environ.get("LOCAL_RANK", "0"))
    device = choose_device(arguments.device)
    if device.type == "cuda" and "LOCAL_RANK" in os.environ:
        device = choose_device(f"cuda:{rank}")
    files = LormStageConfig(weights=arguments.weights, sapiens=arguments.sapiens,
                            points=arguments.points)
    model = load_configured(files, device)
    people = PeopleDataset(arguments.data, model.mesh)
    console = Console(soft_wrap=True, quiet=rank > 0)
    with ConsoleReport(console) as report:
        path = train(model, TrainJob(people, arguments.out, config, arguments.cache), report)
    if rank == 0:
        print(path)
        print("Made from LHM, so for research only: CC BY-NC 4.0.")
    return 0


def _occlusion(arguments: argparse.Namespace) -> int:
    import numpy as np
    from PIL import Image

    from .lorm.image_files import read_image
    from .lorm.occlusion_picture import stage_picture

    if arguments.rows < 1:
        raise CrowdGaussianError("Draw at least one row.")
    image, mask = read_image(arguments.image), read_image(arguments.mask, "L")
    rows = [stage_picture(image, mask, seed=arguments.seed + k) for k in range(arguments.rows)]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows)).save(arguments.out)
    print(arguments.out)
    return 0
