# SPDX-License-Identifier: Apache-2.0
"""The networks that a refiner can be trained from, and what their licences ask for."""

from dataclasses import dataclass
from pathlib import Path

from ..weights import find, local_path, require
from .used_files import BASES

_OWN_FOLDER = ("that of the network in the folder: Stability AI Community License for SD-Turbo, "
               "CreativeML OpenRAIL++-M for SD 2.1-base")


@dataclass(frozen=True)
class Base:
    """One of them on this machine."""

    folder: Path
    name: str
    licence: str


def find_base(text: str) -> Base:
    """A name of the catalogue, or a folder.

    Raises:
        CrowdGaussianError: the named network is not on this machine, or there is no such folder.
    """
    if text in BASES:
        return Base(require(text), text, find(text).licence)
    folder = Path(text)
    for name in BASES:
        place = local_path(name)
        if place is not None and folder.exists() and place.samefile(folder):
            return Base(folder, name, find(name).licence)
    return Base(folder, folder.name, _OWN_FOLDER)
