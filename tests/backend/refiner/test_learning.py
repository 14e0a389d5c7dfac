# SPDX-License-Identifier: Apache-2.0
"""Training of refiners: stops and resumes, averages, precision, losses by option, model cards."""

import json
import os
import re
import socket
import subprocess
import sys

import pytest
import torch
from _support.refiner_made_up import small_refiner, write_pairs, write_stable_diffusion
from accelerate.state import AcceleratorState
from crowdgaussian.cli.main import main
from crowdgaussian.core.training import CHECKPOINT, WeightAverage
from crowdgaussian.refiner.networks.small_unet import (
    SmallConfig,
    SmallRefiner,
    load_small,
    read_facts,
)
from crowdgaussian.refiner.training import trainer as training
from crowdgaussian.refiner.training.dataset import PairDataset
from crowdgaussian.refiner.training.losses import (
    CalibrationConfig,
    RefinerLoss,
    RefinerLossWeights,
    RefinerTraining,
)
from crowdgaussian.refiner.training.trainer import (
    RefinerTrainer,
    load_any,
    precision,
    save_trained,
    training_facts,
)
from crowdgaussian_shared.errors import Cancelled, CrowdGaussianError
from safetensors import safe_open
from safetensors.torch import load_file, save_file

TINY = SmallConfig(widths=(8, 8))
NO_VGG = RefinerLossWeights().without_vgg()


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("scenes"))


def trainer(scenes, out, network=None, **changes):
    config = RefinerTraining(**{"steps": 6, "crop": 32, "losses": NO_VGG, **changes})
    torch.manual_seed(0)
    return RefinerTrainer(
        network or SmallRefiner(TINY),
        PairDataset(scenes, "train"),
        out,
        config,
        RefinerLoss(config.losses),
    )


def weights(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(some, others):
    return all(torch.equal(some[name], others[name]) for name in some | others)


def stop_at(job, step, error=Cancelled):
    def report(progress):
        if job.step == step:
            raise error

    return report


def test_a_stopped_training_goes_on_as_if_it_had_not_been(scenes, tmp_path):
    whole = trainer(scenes, tmp_path / "whole", ema=0.9)
    whole.run()
    stopped = trainer(scenes, tmp_path / "parts", ema=0.9)
    with pytest.raises(Cancelled):
        stopped.run(stop_at(stopped, 3))
    resumed = trainer(scenes, tmp_path / "parts", ema=0.9)
    assert resumed.step == 3 and same(weights(resumed.network), weights(stopped.network))
    resumed.run()
    assert not same(weights(stopped.network), weights(whole.network))
    files = [load_file(tmp_path / part / CHECKPOINT) for part in ("whole", "parts")]
    assert {name.split(".")[0] for name in files[0]} == {
        "network",
        "average",
        "step",
        "exp_avg",
        "exp_avg_sq",
        "random",
    }
    assert same(*files)
    assert (tmp_path / "parts/samples/step_000006.png").is_file()
    for changes in (
        {"lr": 1e-4},
        {"ema": 0.99},
        {"losses": RefinerLossWeights(2.0, 0.0, 0.2, 0.0)},
    ):
        with pytest.raises(CrowdGaussianError, match="other settings"):
            trainer(scenes, tmp_path / "parts", **{"ema": 0.9, **changes})


def test_a_half_done_step_is_never_saved(scenes, tmp_path, monkeypatch):
    job = trainer(scenes, tmp_path, save_every=2)
    learn = job.optimizer.step

    def break_off():
        learn()
        if job.step == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(job.optimizer, "step", break_off)
    with pytest.raises(KeyboardInterrupt):
        job.run()
    again = trainer(scenes, tmp_path, save_every=2)
    assert again.step == 2
    again.run()
    whole = trainer(scenes, tmp_path / "whole", save_every=2)
    whole.run()
    assert same(weights(again.network), weights(whole.network))


def test_checkpoints_from_before_a_setting_existed_go_on(scenes, tmp_path):
    job = trainer(scenes, tmp_path, steps=4)
    with pytest.raises(Cancelled):
        job.run(stop_at(job, 2))
    path = tmp_path / CHECKPOINT
    with safe_open(path, "pt") as stream:
        facts = stream.metadata()
    about = json.loads(facts["about"])
    del about["settings"]["ema"], about["settings"]["bfloat16"]
    save_file(load_file(path), path, {"step": "2", "about": json.dumps(about)})
    assert trainer(scenes, tmp_path, steps=4).step == 2
    with pytest.raises(CrowdGaussianError, match="other settings"):
        trainer(scenes, tmp_path, steps=4, ema=0.5)


def test_a_damaged_checkpoint_is_told(scenes, tmp_path):
    trainer(scenes, tmp_path, steps=1).run()
    path = tmp_path / CHECKPOINT
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CrowdGaussianError, match="damaged; remove it"):
        trainer(scenes, tmp_path, steps=1)


def test_the_average_follows_the_weights(scenes, tmp_path):
    weight = torch.nn.Parameter(torch.zeros(1))
    average = WeightAverage({"w": weight}, 0.9)
    expected = 0.0
    for step in range(1, 200):
        weight.data.fill_(step)
        average.update(step)
        keep = min(0.9, (1 + step) / (10 + step))
        expected = keep * expected + (1 - keep) * step
    assert float(average.values["w"]) == pytest.approx(expected, rel=1e-5)
    with average.in_place():
        assert weight.item() == pytest.approx(expected, rel=1e-5)
    assert weight.item() == 199


def test_a_step_goes_into_the_average(scenes, tmp_path):
    job = trainer(scenes, tmp_path, steps=1, ema=0.15)
    before = weights(job.network)
    job.run()
    after = weights(job.network)
    with job.averaged():
        for name, value in job.network.state_dict().items():
            assert torch.allclose(value, 0.15 * before[name] + 0.85 * after[name], atol=1e-7)
    assert not same(before, after) and same(after, weights(job.network))


def test_the_average_is_what_training_gives(scenes, tmp_path, capsys):
    given = "--without-vgg --steps 3 --crop 32 --ema 0.9".split()
    assert main(["train", "refiner", str(scenes), "-o", str(tmp_path), *given]) == 0
    given = weights(load_small(tmp_path / "refiner.safetensors"))
    saved = load_file(tmp_path / CHECKPOINT)
    assert all(torch.equal(value, saved[f"average.{name}"]) for name, value in given.items())
    assert any(not torch.equal(value, saved[f"network.{name}"]) for name, value in given.items())


def test_stable_diffusion_learns_in_the_same_loop(scenes, tmp_path):
    network = small_refiner()
    before = weights(network)
    job = trainer(scenes, tmp_path, network, steps=1)
    job.run()
    after = network.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert any(".lora_" in name for name in changed) and any("unet." in name for name in changed)
    assert any("posenet." in name for name in changed)
    assert not any("vae.encoder" in name or "base_layer" in name for name in changed)
    loaded = load_any(save_trained(network, tmp_path, {"licence": "of the base"}))
    given = torch.rand(1, 3, 32, 32), torch.rand(1, 4, 32, 32)
    assert torch.equal(loaded.refine(*given), network.eval().refine(*given))
    assert "of the base" in (tmp_path / "refiner_card.md").read_text()


def test_a_gpu_s_arithmetic_is_bfloat16_over_float32_weights(scenes, tmp_path, monkeypatch):
    usual, full = RefinerTraining(), RefinerTraining(bfloat16=False)
    assert precision(usual, True) == "bf16"
    assert precision(usual, False) == precision(full, True) == "no"
    monkeypatch.setattr(training, "precision", lambda config, gpu: "bf16")
    AcceleratorState._reset_state(True)
    seen = set()
    try:
        network = SmallRefiner(TINY)
        network.stem.register_forward_hook(lambda layer, given, out: seen.add(out.dtype))
        job = trainer(scenes, tmp_path, network, steps=1)
        job.run()
    finally:
        AcceleratorState._reset_state(True)
    assert seen == {torch.bfloat16}
    kept = [*job.parameters.values(), *job.optimizer.state[network.stem.weight].values()]
    assert {value.dtype for value in kept} == {torch.float32}


def test_gradients_are_clipped(scenes, tmp_path):
    steps = {}
    for clip in (1e-12, 1.0):
        job = trainer(scenes, tmp_path / str(clip), steps=1, clip=clip)
        job.run()
        moment = job.optimizer.state[job.network.out.weight]["exp_avg"]
        steps[clip] = float(moment.norm()) / (1 - 0.9)
    assert steps[1e-12] <= 1.01e-12 < steps[1.0]


def free_port():
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return place.getsockname()[1]


TWO = """
import os, sys
import crowdgaussian.refiner.training.trainer  # once for both
from crowdgaussian.cli.main import main
os.environ |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
second = os.fork()
os.environ["RANK"] = os.environ["LOCAL_RANK"] = "0" if second else "1"
code = main(sys.argv[1:])
sys.stdout.flush()
if second:
    code = code or os.waitpid(second, 0)[1]
os._exit(min(code, 1))
"""


def train_in_two_processes(scenes, out):
    """As `accelerate launch --multi_gpu` does, which sets these variables."""
    options = ["--without-vgg", "--steps", "1", "--crop", "32", "--batch", "1"]
    return subprocess.run(
        [sys.executable, "-c", TWO, "train", "refiner", str(scenes), "-o", str(out), *options],
        capture_output=True,
        text=True,
        timeout=400,
        env=os.environ | {"OMP_NUM_THREADS": "1", "MASTER_PORT": str(free_port())},
    )


@pytest.mark.slow
def test_two_processes_average_the_gradients_of_their_own_crops(scenes, tmp_path):
    ran = train_in_two_processes(scenes, tmp_path / "two")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("Losses:") == 1 and ran.stdout.count("refiner.safetensors") == 1
    assert len(list((tmp_path / "two/tensorboard").iterdir())) == 1
    found = load_file(tmp_path / "two" / CHECKPOINT)
    torch.manual_seed(0)
    alone = trainer(scenes, tmp_path / "one", SmallRefiner(), steps=1, batch=1)
    both = [torch.cat(parts) for parts in zip(alone.draw(0), alone.draw(1), strict=True)]
    assert not torch.equal(both[1][0], both[1][1])
    alone.draw = lambda process: both
    alone.run()
    expected = load_file(tmp_path / "one" / CHECKPOINT)
    for name in (name for name in expected if name.startswith("exp_avg.")):
        assert torch.allclose(found[name], expected[name], rtol=1e-3, atol=1e-7), name
    assert found["exp_avg.out.weight"].abs().max() > 1e-4


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"ema": 1.0}, "--ema"),
        ({"steps": 0}, "steps"),
        ({"lr": 0.0}, "learning rate"),
        ({"crop": 16}, "32 pixels"),
    ],
)
def test_settings_that_cannot_be(settings, words):
    with pytest.raises(CrowdGaussianError, match=words):
        RefinerTraining(**settings)


def test_weights_and_shares_that_cannot_be():
    for weights in ({"l2": -1.0}, {"gram_after": -1}, {"ssim": float("nan")}):
        with pytest.raises(CrowdGaussianError, match="0 or above"):
            RefinerLossWeights(**weights)
    with pytest.raises(CrowdGaussianError, match="needs a loss"):
        RefinerLossWeights(0.0, 0.0, 0.0, 0.0)
    for shares in ((0.7, 0.4), (-0.1, 0.0), (0.0, float("nan"))):
        with pytest.raises(CrowdGaussianError, match="at most 1 together"):
            CalibrationConfig(*shares)


def command(scenes, out, *more):
    return main(
        ["train", "refiner", str(scenes), "-o", str(out), "--steps", "1", "--crop", "32", *more]
    )


def test_without_vgg_training_stops_with_instructions(scenes, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("crowdgaussian.weights.local_path", lambda name: None)
    assert command(scenes, tmp_path / "out") == 2
    sentence = capsys.readouterr().err
    assert "weights fetch vgg16" in sentence and "--without-vgg" in sentence
    assert not (tmp_path / "out").exists()


def test_options_reach_the_training(scenes, tmp_path, capsys):
    given = "--l2 0.5 --ssim 0.1 --lpips 0 --gram 0 --gram-after 7 --scl 0.2 --half-clean 0.1"
    more = "--ema 0.99 --lr 0.002 --no-normals"
    assert command(scenes, tmp_path, *given.split(), *more.split()) == 0
    with safe_open(tmp_path / CHECKPOINT, "pt") as stream:
        about = json.loads(stream.metadata()["about"])
    settings = about["settings"]
    losses = {"l2": 0.5, "lpips": 0, "ssim": 0.1, "gram": 0, "gram_after": 7, "lpips_after": 0}
    assert settings["losses"] == losses | {"perceptual": "lpips"}
    assert settings["calibration"] == {"clean": 0.2, "half_clean": 0.1}
    assert settings["ema"] == 0.99 and settings["lr"] == 0.002
    assert about["network"]["normals"] is False


def test_a_trained_network_goes_on_with_other_lessons(scenes, tmp_path, capsys):
    assert command(scenes, tmp_path / "first", "--without-vgg") == 0
    first = tmp_path / "first/refiner.safetensors"
    given = "--without-vgg", "--start", str(first), "--lr", "1e-9"
    assert command(scenes, tmp_path / "second", *given) == 0
    before, after = (weights(load_small(tmp_path / k / first.name)) for k in ("first", "second"))
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)
    assert command(scenes, tmp_path / "other", *given, "--no-normals") == 2
    assert "the network is as it was" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--no-scl", "--scl", "0.3"), "not both"),
        (("--lpips-after", "-1"), "0 or above"),
        (("--without-vgg", "--lpips", "1"), "need VGG16"),
        (("--base", "nowhere"), "has no unet/"),
        (("--base", "sd-2.1-base"), "weights fetch sd-2.1"),
    ],
)
def test_options_that_contradict(scenes, tmp_path, capsys, monkeypatch, options, words):
    monkeypatch.setenv("CROWDGAUSSIAN_WEIGHTS", str(tmp_path))
    losses = () if "--lpips" in options else ("--lpips", "0", "--gram", "0")
    assert command(scenes, tmp_path / "out", *losses, *options) == 2
    assert words in capsys.readouterr().err


def test_the_card_and_the_log_say_how_it_was_made(scenes, tmp_path, capsys):
    assert command(scenes, tmp_path, "--without-vgg", "--no-scl") == 0
    assert "trained without VGG16" in capsys.readouterr().out
    card = (tmp_path / "refiner_card.md").read_text()
    assert "**licence:** Apache-2.0" in card and "trained without VGG16" in card
    assert "**self-calibrated learning:** off" in card and "**normals:** used" in card
    assert "4 views of 2 scenes" in card and "**steps:** 1" in card
    assert f"crowdgaussian train refiner {scenes} -o {tmp_path}" in card
    facts = read_facts(tmp_path / "refiner.safetensors")
    assert facts["licence"] == "Apache-2.0" and facts["losses"].endswith("without VGG16")
    events = b"".join(path.read_bytes() for path in tmp_path.glob("tensorboard/events*"))
    assert b"trained without VGG16" in events


def test_licences_follow_what_a_refiner_is_made_from(tmp_path, scenes):
    def facts(folder):
        return training_facts(RefinerTraining(), PairDataset(folder, "train"), None, "")

    own = facts(scenes)
    assert "VGG16" not in own["losses"] and own["people"] == "made up by the program"
    lorm = facts(write_pairs(tmp_path / "lorm", 1, 1, coarse="lorm"))
    assert "made by lorm, whose terms hold" in lorm["licence"]
    scans = facts(write_pairs(tmp_path / "scans", 1, 1, people="9 of THuman2.1"))
    assert "9 of THuman2.1" in scans["licence"] and own["licence"] == "Apache-2.0"


def test_a_derivative_of_stable_diffusion_carries_its_licence(scenes, tmp_path, capsys):
    write_stable_diffusion(tmp_path / "sd")
    assert command(scenes, tmp_path / "out", "--without-vgg", "--base", str(tmp_path / "sd")) == 0
    about = json.loads((tmp_path / "out/refiner/refiner.json").read_text())
    assert "Stability AI Community License" in about["facts"]["licence"]
    card = (tmp_path / "out/refiner_card.md").read_text()
    assert re.search(r"licence:\*\* a derivative of sd: .*Stability", card)
