# SPDX-License-Identifier: Apache-2.0
"""Seconds and memory of Multi-HMR on this machine, with random weights of a published size.

    python benchmarks/multihmr.py 672_S

Weights and SMPL-X are made up in the published layouts (speed does not depend on their values), so
nothing has to be downloaded; the numbers say nothing about accuracy.
"""

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from crowdgaussian.people.multihmr.network import Humans, load_multihmr
from crowdgaussian.people.multihmr.stage import SmplxPeople

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from _support.multihmr_made_up import PUBLISHED, layout, random_state, write_checkpoint  # noqa: E402
from _support.smplx_made_up import synthetic  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=PUBLISHED, nargs="?", default="672_S")
    parser.add_argument("--people", type=int, default=40, help="at most so many are posed")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, body = Path(folder, "multiHMR.pt"), Path(folder, "SMPLX_NEUTRAL.npz")
        write_checkpoint(checkpoint, random_state(layout(*PUBLISHED[options.name])))
        np.savez(body, **synthetic(np.random.default_rng(0)))
        started = time.perf_counter()
        network, people = load_multihmr(checkpoint, options.device), SmplxPeople(body)
        print(f"load      {time.perf_counter() - started:6.2f} s")
    side = network.sizes.image
    image = torch.randn(1, 3, side, side, device=options.device)
    K = torch.tensor([[side * 0.866, 0, side / 2], [0, side * 0.866, side / 2], [0, 0, 1]])
    for run in ("first", "second"):
        started = time.perf_counter()
        found = network(image, K[None].to(options.device), threshold=0.0)[0]
        some = Humans(*(part[: options.people].cpu() for part in vars(found).values()))
        seen = time.perf_counter()
        placed = people.place(some, K)
        print(
            f"{run:9} {seen - started:6.2f} s network with {len(found.scores)} people, "
            f"{time.perf_counter() - seen:.2f} s to pose {len(placed.v3d)}"
        )
    print(f"peak RSS  {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:6.2f} GB")


if __name__ == "__main__":
    main()
