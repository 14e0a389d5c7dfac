# SPDX-License-Identifier: Apache-2.0
"""SAM with random weights: layouts, prompts, frames, batches, memory."""

import json
import math
import pickle

import numpy as np
import pytest
import torch
from _support import sam_made_up as made_up
from crowdgaussian.segment.sam.network import (
    CHUNK,
    FAMILIES,
    Prompts,
    SamNetwork,
    config_from,
    load_network,
    load_sam,
    to_transformers_names,
)
from crowdgaussian_shared.errors import CrowdGaussianError
from safetensors.torch import load_file, save_file
from transformers import Sam2Config, Sam2Model, Sam3TrackerConfig, Sam3TrackerModel, SamModel

SMALL = {"width": 32, "blocks": 3, "heads": 2, "whole": (1,), "grid": 8, "window": 3, "dim": 32}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("sam") / "sam_vit_b_01ec64.pth"
    torch.save(made_up.random_state(made_up.layout(**SMALL)), path)
    return path


@pytest.fixture(scope="module")
def network(file):
    return load_network(file)


def photo_of(width, height, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


def prompts_for(people, points=3, width=160, height=100, seed=1):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 0.5, (people, 2)) * (width, height)
    boxes = np.concatenate([corner, corner + (40, 30)], axis=1)
    labels = rng.integers(-1, 2, (people, points)).astype(np.int32)
    return Prompts(boxes, corner[:, None] + rng.uniform(2, 25, (people, points, 2)), labels)


@pytest.mark.parametrize("name", made_up.PUBLISHED)
def test_published_files_load_strictly(name):
    *sizes, parameters = made_up.PUBLISHED[name]
    shapes = made_up.layout(*sizes)
    learned = [shape for key, shape in shapes.items() if "gaussian_matrix" not in key]
    assert sum(map(math.prod, learned)) == parameters
    config = config_from(shapes)
    assert tuple(config.vision_config.global_attn_indexes) == sizes[3]
    assert config.vision_config.num_attention_heads == sizes[2]
    with torch.device("meta"):
        model = SamModel(config)
        tensors = {key: torch.empty(shape) for key, shape in shapes.items()}
    model.load_state_dict(to_transformers_names(tensors), assign=True, strict=True)


def test_like_shaped_tensors_go_to_their_places():
    names = to_transformers_names({name: name for name in made_up.layout(**SMALL)})
    back = {old: new for new, old in names.items()}
    head, mlps = "mask_decoder.iou_prediction_head", "mask_decoder.output_hypernetworks_mlps.2"
    layer = "mask_decoder.transformer.layers.1"
    expected = {
        f"{head}.layers.0.bias": f"{head}.proj_in.bias",
        f"{head}.layers.1.bias": f"{head}.layers.0.bias",
        f"{mlps}.layers.1.weight": f"{mlps}.layers.0.weight",
        f"{mlps}.layers.2.weight": f"{mlps}.proj_out.weight",
        "prompt_encoder.mask_downscaling.1.bias": "prompt_encoder.mask_embed.layer_norm1.bias",
        "prompt_encoder.mask_downscaling.3.bias": "prompt_encoder.mask_embed.conv2.bias",
        "mask_decoder.output_upscaling.3.weight": "mask_decoder.upscale_conv2.weight",
        f"{layer}.norm3.bias": f"{layer}.layer_norm3.bias",
        "image_encoder.blocks.2.norm1.bias": "vision_encoder.layers.2.layer_norm1.bias",
        "image_encoder.neck.3.weight": "vision_encoder.neck.layer_norm2.weight",
    }
    for old, new in expected.items():
        assert back[old] == new


@pytest.mark.parametrize("people", [1, CHUNK + 5])
def test_everybody_is_decoded_together_as_alone(network, people):
    photo, prompts = photo_of(160, 100), prompts_for(people)
    found = network.candidates(photo, prompts)
    assert found.logits.shape == (people, 3, 32, 32) and found.scores.shape == (people, 3)
    assert np.allclose(found.scale, 32 / 160)
    k = people - 1
    one = network.candidates(
        photo, Prompts(prompts.boxes[k:], prompts.points[k:], prompts.labels[k:])
    )
    assert np.allclose(one.logits[0], found.logits[k], atol=1e-4)
    if people > 1:
        assert not np.allclose(found.logits[0], found.logits[k], atol=1e-3)


def test_boxes_points_and_labels_all_count(network):
    photo, prompts = photo_of(160, 100), prompts_for(1)
    first = network.candidates(photo, prompts).logits
    no_points = Prompts(prompts.boxes, np.zeros((1, 0, 2)), np.zeros((1, 0), np.int32))
    for other in (
        Prompts(prompts.boxes + 9, prompts.points, prompts.labels),
        Prompts(prompts.boxes, prompts.points + 9, prompts.labels),
        Prompts(prompts.boxes, prompts.points, 1 - np.abs(prompts.labels)),
        no_points,
    ):
        assert np.abs(network.candidates(photo, other).logits - first).max() > 1e-4


def test_the_photo_is_encoded_once_and_padded_or_stretched(network, monkeypatch):
    calls, encode = [], network.model.get_image_embeddings
    monkeypatch.setattr(
        network.model, "get_image_embeddings", lambda pixels: calls.append(pixels) or encode(pixels)
    )
    network.candidates(np.full((50, 100, 3), 255, np.uint8), prompts_for(2 * CHUNK))
    (pixels,) = calls
    assert pixels.shape == (1, 3, 128, 128)
    assert (pixels[:, :, 64:] == 0).all() and (pixels[:, 0, :64] > 2).all()
    stretched = SamNetwork(network.model, FAMILIES["sam2"])
    pixels, scale = stretched.prepare(np.full((50, 100, 3), 255, np.uint8))
    assert (pixels > 2).all() and np.allclose(scale, [1.28, 2.56])
    halves, _ = SamNetwork(network.model, FAMILIES["sam3_tracker"]).prepare(
        np.full((50, 100, 3), 255, np.uint8)
    )
    assert torch.allclose(halves, torch.ones(1))


def small_sam2():
    backbone = {
        "hidden_size": 16,
        "num_attention_heads": 1,
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [16, 32, 64, 128],
        "num_attention_heads_per_stage": [1] * 4,
        "window_size_per_stage": [8, 4, 4, 2],
        "global_attention_blocks": [3],
        "image_size": [64, 64],
        "model_type": "sam2_hiera_det_model",
    }
    vision = {
        "backbone_config": backbone,
        "backbone_channel_list": [128, 64, 32, 16],
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
        "fpn_hidden_size": 32,
        "model_type": "sam2_vision_model",
    }
    return Sam2Config(
        vision_config=vision,
        prompt_encoder_config={"hidden_size": 32, "image_size": 64},
        mask_decoder_config={"hidden_size": 32, "mlp_dim": 64, "iou_head_hidden_dim": 32},
    )


def small_sam3():
    backbone = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 56,
        "patch_size": 14,
        "pretrain_image_size": 56,
        "window_size": 2,
        "global_attn_indexes": [1],
        "model_type": "sam3_vit_model",
    }
    vision = {
        "backbone_config": backbone,
        "fpn_hidden_size": 32,
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
        "model_type": "sam3_vision_model",
    }
    return Sam3TrackerConfig(
        vision_config=vision,
        prompt_encoder_config={"hidden_size": 32, "image_size": 56, "patch_size": 14},
        mask_decoder_config={"hidden_size": 32, "mlp_dim": 64, "iou_head_hidden_dim": 32},
    )


@pytest.mark.parametrize("model, config", [(Sam2Model, small_sam2), (Sam3TrackerModel, small_sam3)])
def test_later_sams_are_loaded_from_their_folders(model, config, tmp_path):
    torch.manual_seed(0)
    model(config()).save_pretrained(tmp_path)
    network = load_network(tmp_path)
    found = network.candidates(photo_of(90, 60), prompts_for(3, width=90, height=60))
    assert found.logits.shape[:2] == (3, 3) and np.isfinite(found.logits).all()
    side = network.side
    lacking = load_file(tmp_path / "model.safetensors")
    name = next(name for name in lacking if "iou_token" in name)
    save_file({k: v for k, v in lacking.items() if k != name}, tmp_path / "model.safetensors")
    with pytest.raises(CrowdGaussianError, match="lacks 1 tensors"):
        load_network(tmp_path)
    assert np.allclose(
        found.scale, found.logits.shape[-1] / side * np.array([side / 90, side / 60])
    )


def test_what_is_wrong_is_said_in_one_sentence(tmp_path, file, capsys):
    with pytest.raises(CrowdGaussianError, match="missing"):
        load_sam(tmp_path / "sam.pth")
    bad = tmp_path / "bad.pth"
    bad.write_bytes(pickle.dumps({"x": Bomb()}))
    with pytest.raises(CrowdGaussianError, match="cannot be read"):
        load_sam(bad)
    assert "boom" not in capsys.readouterr().out
    state = torch.load(file, weights_only=True)
    state.pop("mask_decoder.iou_token.weight")
    torch.save(state, bad)
    with pytest.raises(CrowdGaussianError, match="cannot be read"):
        load_network(bad)
    with pytest.raises(CrowdGaussianError, match="no SAM that is known"):
        load_network(tmp_path / "folder")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "sam2"}))
    with pytest.raises(CrowdGaussianError, match="model.safetensors"):
        load_network(tmp_path)


class Bomb:
    def __reduce__(self):
        return (print, ("boom",))
