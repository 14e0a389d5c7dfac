# SPDX-License-Identifier: Apache-2.0
"""Files that torch.save wrote, read without unpickling anything but tensors."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from crowdgaussian_shared.errors import CrowdGaussianError

from .arrays import Shape, check_shape

MAX_BYTES = 4 << 30


def read_tensors(file: Path) -> Any:
    """Whatever of dicts, lists, numbers and tensors the file holds, on the CPU.

    Raises:
        CrowdGaussianError: it is damaged, too large, or holds Python objects.
    """
    try:
        if file.stat().st_size > MAX_BYTES:
            raise CrowdGaussianError(f"{file} is larger than 4 GiB; save the results only.")
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CrowdGaussianError(
            f"{file} holds Python objects, which are not read; save tensors with torch.save."
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise CrowdGaussianError(
            f"{file} cannot be read as a file of torch.save; run the estimator again.") from error


def tensor(record: Any, name: str, shape: Shape, file: Path) -> np.ndarray:
    """A tensor of a dictionary with the wanted shape.  # float64

    Args:
        record: the dictionary.
        name: of the tensor.
        shape: None where any length will do.
        file: for the message.

    Raises:
        CrowdGaussianError: it is missing or has another shape.
    """
    value = record.get(name) if isinstance(record, dict) else None
    if not isinstance(value, torch.Tensor | np.ndarray):
        raise CrowdGaussianError(f"{file}: {name} is missing.")
    array = np.asarray(value.detach().double() if isinstance(value, torch.Tensor) else value,
                       np.float64)
    check_shape(array.shape, shape, f"{file}: {name}")
    return array
