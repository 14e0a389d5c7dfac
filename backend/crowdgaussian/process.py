# SPDX-License-Identifier: Apache-2.0
"""What has to be set before torch, numba and MediaPipe are imported."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def available_cores() -> int:
    """Cores this process may use, which a container or taskset can make fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def prepare_process() -> None:
    """Thread numbers, no spinning idle threads, quiet native libraries; the user's choice stands.

    Spinning OpenMP threads of one library starve the others: measured 100 times slower.
    """
    threads = str(available_cores())
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS",
                 "NUMBA_NUM_THREADS"):
        os.environ.setdefault(name, threads)
    os.environ.setdefault("GLOG_minloglevel", "3")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@contextmanager
def quiet_native_stderr() -> Iterator[None]:
    """Silences what C++ libraries write to standard error on their own, and nothing after it.

    MediaPipe prints notices there that no setting turns off.
    """
    sys.stderr.flush()
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(saved, 2)
        os.close(saved)
