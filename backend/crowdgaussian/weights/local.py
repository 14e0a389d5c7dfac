# SPDX-License-Identifier: Apache-2.0
"""Where fetched model files lie on this machine."""

import os
import sys
from pathlib import Path

from crowdgaussian_shared.errors import CrowdGaussianError

from .remote import RemoteWeights, Source
from .table import find

VARIABLE = "CROWDGAUSSIAN_WEIGHTS"


def weights_folder() -> Path:
    """The folder of all fetched weights: $CROWDGAUSSIAN_WEIGHTS, or the platform's user cache."""
    if named := os.environ.get(VARIABLE):
        return Path(named).expanduser()
    return _user_cache() / "crowdgaussian" / "weights"


def _user_cache() -> Path:
    home = Path.home()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    if sys.platform == "darwin":
        return home / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")


def folder_of(entry: RemoteWeights) -> Path:
    """The folder of one model, whether or not it is there."""
    return weights_folder() / entry.name


def files_of(entry: RemoteWeights) -> list[Path]:
    """Its files, whether or not they are there."""
    return [folder_of(entry) / file.name for file in entry.files]


def local_path(name: str) -> Path | None:
    """The file of a model, or its folder where it has several files; None where one is missing.

    Raises:
        CrowdGaussianError: there is no such entry.
    """
    entry = find(name)
    files = files_of(entry)
    if not all(file.is_file() for file in files):
        return None
    return files[0] if len(files) == 1 else folder_of(entry)


def require(name: str) -> Path:
    """As local_path.

    Raises:
        CrowdGaussianError: it is not there; the sentence says how to get it.
    """
    path = local_path(name)
    if path is None:
        way = how(find(name))
        raise CrowdGaussianError(f"The weights '{name}' are not on this machine: {way}.")
    return path


def how(entry: RemoteWeights) -> str:
    """How to get a model, without a full stop."""
    if entry.source is Source.MANUAL:
        return entry.instructions.format(folder=folder_of(entry))
    gate = f" (first, at {entry.page}: {entry.gated})" if entry.gated else ""
    return f"run `crowdgaussian weights fetch {entry.name}`{gate}"
