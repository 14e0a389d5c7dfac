# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of LHM: all published layouts load strictly, and what is wrong is named."""

import logging

import numpy as np
import pytest
import torch
from _support.lorm_made_up import (
    PUBLISHED,
    SHARED,
    SMALL,
    VOXELS,
    body_values,
    dtype_of,
    shapes_of,
    write_checkpoint,
    write_points,
)
from _support.smplx_made_up import synthetic
from crowdgaussian.body import load_body
from crowdgaussian.lorm.checkpoint import BODY, LAYER, Checkpoint, load_lorm
from crowdgaussian.lorm.model.config import LormConfig
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.geometry.skeleton import PARENTS

TABLE = SHARED / "reference/lhm_500m_hf_state_dict.tsv"
SMALL_BODY = (300, 500)
Q_WEIGHT = "transformer.layers.0.body_dit.attn.to_q.weight"


@pytest.fixture(autouse=True)
def no_fetched_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("CROWDGAUSSIAN_WEIGHTS", str(tmp_path / "weights"))


def refusal(*arguments, **more) -> str:
    with pytest.raises(CrowdGaussianError) as caught:
        load_lorm(*arguments, **more)
    sentence = str(caught.value)
    assert sentence.endswith(".") and "\n" not in sentence
    return sentence


def small(folder, change=None, floats="F32", values=True):
    """A small checkpoint with its points beside it; `change` edits the shapes."""
    rng = np.random.default_rng(0)
    shapes = shapes_of(SMALL, *SMALL_BODY)
    body, places = body_values(SMALL, rng, *SMALL_BODY)
    network = {
        name: rng.normal(0, 0.1, shape).astype(np.float32)
        for name, shape in shapes.items()
        if not name.startswith(BODY)
    }
    written = (body | network) if values else body
    if floats == "F16":
        written = {
            name: value.astype(np.float16) if dtype_of(name) == "F32" else value
            for name, value in written.items()
        }
    if floats == "BF16":
        written = {
            name: _bf16(value) if dtype_of(name) == "F32" else value
            for name, value in written.items()
        }
    if change:
        change(shapes)
        written = {name: value for name, value in written.items() if name in shapes}
    folder.mkdir(exist_ok=True)
    write_checkpoint(folder / "model.safetensors", shapes, written, floats)
    write_points(folder / f"1_{SMALL.num_points}.ply", places)
    return folder, network


def _bf16(value):
    return torch.from_numpy(value).bfloat16().view(torch.int16).numpy()


@pytest.mark.skipif(
    not TABLE.is_file(),
    reason="no table of the published tensors; put ../shared/reference beside the checkout",
)
def test_the_layout_is_the_published_table():
    rows = [line.split("\t") for line in TABLE.read_text().splitlines()]
    shapes = {
        name: tuple(int(n) for n in shape.strip("()").split(",") if n.strip())
        for name, shape, *_ in rows
    }
    dtypes = {
        name: {"float32": "F32", "int64": "I64", "bool": "BOOL"}[dtype]
        for name, _, dtype, _ in rows
    }
    assert len(rows) == 721
    assert shapes_of(PUBLISHED["500m-hf"]) == shapes
    assert {name: dtype_of(name) for name in shapes} == dtypes
    assert LormConfig.from_shapes(shapes) == PUBLISHED["500m-hf"]


@pytest.mark.parametrize(
    "name, tensors, size",
    [
        ("mini", 529, 2_775_668_536),
        ("500m-hf", 721, 3_830_005_560),
        ("1b", 1361, 6_852_462_632),
    ],
)
def test_published_layouts_load_strictly(tmp_path, monkeypatch, name, tensors, size):
    """Tensor counts and file sizes are the published ones, to the byte.

    The files are full-size but sparse; the network's tensors are zeros without memory of their own.
    """
    config, read = PUBLISHED[name], Checkpoint.__getitem__
    monkeypatch.setattr(
        Checkpoint,
        "__getitem__",
        lambda self, name: (
            read(self, name) if name.startswith(BODY) else torch.zeros(()).expand(self.shapes[name])
        ),
    )
    shapes = shapes_of(config)
    values, places = body_values(config, np.random.default_rng(0))
    written = write_checkpoint(tmp_path / "model.safetensors", shapes, values)
    assert (len(shapes), written) == (tensors, size)
    write_points(tmp_path / f"1_{config.num_points}.ply", places)

    model = load_lorm(tmp_path)

    assert model.config == config
    state = model.state_dict()
    assert {k: tuple(v.shape) for k, v in state.items()} == {
        k: v for k, v in shapes.items() if not k.startswith(BODY)
    }
    assert not any(value.is_meta for value in state.values())
    assert model.posing.query.shape == (config.num_points, 3)


def test_values_arrive(tmp_path):
    folder, network = small(tmp_path / "a")
    model = load_lorm(folder)
    state = model.state_dict()
    assert all(np.array_equal(state[name], value) for name, value in network.items())
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("floats, digits", [("F16", 1e-3), ("BF16", 1e-2)])
def test_half_precision_checkpoints_load_as_float32(tmp_path, floats, digits):
    folder, network = small(tmp_path / "a", floats=floats)
    state = load_lorm(folder).state_dict()
    assert state[Q_WEIGHT].dtype == torch.float32
    assert np.allclose(state[Q_WEIGHT], network[Q_WEIGHT], rtol=digits, atol=1e-6)


def test_what_the_network_does_not_use_is_not_missed_or_minded(tmp_path):
    def change(shapes):
        for name in VOXELS:
            del shapes[name]
        shapes["id_face_net.conv1.weight"] = (64, 1, 3, 3)

    load_lorm(small(tmp_path / "a", change, values=False)[0])


@pytest.mark.parametrize(
    "change, words",
    [
        (
            lambda s: s.update({"transformer.norm.weigth": s.pop("transformer.norm.weight")}),
            ("lacks transformer.norm.weight", "unknown transformer.norm.weigth"),
        ),
        (lambda s: s.update({Q_WEIGHT: (64, 65)}), (f"{Q_WEIGHT} is 64x65 instead of 64x64",)),
        (lambda s: s.update(surplus=(3,)), ("unknown surplus",)),
        (
            lambda s: [s.pop(n) for n in list(s) if n.startswith("encoder.model.blocks.2.")],
            ("lacks encoder.model.blocks.2", "and 11 more"),
        ),
        (lambda s: s.pop("pcl_embed.basis"), ("pcl_embed.basis is missing",)),
        (lambda s: s.pop(BODY + "is_cavity"), (f"lacks {BODY}is_cavity",)),
    ],
)
def test_wrong_tensors_are_named(tmp_path, change, words):
    sentence = refusal(small(tmp_path / "a", change, values=False)[0])
    assert all(word in sentence for word in words), sentence


@pytest.mark.parametrize("keep", [0, 5, 1000, 200_000])
def test_a_file_cut_off_anywhere_is_refused(tmp_path, keep):
    folder, _ = small(tmp_path / "a", values=False)
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(keep)
    assert "cut off" in refusal(folder)


def test_a_missing_file_says_how_to_get_it(tmp_path):
    assert "crowdgaussian weights fetch" in refusal(tmp_path / "nowhere")
    assert "crowdgaussian weights fetch" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["3DAIGC/LHM-MINI", "somebody/unknown"])
def test_an_offline_hub_is_one_sentence(monkeypatch, name):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert f"https://huggingface.co/{name} cannot be reached" in refusal(name)


def test_points_must_be_those_of_the_checkpoint(tmp_path):
    folder, _ = small(tmp_path / "a", values=False)
    places = np.random.default_rng(1).normal(size=(SMALL.num_points, 3)).astype(np.float32)
    others = write_points(tmp_path / "others.ply", places)
    assert "not those this checkpoint was trained with" in refusal(folder, points=others)
    fewer = write_points(tmp_path / "fewer.ply", places[:100])
    assert "holds 100 points where this checkpoint has 400" in refusal(folder, points=fewer)
    assert "does not exist" in refusal(folder, points=tmp_path / "none.ply")


def test_without_the_published_points_new_ones_are_sampled(tmp_path, caplog):
    folder, _ = small(tmp_path / "a", values=False)
    (folder / f"1_{SMALL.num_points}.ply").unlink()
    with caplog.at_level(logging.WARNING):
        model = load_lorm(folder)
    assert "sampled anew" in caplog.text
    posing, layer = model.posing, Checkpoint(folder)
    vertices, weights = layer[LAYER + "v_template"], layer[LAYER + "lbs_weights"]
    back = (posing.unpose[..., :3] @ posing.query[..., None])[..., 0] + posing.unpose[..., 3]
    nearest = torch.cdist(back, vertices).argmin(dim=1)
    agree = (posing.skin_weights - weights[nearest]).abs().amax(dim=1) < 1e-6
    assert agree.float().mean() > 0.9  # un-posing blends, so a few change their nearest vertex
    share = posing.constrained.float().mean()
    assert 0.05 < share < 0.35  # a vertex is constrained when any published point on it is


def test_smplx_from_the_users_file_does_what_the_checkpoints_own_does(tmp_path):
    rng = np.random.default_rng(0)
    arrays = synthetic(rng)
    np.savez(tmp_path / "SMPLX_NEUTRAL.npz", **arrays)
    own = {
        "v_template": arrays["v_template"],
        "lbs_weights": arrays["weights"],
        "shapedirs": arrays["shapedirs"][:, :, :10],
        "J_regressor": arrays["J_regressor"],
        "parents": np.array(PARENTS),
        "faces_tensor": arrays["f"].astype(np.int64),
    }
    owner = rng.integers(0, len(arrays["v_template"]), SMALL.num_points)
    values = {LAYER + name: value for name, value in own.items()} | {
        BODY + "skinning_weight": own["lbs_weights"][owner],
        BODY + "shape_dirs": own["shapedirs"][owner],
    }
    shapes = shapes_of(SMALL)
    places = write_points(tmp_path / "1_400.ply", own["v_template"][owner])
    write_checkpoint(tmp_path / "model.safetensors", shapes, values)
    whole = load_lorm(tmp_path)
    for name in [name for name in shapes if name.startswith(LAYER)]:
        del shapes[name]
    stripped = tmp_path / "stripped.safetensors"
    write_checkpoint(stripped, shapes, {k: v for k, v in values.items() if k in shapes})
    assert "lacks" in refusal(stripped, points=places)
    assert "16 shape directions where the checkpoint has 10" in refusal(
        stripped, points=places, body=load_body("open")
    )
    other = load_lorm(stripped, points=places, body=load_body("smplx", tmp_path))
    for name, value in whole.posing.named_buffers():
        assert torch.allclose(value.float(), getattr(other.posing, name).float(), atol=1e-6), name
