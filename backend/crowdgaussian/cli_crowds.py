# SPDX-License-Identifier: Apache-2.0
"""Whom crowds are made of, and what rebuilds them, for every command that makes crowds."""

import argparse
from pathlib import Path

from crowdgaussian_shared.errors import CrowdGaussianError

STAGES = ("photo_fit", "lorm")


def add_mesh_options(parser: argparse.ArgumentParser) -> None:
    """Adds --meshes and --body."""
    parser.add_argument("--meshes", type=Path, metavar="FOLDER",
                        help="textured scans with fitted bodies, as THuman2.1 has them, in place "
                             "of made-up people")
    parser.add_argument("--body", type=Path, metavar="FILE",
                        help="SMPL-X .npz that the scans' bodies were fitted with")


def made_up_people():
    """People who do not exist and their body model."""
    from .body import load_body
    from .refiner.actors import made_up_actor

    body = load_body("open")
    return lambda rng: made_up_actor(body, rng), body


def scanned_people(folder: Path, body_file: Path | None):
    """People of a folder and their body model.

    Raises:
        CrowdGaussianError: a package or the body model is missing, or the folder holds nobody.
    """
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
