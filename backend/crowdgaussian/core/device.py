# SPDX-License-Identifier: Apache-2.0
"""The device torch computes on: which one, what to say when its memory is full, there and back."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from crowdgaussian_shared.errors import OutOfMemoryError, SettingError
from torch import Tensor

_SAYINGS = (  # in which torch tells that memory ran out
    "can't allocate memory",  # torch on a CPU: "DefaultCPUAllocator: can't allocate memory: ..."
    "not enough memory",  # the same on Windows
    "could not create a memory",  # oneDNN
    "out of memory",  # CUDA's drivers, MPS
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


def choose_device(name: str = "", setting: str = "the device") -> torch.device:
    """The device of that name, or a GPU where there is one for an empty name.

    Args:
        name: "cuda", "cuda:1", "cpu" or empty, as torch names devices.
        setting: what the user set to that name; the error says it.

    Raises:
        SettingError: there is no such device here.
    """
    if not name:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise SettingError(
            f"There is no device '{name}' on this machine; leave {setting} empty or use cpu."
        ) from error
    return device


@contextmanager
def within_memory(sentence: str) -> Iterator[None]:
    """Turn every way in which torch and Python say that memory ran out into one error.

    Raises:
        OutOfMemoryError: with that sentence.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        raise OutOfMemoryError(sentence) from error


def _is_out_of_memory(error: RuntimeError | MemoryError) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return any(words in str(error) for words in _SAYINGS)


def float_tensor(values: np.ndarray) -> Tensor:
    """The same numbers in torch, on the CPU.  # float32 of the same shape"""
    return torch.as_tensor(np.asarray(values), dtype=torch.float32)


def float_array(tensor: Tensor) -> np.ndarray:
    """The same numbers in numpy, without gradient, from any device.  # float32, contiguous"""
    return tensor.detach().to("cpu", torch.float32).contiguous().numpy()
