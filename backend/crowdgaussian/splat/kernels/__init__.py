# SPDX-License-Identifier: Apache-2.0
"""The CPU rasteriser's compiled loops.

Here: how one runs over chunks of its work on a few Python threads.

The kernels release the GIL, so plain threads do. numba's own parallel layers are avoided on
purpose: "workqueue", the only one that is always there, ends the process when two Python threads
enter it at once, and "omp" shares spinning workers with torch.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import torch


@lru_cache(maxsize=1)
def _pool(process: int, workers: int) -> ThreadPoolExecutor:
    """One pool per process: threads do not survive a fork."""
    return ThreadPoolExecutor(workers, thread_name_prefix=f"splat-{process}")


def even_bounds(count: int, smallest: int = 2048) -> list[int]:
    """Split ``count`` equal pieces of work into one chunk per torch thread."""
    chunks = max(1, min(torch.get_num_threads(), count // smallest))
    return [count * k // chunks for k in range(chunks + 1)]


def balanced_bounds(offsets: np.ndarray, smallest: int = 512) -> list[int]:
    """Split tiles into chunks with about as many list entries each.

    Args:
        offsets: List entries before each tile, and the sum.  # [tiles + 1]
        smallest: Entries for which a second thread is worth its start.
    """
    tiles, total = len(offsets) - 1, int(offsets[-1])
    threads = torch.get_num_threads()
    chunks = 4 * threads if threads > 1 and total >= smallest else 1
    work = offsets + 4 * np.arange(tiles + 1)  # an empty tile costs something too
    inner = np.searchsorted(work, work[-1] * np.arange(1, chunks) / chunks)
    return [0, *(int(k) for k in inner), tiles]


def run_chunks(kernel: Callable[..., None], bounds: list[int], *args: object) -> None:
    """Call ``kernel(start, stop, *args)`` for every chunk, and wait for all of them."""
    spans = [(a, b) for a, b in zip(bounds[:-1], bounds[1:], strict=True) if b > a]
    if len(spans) <= 1:
        for start, stop in spans:
            kernel(start, stop, *args)
        return
    remaining = iter(spans)

    def drain() -> None:
        for start, stop in remaining:
            kernel(start, stop, *args)

    threads = min(torch.get_num_threads(), len(spans))
    pool = _pool(os.getpid(), max(1, (os.cpu_count() or 1)))
    others = [pool.submit(drain) for _ in range(threads - 1)]
    drain()
    for other in others:
        other.result()
