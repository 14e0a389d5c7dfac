# SPDX-License-Identifier: Apache-2.0
"""Arrays of .npz files from other programs, each with the shape it must have."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.npz import ArrayHeader, read_npz

Shape = tuple[int | None, ...]


def array_names(file: Path) -> set[str]:
    """Names in an .npz file; none when it is not one."""
    try:
        with zipfile.ZipFile(file) as archive:
            return {name.removesuffix(".npy") for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile):
        return set()


def read_arrays(file: Path, needed: dict[str, Shape],
                optional: dict[str, Shape] | None = None) -> dict[str, np.ndarray]:
    """The arrays, float64.

    Args:
        file: the .npz file; arrays that are not asked for stay unread.
        needed: shape by name, None where any length will do.
        optional: the same for arrays that may be missing.

    Raises:
        CrowdGaussianError: names the file and the array that is missing or misshapen.
    """
    present = array_names(file)
    missing = sorted(set(needed) - present)
    if present and missing:
        raise CrowdGaussianError(f"{file}: {missing[0]} is missing.")
    wanted = needed | {n: shape for n, shape in (optional or {}).items() if n in present}

    def check(headers: Mapping[str, ArrayHeader]) -> None:
        for name, shape in wanted.items():
            check_shape(headers[name].shape, shape, f"{file}: {name}")
            if headers[name].dtype.kind not in "fiu":
                raise CrowdGaussianError(f"{file}: {name} must hold numbers.")

    arrays = read_npz(file, check, set(wanted), ours=False)
    return {name: array.astype(np.float64) for name, array in arrays.items()}


def check_shape(found: tuple[int, ...], wanted: Shape, what: str) -> None:
    """Raises CrowdGaussianError, which begins with `what`, unless the shape is as wanted."""
    if len(found) != len(wanted) or any(
            want not in (None, size) for want, size in zip(wanted, found)):
        raise CrowdGaussianError(f"{what} is {_words(found)}, it must be {_words(wanted)}.")


def _words(shape: Shape) -> str:
    return " x ".join("any" if size is None else str(size) for size in shape) or "a number"
