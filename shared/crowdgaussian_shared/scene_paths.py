# SPDX-License-Identifier: Apache-2.0
"""Paths inside a scene folder: relative, forward slashes, never out of the folder."""

from pathlib import Path, PurePosixPath, PureWindowsPath

from .errors import CrowdGaussianError


def check_relative(path: str, where: str) -> str:
    """Return the path if it stays inside its folder on every platform.

    Args:
        path: a relative path with forward slashes.
        where: the file and field it was read from, for the message.

    Raises:
        CrowdGaussianError: an absolute path, a drive, a `..`, a backslash or an empty path.
    """
    posix, windows = PurePosixPath(path), PureWindowsPath(path)
    outside = posix.is_absolute() or windows.drive or windows.root or ".." in posix.parts
    if outside or "\\" in path or "\0" in path or not posix.parts:
        raise CrowdGaussianError(f"{where} must be a relative path inside the scene folder.")
    return path


def resolve_inside(folder: Path, path: str, where: str) -> Path:
    """The full path of a relative one; links that lead out of the folder are refused too.

    Raises:
        CrowdGaussianError: the path leaves the folder.
    """
    full = folder / check_relative(path, where)
    if not full.resolve().is_relative_to(folder.resolve()):
        raise CrowdGaussianError(f"{where} leads out of the scene folder.")
    return full
