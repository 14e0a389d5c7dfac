# SPDX-License-Identifier: Apache-2.0
"""CPU seconds and memory of refining crowds of 1 to 12 people, and how linearly they grow.

    OMP_NUM_THREADS=1 python benchmarks/refine_clusters.py [--refiner FILE] [--gaussians 4000] ...

Clean made-up people, refined with an untrained small network, which is as slow as a trained one,
or with the given file. The last line says what a cluster and what a person takes. "more" is what
the process holds beyond what it held before the cluster.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from crowdgaussian.body import load_body
from crowdgaussian.core.progress import silent
from crowdgaussian.evaluate.crowds.people import clean_people
from crowdgaussian.evaluate.crowds.report import Cost, costed
from crowdgaussian.pipeline.reconstruct import refine_crowd
from crowdgaussian.refiner.networks.small_unet import SmallRefiner, load_small
from crowdgaussian.refiner.stage import CrowdRefinement
from crowdgaussian.refiner.types import DistilConfig, RefineConfig
from crowdgaussian.synthetic.photo import scene_photo
from crowdgaussian.synthetic.scenes import compose, made_up_actor

PEOPLE = (1, 2, 4, 6, 12)
_PHOTO = 128  # pixels: as many of the photo for every cluster, however large its crowd
MIB = 2**20


def _arguments(defaults: DistilConfig) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--refiner", type=Path)
    for name, value in (
        ("gaussians", 4000),
        ("views", 6),
        ("size", 128),
        ("steps", 20),
        ("rounds", defaults.rounds),
        ("most", RefineConfig().most_people),
    ):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--people", type=int, nargs="+", default=PEOPLE)
    return parser.parse_args()


def main() -> None:
    """Prints a line a cluster and one a crowd."""
    defaults = DistilConfig()
    arguments = _arguments(defaults)
    torch.set_num_threads(1)
    refiner = load_small(arguments.refiner) if arguments.refiner else SmallRefiner().eval()
    config = RefineConfig(
        most_people=arguments.most,
        photo_px=_PHOTO,
        distil=replace(
            defaults,
            views=arguments.views,
            size=arguments.size,
            steps=arguments.steps,
            rounds=arguments.rounds,
        ),
    )
    stage = CrowdRefinement(config, refiner)
    print("| people | cluster | CPU s | CPU s a person | peak MiB | more MiB |")
    print("|---|---|---|---|---|---|")
    refined(stage, 1, arguments.gaussians)  # compiles what is compiled
    crowds = {
        people: refined(stage, people, arguments.gaussians, True) for people in arguments.people
    }
    told = np.array([sum(cost.cpu for cost in costs) for costs in crowds.values()])
    parts = np.array([[len(costs), people] for people, costs in crowds.items()])
    share = np.linalg.lstsq(parts, told, rcond=None)[0]
    off = np.abs(parts @ share - told) / told
    print(
        f"{share[0]:.2f} s a cluster + {share[1]:.2f} s a person; crowds differ from that by at "
        f"most {100 * off.max():.0f} %"
    )


def refined(stage: CrowdRefinement, people: int, gaussians: int, tell: bool = False) -> list[Cost]:
    """What each cluster of a crowd took."""
    body, rng = load_body("open"), np.random.default_rng([people, 0, 1])
    scene = compose(lambda draw: made_up_actor(body, draw), (people, people), rng)
    taken = scene_photo(scene, rng)
    avatars = clean_people(scene, gaussians, 0).avatars
    costs = []
    work = refine_crowd(stage, taken, avatars, silent)
    for cluster, cost in costed(work):
        if cluster.error:
            raise SystemExit(cluster.error)
        costs.append(cost)
        if tell:
            _line(people, " ".join(map(str, cluster.people)), len(cluster.people), cost)
    if tell and len(costs) > 1:
        most = Cost(
            sum(cost.cpu for cost in costs),
            max(cost.peak for cost in costs),
            max(cost.more for cost in costs),
        )
        _line(people, "all", people, most)
    return costs


def _line(people: int, cluster: str, members: int, cost: Cost) -> None:
    print(
        f"| {people} | {cluster} | {cost.cpu:.1f} | {cost.cpu / members:.2f} | "
        f"{cost.peak / MIB:.0f} | {cost.more / MIB:.0f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
