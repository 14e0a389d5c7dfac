# SPDX-License-Identifier: Apache-2.0
"""Which Gaussians a photo shows, told by what they paint, against what is really seen.

.venv/backend/bin/python benchmarks/visibility.py [--crowds 3] [--people 4] [--shares 0.3 0.5]

For each value of avatar.visibility.PAINTED: precision, recall and F1 of `visible` being 0.5 or more
for Gaussians spread over the true surface of made-up people, where the z-buffer of the true meshes
knows the answer; and dB of views that nothing has seen (inside the true outline), photo_fit's
before and after the refinement.
"""

import argparse
from pathlib import Path

from crowdgaussian.core.progress import prepare_process, silent

prepare_process()  # before torch and numba are imported

import numpy as np  # noqa: E402
import torch  # noqa: E402
from crowdgaussian.avatar import visibility  # noqa: E402
from crowdgaussian.body import load_body  # noqa: E402
from crowdgaussian.evaluate.crowds.people import (  # noqa: E402
    built_people,
    clean_people,
    near,
    score_views,
    shown,
)
from crowdgaussian.evaluate.crowds.run import CrowdsJob, Trial, make_trial  # noqa: E402
from crowdgaussian.pipeline.config import configured  # noqa: E402
from crowdgaussian.pipeline.reconstruct import refine_crowd  # noqa: E402
from crowdgaussian.pipeline.stages import load_stage  # noqa: E402
from crowdgaussian.refiner.stage import photo_anchor, small_refinement  # noqa: E402
from crowdgaussian.refiner.trainable import movable  # noqa: E402
from crowdgaussian.splat.normals import render_mesh_depth  # noqa: E402
from crowdgaussian.synthetic.scenes import made_up_actor  # noqa: E402

PHOTO_PX = 640  # longest side of the photo that is painted
ON_SURFACE = 0.012  # metres behind the z-buffer that still are its surface
POINTS, GAUSSIANS = 12_000, "8000"  # of a person, clean and rebuilt


def really_seen(trial: Trial, points: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Whether the photo shows these places of a person of that mask.  # [N] bool"""
    camera, people = trial.taken.crowd.camera, trial.scene.people
    meshes = [each.points(each.actor.vertices) for each in people]
    starts = np.cumsum([0, *map(len, meshes)])
    faces = [each.actor.faces + start for each, start in zip(people, starts)]
    depth, _ = render_mesh_depth(np.concatenate(meshes), np.concatenate(faces), camera)
    pixels, own = camera.project(points)
    column, row = np.floor(pixels).astype(int).T
    inside = (column >= 0) & (row >= 0) & (column < camera.width) & (row < camera.height)
    row, column = row.clip(0, camera.height - 1), column.clip(0, camera.width - 1)
    return inside & mask[row, column] & (own < depth[row, column] + ON_SURFACE)


def agreement(trial: Trial, shares: list[float]) -> np.ndarray:
    """How many are rightly told seen, told seen, and seen.  # [S, 3]"""
    clean = clean_people(trial.scene, POINTS, 0).avatars
    anchor = photo_anchor(trial.taken, tuple(clean), PHOTO_PX)
    moved = movable(list(clean.values()), torch.device("cpu"))
    with torch.no_grad():
        splats = moved.posed()
    places = np.split(splats.means.double().numpy(), np.cumsum(moved.counts)[:-1])
    masks = [trial.taken.mask(index).visible for index in clean]
    truth = np.concatenate([really_seen(trial, *each) for each in zip(places, masks)])
    assert anchor is not None and moved.start.scales is not None
    rows = []
    for share in shares:
        visibility.PAINTED = share
        told = anchor.shown(splats, moved.start.scales).numpy() >= 0.5
        rows.append([(told & truth).sum(), told.sum(), truth.sum()])
    return np.array(rows)


def unseen_views(trial: Trial, config, builder, refinement) -> list[float]:
    """dB of rebuilt people in views of the truth, and after refinement."""
    coarse = built_people(builder, trial.taken, silent).avatars
    fine = dict(coarse)
    for cluster in refine_crowd(refinement, trial.taken, coarse, silent):
        fine |= dict(zip(cluster.people, cluster.avatars))
    views = [shown(each.values(), trial.truth.cameras) for each in (coarse, fine)]
    mask = near(trial.truth.views.alpha, views[0].alpha)
    return [score_views(each, trial.truth.views, mask, None)["inside_psnr"] for each in views]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--crowds", type=int, default=3)
    parser.add_argument("--people", type=int, default=4)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.1, 0.2, 0.3, 0.5, 0.7])
    parser.add_argument("--only-seen", action="store_true", help="leave out the slow views")
    options = parser.parse_args()
    body, config = load_body("open"), configured("open", {"avatar.gaussians": GAUSSIANS})
    builder, refinement = load_stage("avatar", config, body), small_refinement(config.refine)
    job = CrowdsJob(Path(), options.crowds, options.people)
    counts, views = np.zeros((len(options.shares), 3)), []
    for index in range(options.crowds):
        trial = make_trial(job, index, lambda rng: made_up_actor(body, rng), None)
        counts = counts + agreement(trial, options.shares)
        rows = []
        for share in [] if options.only_seen else options.shares:
            visibility.PAINTED = share
            rows.append(unseen_views(trial, config, builder, refinement))
        views.append(rows)
    print(" PAINTED precision  recall     F1 photo_fit  refined")
    for number, (right, told, seen) in enumerate(counts):
        row = f"{options.shares[number]:8.2f} {right / told:9.3f} {right / seen:7.3f}"
        row += f" {2 * right / (told + seen):6.3f}"
        decibels = [] if options.only_seen else np.mean([each[number] for each in views], axis=0)
        print(row, *(f"{value:8.2f}" for value in decibels))


if __name__ == "__main__":
    main()
