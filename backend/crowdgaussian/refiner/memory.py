# SPDX-License-Identifier: Apache-2.0
"""Whether an error means that memory ran out: torch says it in several ways."""

import torch

_SAYINGS = (
    "can't allocate memory",  # torch on a CPU: "DefaultCPUAllocator: can't allocate memory: ..."
    "not enough memory",  # the same on Windows
    "could not create a memory",  # oneDNN
    "out of memory",  # CUDA's drivers, MPS
    "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED",
)


def is_out_of_memory(error: BaseException) -> bool:
    """True for torch's and Python's errors of their own, and for RuntimeErrors that say it."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _SAYINGS)
