# SPDX-License-Identifier: Apache-2.0
"""Refined crowds against the truth: an oracle is found better, a vandal worse, cost is told."""

import csv
import mmap
from dataclasses import replace

import numpy as np
import pytest
import torch
from _support.made_up import covariances
from crowdgaussian.avatar.types import Outcome
from crowdgaussian.body import load_body
from crowdgaussian.cli.main import main
from crowdgaussian.core.progress import silent
from crowdgaussian.evaluate.crowds.people import (
    bind,
    built_people,
    clean_people,
    near,
    photo_psnr,
    score_views,
    shown,
)
from crowdgaussian.evaluate.crowds.report import ALLOWED, COLUMNS, costed
from crowdgaussian.evaluate.crowds.run import (
    COARSE,
    CrowdsJob,
    Unchanged,
    evaluate_crowds,
    make_trial,
)
from crowdgaussian.pipeline.reconstruct import refine_crowd
from crowdgaussian.refiner.distil import cluster_views
from crowdgaussian.refiner.networks.small_unet import SmallConfig, SmallRefiner, save_small
from crowdgaussian.refiner.stage import CrowdRefinement
from crowdgaussian.refiner.training.dataset import render_truth
from crowdgaussian.refiner.types import DistilConfig, RefineConfig
from crowdgaussian.synthetic.scenes import clean_gaussians, face_light, made_up_actor
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.geometry.skinning import pose_avatar

FAST = RefineConfig(
    reach=9.0, photo_px=96, distil=DistilConfig(views=4, size=64, rounds=1, steps=40)
)

HASTY = replace(FAST, distil=replace(FAST.distil, steps=4))


@pytest.fixture(scope="module")
def draw():
    body = load_body("open")
    return lambda rng: made_up_actor(body, rng)


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    return CrowdsJob(
        tmp_path_factory.mktemp("crowds"),
        crowds=1,
        people=2,
        views=3,
        size=96,
        points=1500,
        stage_1="damage",
        refine=FAST,
    )


@pytest.fixture(scope="module")
def trial(job, draw):
    return make_trial(job, 0, draw, None)


class Oracle:
    """Knows what is really seen from the cameras of a refinement of everybody at once."""

    def __init__(self, trial):
        views = cluster_views(
            list(trial.coarse.avatars.values()), FAST.distil.views, FAST.distil.size, "cpu"
        )
        layers = torch.from_numpy(render_truth(trial.scene, views.cameras)).float() / 255
        pictures = layers[..., :3] * layers[..., 3:] + 0.5 * (1 - layers[..., 3:])
        self.pictures, self.given = pictures.movedim(-1, 1), 0

    def refine(self, images, normals):
        first = self.given % len(self.pictures)
        self.given += len(images)
        return self.pictures[first : first + len(images)]


class Vandal:
    """Paints over everything."""

    def refine(self, images, normals):
        stripes = (torch.arange(images.shape[-1]) // 4 % 2).float()
        return stripes.expand_as(images)


def test_bound_to_the_body_gaussians_stay_in_place_and_move_with_it(trial):
    placed = trial.scene.people[1]
    colours = face_light(placed, trial.scene.light, trial.scene.direct)
    given = clean_gaussians(placed, colours, 500, np.random.default_rng(0))
    avatar = bind(given, placed)
    posed = pose_avatar(avatar)
    assert np.abs(posed.means - given.means).max() < 1e-4
    assert np.abs(covariances(posed) - covariances(given)).max() < 1e-7
    bent = avatar.pose.copy()
    bent[16:18, 2] += 1.0  # the shoulders
    moved = np.linalg.norm(pose_avatar(avatar, bent).means - posed.means, axis=1)
    assert moved.max() > 0.2 and np.median(moved) < 0.01


def test_a_refiner_that_knows_the_truth_is_found_better(trial, job):
    avatars, taken = trial.coarse.avatars, trial.taken

    def refined(refiner):
        stage = CrowdRefinement(job.refine, refiner)
        (cluster,) = refine_crowd(stage, taken, avatars, silent)
        assert cluster.people == (0, 1)
        return dict(zip(cluster.people, cluster.avatars))

    def scores(some):
        views = shown(some.values(), trial.truth.cameras)
        return score_views(views, trial.truth.views, mask, None)

    mask = near(trial.truth.views.alpha, shown(avatars.values(), trial.truth.cameras).alpha)
    before, taught, alone = (
        scores(some) for some in (avatars, refined(Oracle(trial)), refined(Unchanged()))
    )
    assert taught["masked_psnr"] > alone["masked_psnr"] + 0.2
    assert taught["inside_psnr"] > alone["inside_psnr"] + 0.2
    assert taught["masked_ssim"] > before["masked_ssim"] + 0.02
    clean = clean_people(trial.scene, job.points, 0).avatars
    assert scores(clean)["inside_psnr"] > before["inside_psnr"] + 1
    assert photo_psnr(clean.values(), taken) > photo_psnr(avatars.values(), taken) + 1


def test_a_refiner_that_does_harm_is_found_out(job, draw):
    seen = []
    report = evaluate_crowds(job, draw, None, {"vandal": Vandal()}, seen.append)
    methods = [row.method for row in report.rows]
    assert methods == [COARSE, "no refiner, 3D", "vandal, 2D", "vandal, 3D"]
    for method, harm in zip(methods[2:], (1.0, 0.05)):
        assert report.mean(method, "inside_psnr") < report.mean(COARSE, "inside_psnr") - harm
    assert [(row.method, row.person) for row in report.identity] == [
        ("no refiner", 0),
        ("no refiner", 1),
        ("vandal", 0),
        ("vandal", 1),
    ]
    for alone, harmed in zip(report.identity[:2], report.identity[2:]):
        assert harmed.loss[1] > max(ALLOWED, alone.loss[1]) and harmed.before == alone.before
    text = (job.out / "report.md").read_text()
    assert all(title in text for title in COLUMNS.values())
    assert "who lose over 0.2 dB" in text and "2 of 2" in text and "0 of 1, -" in text
    assert "LPIPS is not available" in text and "- nothing" in text
    assert [row.method for row in report.clusters] == [
        "no refiner",
        "no refiner, clean",
        "vandal",
        "vandal, clean",
    ]
    assert all(row.people == (0, 1) and row.cost.cpu > 0.01 for row in report.clusters)
    with (job.out / "results.csv").open() as stream:
        kinds = [line["kind"] for line in csv.DictReader(stream)]
    assert kinds == ["crowd"] * 4 + ["clean"] * 4 + ["cluster"] * 4
    assert (job.out / "pictures/crowd_000.png").stat().st_size > 1000
    fractions = [step.fraction for step in seen]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0


def test_who_cannot_be_built_or_refined_is_said(trial):
    class Picky:
        body_name = "open"

        def reconstruct(self, view, indices, report):
            for index in indices:
                error = CrowdGaussianError("No visible pixel.") if index else None
                yield Outcome(index, None if index else trial.coarse.avatars[0], error)

    built = built_people(Picky(), trial.taken, silent)
    assert list(built.avatars) == [0] and built.errors == ("person 1: No visible pixel.",)


def test_a_cluster_that_fails_stays_coarse_and_is_said(job, draw, tmp_path):
    class Broken:
        def refine(self, images, normals):
            return images * torch.nan

    job = replace(job, people=1, out=tmp_path, refine=HASTY)
    report = evaluate_crowds(job, draw, None, {"broken": Broken()})
    assert report.mean("broken, 3D", "masked_psnr") == report.mean(COARSE, "masked_psnr")
    assert "crowd 0, broken, people 0: The refiner gave pictures" in report.markdown()
    assert "not finite" in report.csv()


def test_each_step_has_its_own_cost():
    def steps():
        with mmap.mmap(-1, 40_000_000) as fresh:  # never memory that somebody has freed
            fresh.write(bytes(40_000_000))
        yield 1
        np.linalg.svd(np.random.default_rng(0).normal(size=(300, 300)))
        yield 0

    (_, first), (_, second) = costed(steps())
    assert first.cpu > 0 and second.cpu > 0
    if not np.isnan(first.peak):
        assert first.more > 30e6 > second.more
        assert first.peak > second.peak > 1e7


def test_the_command_line_refines_crowds(tmp_path, capsys):
    path = tmp_path / "r.safetensors"
    save_small(SmallRefiner(SmallConfig(widths=(8, 8))), path)
    command = ["evaluate", "refiner", "-o", str(tmp_path), "--refiner", f"mine={path}"]
    assert main(command) == 2
    assert "--crowds 5" in capsys.readouterr().err
    assert (
        main(
            [
                *command,
                "--crowds",
                "1",
                "--people",
                "1",
                "--views",
                "2",
                "--size",
                "48",
                "--stage-1",
                "damage",
                "--set",
                "refine.distil.size=64",
                "--set",
                "refine.distil.views=2",
                "--set",
                "refine.distil.steps=3",
            ]
        )
        == 0
    )
    printed = capsys.readouterr().out
    assert "| mine, 3D |" in printed and "crowds/report.md" in printed
    assert "avatars before refinement: damage" in printed and "2 rounds of 3 steps" in printed
