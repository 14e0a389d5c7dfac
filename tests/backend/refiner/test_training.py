# SPDX-License-Identifier: Apache-2.0
"""The small refiner, made-up crowds, pairs on disk, training and evaluation by command."""

import json

import numpy as np
import pytest
import torch
from crowdgaussian.body import load_body
from crowdgaussian.cli.main import main
from crowdgaussian.refiner.networks.small_unet import (
    SmallConfig,
    SmallRefiner,
    load_small,
    read_facts,
    save_small,
)
from crowdgaussian.refiner.networks.tiling import normal_input
from crowdgaussian.refiner.training.dataset import PairDataset, ScenesConfig, write_scenes
from crowdgaussian.splat.normals import render_normals
from crowdgaussian.synthetic.degradations import HARMS, degrade
from crowdgaussian.synthetic.photo import clean_people
from crowdgaussian.synthetic.scenes import apart, compose, hemisphere_views, made_up_actor, supports
from crowdgaussian_shared.errors import CrowdGaussianError
from safetensors.torch import save_file
from scipy.spatial import cKDTree

TINY = SmallConfig(widths=(8, 8))


@pytest.fixture(scope="module")
def body():
    return load_body("open")


@pytest.fixture(scope="module")
def scene(body):
    rng = np.random.default_rng(3)
    return compose(lambda r: made_up_actor(body, r), (3, 3), rng)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory, body):
    folder = tmp_path_factory.mktemp("scenes")
    config = ScenesConfig(scenes=5, views=2, size=48, fewest=1, most=1, points=1500)
    write_scenes(folder, config, lambda rng: made_up_actor(body, rng))
    return folder


def moved_network():
    network = SmallRefiner(TINY)
    torch.nn.init.normal_(network.out.weight, std=0.2)
    return network


@pytest.mark.parametrize("size", [(16, 16), (17, 35), (1, 3)])
def test_untrained_it_changes_nothing_at_any_size(size):
    images = torch.rand(2, 3, *size)
    refined = SmallRefiner().refine(images, torch.rand(2, 4, *size))
    assert torch.allclose(refined, images, rtol=0, atol=1e-6)


def test_a_trained_one_uses_normals_unless_told_not_to():
    images = torch.rand(1, 3, 20, 20)
    flat, bumpy = torch.zeros(1, 4, 20, 20), torch.rand(1, 4, 20, 20)
    network = moved_network()
    assert not torch.equal(network.refine(images, flat), network.refine(images, bumpy))
    blind = SmallRefiner(SmallConfig(widths=(8, 8), normals=False))
    blind.load_state_dict(network.state_dict())
    assert torch.equal(blind.refine(images, flat), blind.refine(images, bumpy))


def test_its_size_is_within_what_ships():
    assert sum(p.numel() for p in SmallRefiner().parameters()) < 5_000_000


@pytest.mark.parametrize(
    ("normals", "words"),
    [
        (None, "needs the normal map"),
        (torch.zeros(1, 4, 8, 9), "the same cameras"),
        (torch.full((1, 4, 8, 8), torch.nan), "no numbers"),
    ],
)
def test_bad_input_is_refused(normals, words):
    with pytest.raises(CrowdGaussianError, match=words):
        SmallRefiner().refine(torch.zeros(1, 3, 8, 8), normals)


def test_saved_and_loaded_it_is_the_same(tmp_path):
    network, images = moved_network(), torch.rand(1, 3, 24, 24)
    save_small(network, tmp_path / "r.safetensors", {"licence": "Apache-2.0"})
    normals = torch.rand(1, 4, 24, 24)
    loaded = load_small(tmp_path / "r.safetensors")
    assert torch.equal(loaded.refine(images, normals), network.refine(images, normals))
    assert read_facts(tmp_path / "r.safetensors")["licence"] == "Apache-2.0"


def test_weights_of_another_architecture_are_refused(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(CrowdGaussianError, match="another architecture"):
        load_small(tmp_path / "a.safetensors")
    facts = {
        "kind": "crowdgaussian small refiner",
        "config": json.dumps({"widths": [8, 8], "blocks": 2, "normals": True}),
    }
    save_file(SmallRefiner(TINY).state_dict(), tmp_path / "b.safetensors", facts)
    with pytest.raises(CrowdGaussianError, match="another architecture"):
        load_small(tmp_path / "b.safetensors")
    (tmp_path / "c.safetensors").write_bytes(b"nothing")
    with pytest.raises(CrowdGaussianError, match="cannot be read"):
        load_small(tmp_path / "c.safetensors")


def test_nobody_of_a_scene_touches_anybody(scene):
    people = [each.points(each.actor.vertices) for each in scene.people]
    for k, one in enumerate(people):
        assert abs(one[:, 1].min()) < 0.03
        for other in people[k + 1 :]:
            assert cKDTree(one).query(other)[0].min() > 0.01
            assert apart(supports(one), supports(other))
    assert not apart(supports(people[0]), supports(people[0] + 0.05))


def test_views_are_framed_on_everybody(scene):
    points = np.concatenate([each.points(each.actor.vertices) for each in scene.people])
    cameras = hemisphere_views(scene, 7, 64)
    for camera in cameras.to_cameras():
        local = points @ camera.viewmat[:3, :3].T + camera.viewmat[:3, 3]
        pixels = (local / local[:, 2:] @ camera.K.T)[:, :2]
        assert pixels.min() > 0 and pixels.max() < 64
        assert np.ptp(pixels, axis=0).max() > 0.85 * 64


def test_every_damage_changes_what_was_not_seen(scene):
    clean = clean_people(scene, np.random.default_rng(0), 800)
    for name in HARMS:
        harmed = degrade(clean, scene.people, (name,), np.random.default_rng(1))
        again = degrade(clean, scene.people, (name,), np.random.default_rng(1))
        for before, after, twice in zip(clean, harmed, again, strict=True):
            assert np.array_equal(after.means, twice.means)
            assert np.isfinite(after.means).all() and np.isfinite(after.sh).all()
            assert len(after) < len(before) if name == "thin" else len(after) == len(before)
            assert name == "thin" or any(
                not np.array_equal(getattr(before, part), getattr(after, part))
                for part in ("means", "sh", "opacities")
            )


def test_normals_go_in_as_unit_vectors(scene):
    cameras = hemisphere_views(scene, 1, 48)
    vertices = scene.people[0].points(scene.people[0].actor.body_vertices)
    normals = normal_input(render_normals(vertices, scene.people[0].actor.body.faces, cameras))
    inside = normals[:, 3] > 0
    assert inside.any() and torch.allclose(
        normals[:, :3].norm(dim=1)[inside], torch.tensor(1.0), atol=1e-3
    )
    assert (normals[:, :3].movedim(1, -1)[~inside] == 0).all()


def test_scenes_are_split_and_resumed(scenes, body):
    assert len(PairDataset(scenes, "train")) == 8 and len(PairDataset(scenes, "test")) == 2
    pair = PairDataset(scenes, "test")[0]
    coarse, truth = pair.on(torch.zeros(3, 1, 1))
    assert coarse.shape == truth.shape == (3, 48, 48) and not torch.equal(coarse, truth)
    config = ScenesConfig(scenes=5, views=2, size=48, fewest=1, most=1, points=1500)
    write_scenes(scenes, config, lambda rng: pytest.fail("a whole scene was made again"))
    with pytest.raises(CrowdGaussianError, match="other settings"):
        write_scenes(scenes, ScenesConfig(scenes=5, views=3, size=48), lambda rng: None)


def test_train_and_evaluate_from_the_command_line(scenes, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert (
        main(
            [
                "train",
                "refiner",
                str(scenes),
                "-o",
                out,
                "--without-vgg",
                "--steps",
                "2",
                "--crop",
                "32",
            ]
        )
        == 0
    )
    assert "trained without VGG16" in capsys.readouterr().out
    path = f"{out}/refiner.safetensors"
    assert read_facts(path)["licence"] == "Apache-2.0"
    assert (
        main(
            ["evaluate", "refiner", str(scenes), "-o", f"{out}/report", "--refiner", f"mine={path}"]
        )
        == 0
    )
    report = (tmp_path / "out/report/report.md").read_text()
    assert "2 views of 1 scenes" in report and "| mine |" in report and "| coarse |" in report
    assert (tmp_path / "out/report/pictures.png").is_file()
    assert main(["evaluate", "refiner", str(scenes), "-o", out, "--refiner", "mine"]) == 2
    crowds = ["evaluate", "refiner", "-o", out, "--refiner", f"mine={path}", "--crowds", "1"]
    capsys.readouterr()
    assert main([*crowds, "--dressed", str(tmp_path)]) == 2
    assert str(tmp_path / "base.obj") in capsys.readouterr().err
