# SPDX-License-Identifier: Apache-2.0
"""Stable Diffusion's folders and refiners' own: what is read, what is refused, in one sentence."""

import json
import shutil

import pytest
import torch
from _support.refiner_made_up import (
    WIDTH,
    pictures,
    small_networks,
    small_refiner,
    write_stable_diffusion,
)
from crowdgaussian.refiner.networks.sd_checkpoint import (
    from_stable_diffusion,
    load_refiner,
    save_refiner,
)
from crowdgaussian.refiner.networks.sd_turbo import TurboConfig
from crowdgaussian.refiner.networks.small_unet import SmallConfig, SmallRefiner, save_small
from crowdgaussian.refiner.training.trainer import load_any, new_network
from crowdgaussian.refiner.types import EXTRAS, TRAINED, find_base
from crowdgaussian.weights import find
from crowdgaussian_shared.errors import CrowdGaussianError
from safetensors.torch import load_file, save_file


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published") / "sd"
    folder.mkdir()
    write_stable_diffusion(folder, half=True)
    return folder


@pytest.fixture
def copied(published, tmp_path):
    return shutil.copytree(published, tmp_path / "sd")


def change_tensors(path, change):
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def test_the_text_encoder_is_read_once_and_dropped(published):
    refiner = from_stable_diffusion(published, TurboConfig())
    assert refiner.prompt.shape == (1, 77, WIDTH) and float(refiner.prompt.std()) > 0
    assert not any("text" in name for name, _ in refiner.named_modules())


def test_weights_become_float32_whatever_the_file_holds(published):
    tensors = load_file(published / "unet/diffusion_pytorch_model.safetensors")
    assert {value.dtype for value in tensors.values()} == {torch.float16}
    refiner = from_stable_diffusion(published, TurboConfig())
    assert {value.dtype for value in refiner.parameters()} == {torch.float32}
    assert torch.equal(refiner.unet.conv_in.weight, tensors["conv_in.weight"].float())
    assert refiner.prompt.dtype == torch.float32


def test_sd_2_1_base_serves_by_its_name_in_the_catalogue(tmp_path, monkeypatch):
    monkeypatch.setenv("CROWDGAUSSIAN_WEIGHTS", str(tmp_path))
    with pytest.raises(CrowdGaussianError, match="weights fetch sd-2.1-base"):
        find_base("sd-2.1-base")
    place = tmp_path / "sd-2.1-base"
    place.mkdir()
    write_stable_diffusion(place, turbo=False)
    for file in find("sd-2.1-base").files:
        (place / file.name).touch()
    base = find_base("sd-2.1-base")
    assert base == find_base(str(place)) and "OpenRAIL++" in base.licence
    assert find("sd-2.1-base").commercial and not find("sd-turbo").commercial
    assert "Stability" in find("sd-turbo").licence
    assert "Stability" in find_base("somewhere/else").licence
    refiner = new_network(base, 0, skips=True, alpha=8)
    assert refiner.refine(*pictures()).shape == (1, 3, 32, 48) and len(refiner.skips) > 1
    scales = {m.scaling["default"] for m in refiner.vae.modules() if hasattr(m, "scaling")}
    assert scales == {2.0}  # alpha / rank
    with pytest.raises(CrowdGaussianError, match="--skips"):
        new_network(None, 0, skips=True)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_missing_part_is_named(copied, part):
    shutil.rmtree(copied / part)
    with pytest.raises(CrowdGaussianError, match=f"has no {part}/"):
        from_stable_diffusion(copied, TurboConfig())


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("unet/diffusion_pytorch_model.safetensors", "Stable Diffusion's unet/"),
        ("vae/config.json", "Stable Diffusion's vae/"),
        ("text_encoder/model.safetensors", "text_encoder cannot be read as CLIPTextModel"),
        ("tokenizer/vocab.json", "tokenizer cannot be read"),
        ("tokenizer/tokenizer_config.json", "tokenizer cannot be read"),
        ("scheduler/scheduler_config.json", "missing or damaged"),
    ],
)
@pytest.mark.parametrize("half", [False, True])
def test_a_missing_or_cut_file_is_named(copied, file, words, half):
    path = copied / file
    if half:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.unlink()
    with pytest.raises(CrowdGaussianError, match=words):
        from_stable_diffusion(copied, TurboConfig())


def test_words_are_not_put_together_without_their_rules(copied):
    (copied / "tokenizer/merges.txt").unlink()
    with pytest.raises(CrowdGaussianError, match="tokenizer cannot be read"):
        from_stable_diffusion(copied, TurboConfig())


@pytest.mark.parametrize(
    ("part", "name"), [("unet", "conv_in.weight"), ("vae", "decoder.conv_in.bias")]
)
def test_a_tensor_that_is_missing_is_not_made_up(copied, part, name):
    path = copied / part / "diffusion_pytorch_model.safetensors"
    change_tensors(path, lambda tensors: tensors.pop(name))
    with pytest.raises(CrowdGaussianError, match=f"such as {name}"):
        from_stable_diffusion(copied, TurboConfig())


def test_networks_of_another_kind_are_refused(published, copied, tmp_path):
    write = copied / "scheduler/scheduler_config.json"
    for name, value in (("prediction_type", "v_prediction"), ("beta_end", 0.02)):
        said = json.loads((published / "scheduler/scheduler_config.json").read_text())
        write.write_text(json.dumps(said | {name: value}))
        with pytest.raises(CrowdGaussianError, match=f"has {name} {value}"):
            from_stable_diffusion(copied, TurboConfig())
    shutil.copy(published / "scheduler/scheduler_config.json", write)
    shutil.rmtree(copied / "unet")
    small_networks(width=24)[1].save_pretrained(copied / "unet")
    with pytest.raises(CrowdGaussianError, match="another architecture"):
        from_stable_diffusion(copied, TurboConfig())


def test_the_two_kinds_of_refiner_are_not_mixed_up(published, tmp_path):
    small, turbo = tmp_path / "small.safetensors", tmp_path / "turbo"
    save_small(SmallRefiner(SmallConfig(widths=(8, 8))), small)
    save_refiner(small_refiner(), turbo, {"licence": "mine"})
    assert json.loads((turbo / TRAINED).read_text())["facts"] == {"licence": "mine"}
    with pytest.raises(CrowdGaussianError, match="has no unet/"):
        new_network(find_base(str(small)), 0)
    with pytest.raises(CrowdGaussianError, match="has no text_encoder/"):
        new_network(find_base(str(turbo)), 0)
    for path in (turbo / EXTRAS, turbo / "unet/diffusion_pytorch_model.safetensors"):
        with pytest.raises(CrowdGaussianError, match="another architecture"):
            load_any(path)
    for folder in (tmp_path, published):
        with pytest.raises(CrowdGaussianError, match="holds no refiner"):
            load_any(folder)
    with pytest.raises(CrowdGaussianError, match="cannot be read"):
        load_any(tmp_path / "nothing")


def test_a_plain_network_serves_as_one_that_has_learned_nothing(copied):
    (copied / "model_index.json").write_text("{}")
    given, refiner = pictures(), load_any(copied)
    assert not refiner.training and refiner.config == TurboConfig()
    expected = from_stable_diffusion(copied, TurboConfig()).eval().refine(*given)
    assert torch.equal(refiner.refine(*given), expected)


@pytest.mark.parametrize(
    "key", ["lora.decoder.conv_in.lora_A.weight", "posenet.out.weight", "prompt", "skips.0.weight"]
)
def test_every_tensor_of_a_refiner_s_own_must_be_there(tmp_path, key):
    save_refiner(small_refiner(skips=True), tmp_path / "refiner")
    change_tensors(tmp_path / "refiner" / EXTRAS, lambda tensors: tensors.pop(key))
    with pytest.raises(CrowdGaussianError, match="damaged or belongs to another"):
        load_refiner(tmp_path / "refiner")


def test_a_folder_that_cannot_be_written_keeps_the_older_one(tmp_path, monkeypatch):
    refiner = small_refiner()
    save_refiner(refiner, tmp_path / "refiner", {"number": "1"})

    def full(*given, **more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(refiner.unet, "save_pretrained", full)
    with pytest.raises(CrowdGaussianError, match="free some space"):
        save_refiner(refiner, tmp_path / "refiner", {"number": "2"})
    assert json.loads((tmp_path / "refiner" / TRAINED).read_text())["facts"] == {"number": "1"}
    assert [path.name for path in tmp_path.iterdir()] == ["refiner"]


def test_damaged_folders_of_refiners(tmp_path):
    with pytest.raises(CrowdGaussianError, match="holds no refiner"):
        load_refiner(tmp_path)
    save_refiner(small_refiner(), tmp_path / "refiner")
    extras, about = tmp_path / "refiner" / EXTRAS, tmp_path / "refiner" / TRAINED
    said = about.read_text()
    about.write_text(json.dumps(json.loads(said) | {"config": {"rank": 8}}))
    with pytest.raises(CrowdGaussianError, match="damaged or belongs to another"):
        load_refiner(tmp_path / "refiner")
    about.write_text(said)
    extras.write_bytes(extras.read_bytes()[: extras.stat().st_size // 2])
    with pytest.raises(CrowdGaussianError, match="damaged or belongs to another"):
        load_refiner(tmp_path / "refiner")
    for text, words in (('{"kind": "another"}', "another kind of refiner"), ("{", "is damaged")):
        about.write_text(text)
        with pytest.raises(CrowdGaussianError, match=words):
            load_refiner(tmp_path / "refiner")
