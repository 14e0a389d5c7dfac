# SPDX-License-Identifier: Apache-2.0
"""Low-rank adapters: how many parameters, what training changes, and the small file."""

import pytest
import torch
from crowdgaussian.body import load_body
from crowdgaussian.lorm.model.adapters import (
    TARGETS,
    adapter_size,
    adapters_off,
    add_adapters,
    load_adapters,
    remove_adapters,
    save_adapters,
    trainable,
)
from crowdgaussian.lorm.model.config import LormConfig
from crowdgaussian.lorm.model.lorm import LormModel, Tokens
from crowdgaussian.lorm.model.query_points import TemplateMesh, sample_points
from crowdgaussian_shared.errors import CrowdGaussianError

PUBLISHED_COUNTS = {
    "samples": 2_621_440,
    "attention": 5_111_808,
    "attention+ff": 11_010_048,
    "all": 15_335_424,
}


@pytest.fixture(scope="module")
def mesh():
    return TemplateMesh.from_body(load_body("open"))


def published_size(mesh):
    config = LormConfig()
    points = sample_points(mesh, config.num_points)
    with torch.device("meta"):
        return LormModel(config, points)


def tiny(mesh, layers=2):
    torch.manual_seed(0)
    config = LormConfig.tiny(num_points=200, layers=layers)
    model = LormModel(config, sample_points(mesh, 200)).eval()
    for parameter in model.renderer.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def tokens():
    generator = torch.Generator().manual_seed(3)
    return Tokens(
        torch.randn(1, 60, 128, generator=generator), torch.randn(1, 64, 64, generator=generator)
    )


def output(model):
    with torch.no_grad():
        attributes = model.attributes(tokens())
    return torch.cat([value.flatten() for value in vars(attributes).values()])


def disturb(model):
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in trainable(model):
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)


@pytest.mark.parametrize("targets", list(TARGETS))
def test_numbers_of_trainable_parameters_of_lhm_500m(mesh, targets):
    model = published_size(mesh)
    said = adapter_size(model, 32, targets)
    parameters = add_adapters(model, rank=32, targets=targets)
    assert f"{PUBLISHED_COUNTS[targets]:,} parameters" in said
    assert sum(p.numel() for p in parameters) == PUBLISHED_COUNTS[targets]
    assert parameters == trainable(model)


def test_the_default_is_rank_32_on_the_attention(mesh):
    model = published_size(mesh)
    assert sum(p.numel() for p in add_adapters(model)) == 5_111_808


def test_the_file_of_the_full_size_adapters_is_small(mesh, tmp_path):
    model = published_size(mesh)
    model.transformer.to_empty(device="cpu")  # memory that nothing touches
    add_adapters(model)
    path = save_adapters(model, tmp_path / "lorm.safetensors")
    assert 20e6 < path.stat().st_size < 25e6


def test_new_adapters_change_nothing_and_off_means_the_base_model(mesh):
    model = tiny(mesh)
    base = output(model)
    add_adapters(model, rank=4)
    assert torch.equal(output(model), base)
    disturb(model)
    changed = output(model)
    assert not torch.allclose(changed, base, atol=1e-3)
    flags = [p.requires_grad for p in model.parameters()]
    with adapters_off(model) as teacher:
        assert torch.equal(output(teacher), base)
    assert torch.equal(output(model), changed)
    assert [p.requires_grad for p in model.parameters()] == flags


@pytest.mark.parametrize("checkpointing", [False, True])
def test_training_changes_the_adapters_and_nothing_else(mesh, checkpointing):
    model = tiny(mesh)
    parameters = add_adapters(model, rank=4)
    model.transformer.gradient_checkpointing = checkpointing
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimiser = torch.optim.AdamW(parameters, lr=1e-2)
    for _ in range(2):  # the first step moves B only, because B starts at zero
        model.attributes(tokens()).rgb.square().mean().backward()
        optimiser.step()
        optimiser.zero_grad()
    after = model.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed and all(".lora_" in name for name in changed)
    still = {name for name in before if ".lora_" in name} - changed
    assert all("layers.1." in name and "add_q_proj" in name for name in still), still


def test_saved_adapters_reload_to_the_same_output(mesh, tmp_path):
    model = tiny(mesh)
    base = output(model)
    add_adapters(model, rank=4, alpha=8)
    disturb(model)
    changed = output(model)
    path = save_adapters(model, tmp_path / "new" / "a.safetensors")
    other = tiny(mesh)
    load_adapters(other, path)
    assert torch.equal(output(other), changed)
    remove_adapters(other)
    assert torch.equal(output(other), base) and not trainable(other)


def test_bad_adapter_files_leave_the_model_as_it_was(mesh, tmp_path):
    small, large = tiny(mesh), tiny(mesh, layers=3)
    add_adapters(large, rank=4)
    path = save_adapters(large, tmp_path / "large.safetensors")
    base = output(small)
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(path.read_bytes()[:1000])
    for file, words in (
        (path, "other sizes"),
        (damaged, "damaged"),
        (tmp_path / "none", "missing"),
    ):
        with pytest.raises(CrowdGaussianError, match=words):
            load_adapters(small, file)
    assert torch.equal(output(small), base)
    with pytest.raises(CrowdGaussianError, match="No layer of the transformer matches"):
        add_adapters(small, targets="nothing")
    with pytest.raises(CrowdGaussianError, match="no adapters to save"):
        save_adapters(small, tmp_path / "b")
    with pytest.raises(CrowdGaussianError, match="already has adapters"):
        add_adapters(large)
