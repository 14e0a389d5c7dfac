# SPDX-License-Identifier: Apache-2.0
"""Read named arrays from a .npz, never running code that the file may carry."""

from collections.abc import Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from crowdgaussian_shared.errors import CrowdGaussianError


def read_arrays(path: Path, keys: Sequence[str], what: str) -> dict[str, np.ndarray]:
    """The arrays of a .npz.

    Args:
        path: the file.
        keys: the arrays that must be there.
        what: what the file should be, for the message.

    Raises:
        CrowdGaussianError: the file is missing, unreadable or lacks a key.
    """
    if not path.is_file():
        raise CrowdGaussianError(f"The file of {what} is missing: {path}.")
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [key for key in keys if key not in archive]
            arrays = {key: archive[key] for key in keys if key in archive}
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise CrowdGaussianError(f"{path} cannot be read as {what}: {error}.") from error
    if missing:
        raise CrowdGaussianError(
            f"{path} is not {what}: it lacks {', '.join(missing)}; use the original .npz file."
        )
    return arrays
