# SPDX-License-Identifier: Apache-2.0
"""Scenes whose coarse people stage 1 rebuilt from a photo, in turns with damaged ones."""

import json
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from crowdgaussian.avatar.photo_fit import PhotoFit
from crowdgaussian.avatar.types import PhotoFitConfig
from crowdgaussian.body import load_body
from crowdgaussian.body.model import pose_body
from crowdgaussian.cli import train
from crowdgaussian.cli.main import main
from crowdgaussian.refiner.distil import cluster_views
from crowdgaussian.refiner.training.dataset import (
    DAMAGE,
    ESTIMATED,
    PairDataset,
    ScenesConfig,
    write_scenes,
)
from crowdgaussian.synthetic.photo import (
    WholePipeline,
    _photo,
    as_posed,
    estimated,
    placed_body,
    rebuilt,
    same_people,
)
from crowdgaussian.synthetic.scenes import compose, made_up_actor
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.geometry.avatar import Avatar, BodyMesh, Gaussians

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


class Told:
    """A people and masks stage that gives a crowd and masks made beforehand."""

    def __init__(self, crowd, masks=()):
        self.crowd, self.masks = crowd, list(masks)

    def estimate(self, photo, focal_px, report):
        assert focal_px == pytest.approx(self.crowd.camera.K[0, 0])
        return self.crowd

    def segment(self, photo, crowd, report):
        return self.masks


@pytest.fixture(scope="module")
def photographed():
    """Three people, and their photo as `estimated` takes it."""
    scene = compose(draw, (3, 3), np.random.default_rng(1))
    return scene, _photo(scene, np.random.default_rng(2), 160)[0]


def misjudged(person):
    """Their body as an estimate has it: larger and farther, limbs a little off."""
    pose = person.params.pose + np.random.default_rng(0).normal(0, 0.03, (55, 3))
    params = replace(person.params, betas=person.params.betas + 0.3, pose=pose.astype(np.float32))
    return replace(person, params=params)


def naked(params):
    """Somebody with a Gaussian at each vertex of the body."""
    posed = pose_body(BODY, params)
    skin = posed.skin_joints.astype(np.uint8), posed.skin_weights.astype(np.float32)
    rest, count = posed.rest.astype(np.float32), len(posed.rest)
    gaussians = Gaussians(
        rest,
        np.tile(np.float32([1, 0, 0, 0]), (count, 1)),
        np.full((count, 3), 0.01, np.float32),
        np.ones(count, np.float32),
        np.zeros((count, 1, 3), np.float32),
    )
    mesh = BodyMesh(rest, posed.faces.astype(np.int32), *skin)
    return Avatar(gaussians, *skin, posed.joints.astype(np.float32), mesh, params.as_float32())


class Naked:
    """An appearance stage without looks."""

    def reconstruct(self, view, indices, report):
        for index in indices:
            yield SimpleNamespace(result=partial(naked, view.person(index).params))


def pipeline_that_finds(people, masks, photo):
    crowd = replace(photo.crowd, people=tuple(people), on_ground=(True,) * len(people))
    told = Told(crowd, masks)
    return WholePipeline(told, told, Naked())


def test_who_is_found_is_rebuilt_where_they_really_stand(photographed):
    scene, photo = photographed
    people, masks = photo.crowd.people, photo.masks
    away = replace(people[1], params=replace(people[1].params, transl=people[1].transl + 3))
    found = [misjudged(people[2]), away, misjudged(people[0])]  # one is missed, one is a ghost
    pipeline = pipeline_that_finds(found, [masks[2], masks[1], masks[0]], photo)
    kept, coarse = estimated(scene, pipeline, np.random.default_rng(2), 160)
    assert kept.people == (scene.people[0], scene.people[2])
    for placed, body, gaussians in zip(kept.people, coarse.bodies, coarse.gaussians, strict=True):
        true = placed.points(placed.actor.body_vertices)
        assert np.linalg.norm(body - true, axis=1).mean() < 0.025  # as posed, another shape
        assert np.abs(gaussians.means.mean(0) - true.mean(0)).max() < 0.1


def test_a_body_turned_back_to_front_is_nobody_s(photographed):
    scene, photo = photographed
    turned = replace(scene.people[0], yaw=scene.people[0].yaw + np.pi)
    people = (replace(photo.crowd.people[0], params=placed_body(turned)),)
    assert same_people(BODY, photo.crowd, photo.crowd) == [(k, k) for k in range(3)]
    assert same_people(BODY, photo.crowd, replace(photo.crowd, people=people)) == []
    assert same_people(BODY, photo.crowd, replace(photo.crowd, people=())) == []


def test_an_avatar_takes_pose_place_and_size(photographed):
    scene, photo = photographed
    large = naked(misjudged(photo.crowd.people[0]).params)
    wanted = pose_body(BODY, placed_body(scene.people[0]))
    taken = as_posed(large, wanted)
    size = float(taken.rest_joints[15, 1] / large.rest_joints[15, 1])
    assert abs(size - 1) > 1e-3
    for change, before in (
        (taken.rest_joints, large.rest_joints),
        (taken.gaussians.means, large.gaussians.means),
        (taken.gaussians.scales, large.gaussians.scales),
        (taken.body.vertices, large.body.vertices),
    ):
        assert np.allclose(change, size * before, atol=1e-5)
    root = wanted.joints[0] + wanted.params.transl
    assert np.allclose(taken.rest_joints[0] + taken.transl, root, atol=1e-5)
    assert np.array_equal(taken.pose, wanted.params.pose)
    elbows = [np.linalg.norm(each[20] - each[18]) for each in (taken.rest_joints, wanted.joints)]
    assert elbows[0] == pytest.approx(elbows[1], rel=0.1)


def test_another_scene_is_drawn_where_nobody_is_found(photographed, tmp_path, monkeypatch):
    for name, value in (("_PHOTO", 64), ("_DRAWN", 2)):
        monkeypatch.setattr(f"crowdgaussian.refiner.training.dataset.{name}", value)
    nobody, asked = pipeline_that_finds([], [], photographed[1]), []
    nobody.people.estimate = lambda *given: asked.append(given) or nobody.people.crowd
    config = ScenesConfig(scenes=1, coarse=(ESTIMATED,), **SMALL)
    with pytest.raises(CrowdGaussianError, match="Nobody is found"):
        write_scenes(tmp_path, config, draw, builders={ESTIMATED: nobody})
    assert len(asked) == 2 and not np.array_equal(asked[0][0], asked[1][0])
    assert not list(tmp_path.iterdir())


def test_the_whole_pipeline_is_chosen_on_the_command_line(
    photographed, tmp_path, monkeypatch, capsys
):
    pipeline = train._pipeline(["avatar.gaussians=900", "people.hands=false"], BODY)
    assert isinstance(pipeline, WholePipeline) and pipeline.avatar.config.gaussians == 900
    assert not pipeline.people.config.hands
    nobody = pipeline_that_finds([], [], photographed[1])
    nobody.people.estimate = lambda *given: nobody.people.crowd
    monkeypatch.setattr(train, "_pipeline", lambda changes, body: nobody)
    monkeypatch.setattr("crowdgaussian.refiner.training.dataset._DRAWN", 1)
    given = "--scenes 1 --views 1 --size 48 --fewest 1 --most 1 --coarse estimated".split()
    assert main(["data", "crowd-scenes", str(tmp_path), *given]) == 2
    assert "Nobody is found" in capsys.readouterr().err


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
