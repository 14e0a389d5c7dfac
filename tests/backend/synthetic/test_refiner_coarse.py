# SPDX-License-Identifier: Apache-2.0
"""Scenes whose coarse people stage 1 rebuilt from a photo, in turns with damaged ones."""

import json
from dataclasses import replace

import numpy as np
import pytest
from crowdgaussian.avatar.photo_fit import PhotoFit
from crowdgaussian.avatar.types import PhotoFitConfig
from crowdgaussian.body import load_body
from crowdgaussian.cli.main import main
from crowdgaussian.refiner.distil import cluster_views
from crowdgaussian.refiner.training.dataset import (
    DAMAGE,
    PairDataset,
    ScenesConfig,
    write_scenes,
)
from crowdgaussian.synthetic.photo import rebuilt
from crowdgaussian.synthetic.scenes import compose, made_up_actor
from crowdgaussian_shared.errors import CrowdGaussianError

BODY = load_body("open")
QUICK = PhotoFitConfig(
    gaussians=1500, max_crop_px=160, pose_steps=1, contour_steps=1, colour_steps=3
)
SMALL = {"views": 6, "size": 64, "fewest": 1, "most": 1, "points": 1500}


def draw(rng):
    return made_up_actor(BODY, rng)


class Remembering(PhotoFit):
    """Keeps the avatars it gave."""

    def reconstruct(self, *given):
        for outcome in super().reconstruct(*given):
            self.avatars = [*getattr(self, "avatars", []), outcome.result()]
            yield outcome


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The first two scenes, one damaged and one rebuilt, and who was rebuilt."""
    folder, builder = tmp_path_factory.mktemp("scenes"), Remembering(QUICK, BODY)
    config = ScenesConfig(scenes=2, rings=4, coarse=(DAMAGE, "photo_fit"), **SMALL)
    write_scenes(folder, config, draw, builders={"photo_fit": builder})
    return folder, builder.avatars


@pytest.fixture
def scenes(made):
    return made[0]


def about(folder, index):
    return json.loads((folder / f"scene_{index:04d}/scene.json").read_text())


def test_scenes_take_turns_and_say_which(scenes):
    assert [about(scenes, k)["coarse"] for k in range(2)] == [DAMAGE, "photo_fit"]
    assert about(scenes, 0)["damage"] and not about(scenes, 1)["damage"]
    config = ScenesConfig(coarse=("a", "b", "c"))
    for test in (True, False):
        kinds = [config.coarse_of(k) for k in range(30) if config.is_test(k) == test]
        assert {name: kinds.count(name) for name in "abc"} == dict.fromkeys("abc", len(kinds) // 3)


def test_the_rebuilt_person_is_where_the_true_one_is_but_not_the_same(scenes):
    dataset = PairDataset(scenes, "train")
    for index in range(6, 12):
        pair = dataset[index]
        truth, coarse, body = pair.truth[3] > 0.5, pair.coarse[3] > 0.5, pair.normals[3] > 0.5
        assert (truth & coarse).sum() > 0.7 * (truth | coarse).sum()
        assert (truth & body).sum() > 0.7 * (truth | body).sum()
        error = (pair.truth[:3] - pair.coarse[:3]).abs().mean(0)[truth & coarse]
        assert 0.005 < error.mean() < 0.25


def test_scenes_made_before_there_was_a_choice_stay_valid(scenes, tmp_path):
    def refused(rng):
        pytest.fail("a whole scene was made again")

    before = {"views": 6, "size": 64, "fewest": 1, "most": 1, "points": 1500, "seed": 0}
    (tmp_path / "scene_0000").mkdir()
    (tmp_path / "scene_0000/scene.json").write_text(
        json.dumps({**about(scenes, 0), "settings": before})
    )
    for coarse in ((DAMAGE,), (DAMAGE, "photo_fit")):
        write_scenes(tmp_path, ScenesConfig(scenes=1, coarse=coarse, **SMALL), refused)
    for other in ({"coarse": ("photo_fit",)}, {"rings": 2}, {"people": "scans"}):
        with pytest.raises(CrowdGaussianError, match="other settings"):
            write_scenes(tmp_path, ScenesConfig(scenes=1, **SMALL, **other), refused)


def test_the_rings_show_what_refinement_will_see(made):
    folder, avatars = made
    assert len(avatars) == 1
    views = cluster_views(avatars, 4, 64, "cpu")
    assert np.allclose(about(folder, 1)["viewmat"][2:], views.cameras.viewmats, atol=1e-4)
    assert np.allclose(about(folder, 1)["K"][2:], views.cameras.Ks, atol=1e-3)
    dataset = PairDataset(folder, "train")
    for k in range(4):
        assert (dataset[6 + 2 + k].normals - views.normals[k]).abs().max() < 0.02


def test_who_is_in_no_photo_is_left_out():
    scene = compose(draw, (2, 2), np.random.default_rng(0))
    hidden = replace(scene.people[1].actor, vertices=scene.people[1].actor.vertices * 1e-3)
    people = (scene.people[0], replace(scene.people[1], actor=hidden))
    kept, coarse = rebuilt(
        replace(scene, people=people), PhotoFit(QUICK, BODY), np.random.default_rng(0), 200
    )
    assert [each.actor for each in kept.people] == [people[0].actor]
    assert len(coarse.gaussians) == len(coarse.bodies) == 1


def test_stage_1_is_chosen_on_the_command_line(tmp_path, capsys):
    given = [
        "data",
        "crowd-scenes",
        str(tmp_path),
        "--scenes",
        "1",
        "--views",
        "1",
        "--size",
        "48",
        "--fewest",
        "1",
        "--most",
        "1",
    ]
    settings = ("gaussians=1000", "pose_steps=0", "contour_steps=0", "colour_steps=2")
    quick = [text for each in settings for text in ("--set", f"avatar.{each}")]
    assert main([*given, "--coarse", "photo_fit", *quick]) == 0
    assert about(tmp_path, 0)["coarse"] == "photo_fit"
    assert main([*given, "--coarse", "photo_fit"]) == 2
    assert "other settings" in capsys.readouterr().err
    assert main([*given, "--coarse", "lorm"]) == 2
    assert "weights fetch lhm-500m-hf" in capsys.readouterr().err
    assert main([*given, "--coarse", "photo_fit", "--set", "avatar.gaussians"]) == 2
    assert "NAME=VALUE" in capsys.readouterr().err
