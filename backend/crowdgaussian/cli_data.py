# SPDX-License-Identifier: Apache-2.0
"""crowdgaussian data crowd-scenes: true and coarse pictures of crowds to teach a refiner with."""

import argparse
from dataclasses import replace
from pathlib import Path

from crowdgaussian_shared.errors import CrowdGaussianError

STAGES = ("photo_fit", "lorm")
_SMALLER = {  # photo_fit for the small pictures that training looks at: 3 s a person on one core
    "avatar.gaussians": "8000", "avatar.max_crop_px": "480", "avatar.pose_steps": "4",
    "avatar.contour_steps": "4", "avatar.colour_steps": "40"}
_NUMBERS = (("scenes", 114, "how many"), ("views", 126, "of each"),
            ("rings", 0, "of the views, from where refinement looks; the others from a hemisphere"),
            ("size", 512, "of a view, pixels"), ("fewest", 2, "people"), ("most", 5, "people"),
            ("seed", 0, "of everything random"))


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Adds `data`."""
    parser = commands.add_parser("data", help="make data to train on")
    kinds = parser.add_subparsers(title="what", required=True, metavar="WHAT")
    scenes = kinds.add_parser("crowd-scenes", help="crowds, true and coarse, from all around")
    scenes.add_argument("out", type=Path, metavar="OUT",
                        help="folder; an interrupted run goes on there")
    scenes.add_argument("--coarse", action="append", choices=("damage", *STAGES), metavar="KIND",
                        help="what the coarse pictures show: true people damaged (damage, the "
                             "default), or rebuilt from a photo of them (photo_fit, lorm); given "
                             "several times, scenes take turns")
    scenes.add_argument("--meshes", type=Path, metavar="FOLDER",
                        help="textured scans with fitted bodies, as THuman2.1 has them, in place "
                             "of made-up people")
    scenes.add_argument("--body", type=Path, metavar="FILE",
                        help="SMPL-X .npz that the scans' bodies were fitted with")
    scenes.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="changes",
                        help="change a setting of photo_fit or lorm, see `crowdgaussian settings`")
    for name, value, text in _NUMBERS:
        scenes.add_argument(f"--{name}", type=int, default=value, metavar="N",
                            help=f"{text} (default {value})")
    scenes.set_defaults(run=_scenes)


def _scenes(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from .console import ConsoleReport
    from .refiner.pairs import ScenesConfig, write_scenes

    numbers = {name: getattr(arguments, name) for name, _, _ in _NUMBERS}
    coarse = tuple(arguments.coarse or ("damage",))
    config = ScenesConfig(**numbers, coarse=coarse, changes=tuple(arguments.changes))
    if arguments.meshes:
        draw, body = _scanned(arguments.meshes, arguments.body)
        config = replace(config, people=f"{len(draw.names)} of {arguments.meshes.resolve().name}")
    else:
        draw, body = _made_up()
    builders = {name: _builder(name, arguments.changes, body) for name in STAGES if name in coarse}
    with ConsoleReport(Console(soft_wrap=True)) as report:
        write_scenes(arguments.out, config, draw, report, builders)
    print(arguments.out)
    return 0


def _made_up():
    from .body import load_body
    from .refiner.actors import made_up_actor

    body = load_body("open")
    return lambda rng: made_up_actor(body, rng), body


def _scanned(folder: Path, body_file: Path | None):
    """People of a folder and their body model."""
    from .body import load_body
    from .body.smplx_body import find_smplx
    from .weights import local_path

    try:
        from .refiner.mesh_people import MeshPeople, body_of, read_hands
    except ImportError as error:
        raise CrowdGaussianError("Scans are read with trimesh: "
                                 'pip install "crowdgaussian[train]".') from error
    if body_of(folder) == "open":
        body = load_body("open")
        return MeshPeople(folder, body), body
    found = body_file or local_path("smplx")
    if found is None:
        raise CrowdGaussianError(
            f"The bodies of {folder} are SMPL-X: give --body SMPLX_MALE.npz or SMPLX_NEUTRAL.npz, "
            "the one they were fitted with, from smpl-x.is.tue.mpg.de (not for commercial use).")
    found = find_smplx(found)
    body = load_body("smplx", found)
    return MeshPeople(folder, body, read_hands(found)), body


def _builder(name: str, changes: list[str], body):
    """An appearance stage as the pipeline makes it."""
    from .config import configured
    from .stages import load_stage

    settings = {"stages.avatar": name, **_SMALLER}
    for text in changes:
        setting, equals, value = text.partition("=")
        if not equals:
            raise CrowdGaussianError(f"'--set {text}' needs a value; write --set NAME=VALUE.")
        settings[setting] = value
    return load_stage("avatar", configured("open", settings), body)
