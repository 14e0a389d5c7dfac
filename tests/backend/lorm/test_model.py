# SPDX-License-Identifier: Apache-2.0
"""The LORM network against plain re-derivations."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from _support.lorm_made_up import assert_close, shapes_of
from crowdgaussian.body import load_body
from crowdgaussian.lorm.model.config import HeadEncoderConfig, LormConfig
from crowdgaussian.lorm.model.encoders import HeadEncoder, PatchEncoder, SapiensEncoder
from crowdgaussian.lorm.model.lorm import LormModel, Tokens
from crowdgaussian.lorm.model.posing import Attributes, GaussianDecoder
from crowdgaussian.lorm.model.query_points import TemplateMesh, sample_points
from crowdgaussian.lorm.model.transformer import BodyHeadTransformer
from crowdgaussian.splat.reference import covariances
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.geometry.avatar import Avatar, BodyParams
from crowdgaussian_shared.geometry.skinning import pose_avatar
from torch.nn import functional as F


def cubic(x):
    """Keys' kernel with a = -0.5, which antialiased bicubic interpolation uses."""
    x = np.abs(x)
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def shrinking(old, new):
    """The matrix of antialiased bicubic interpolation in one dimension.  # [new, old]"""
    scale = old / new
    centres = (np.arange(new)[:, None] + 0.5) * scale
    rows = cubic((np.arange(old) + 0.5 - centres) / scale)
    return torch.tensor(rows / rows.sum(1, keepdims=True), dtype=torch.float32)


def plain_block(get, k, config, x):
    """One block of DINOv2: attention, then the perceptron, each scaled and added."""
    head = f"blocks.{k}."
    p = {n.removeprefix(head): v for n, v in get.items() if n.startswith(head)}

    def linear(name, value):
        return value @ p[f"{name}.weight"].T + p[f"{name}.bias"]

    def normed(name, value):
        return F.layer_norm(value, (config.width,), p[f"{name}.weight"], p[f"{name}.bias"], 1e-6)

    q, key, v = (
        part.unflatten(-1, (config.heads, -1)).transpose(1, 2)
        for part in linear("attn.qkv", normed("norm1", x)).chunk(3, dim=-1)
    )
    scores = (q @ key.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(dim=-1)
    attended = (scores @ v).transpose(1, 2).flatten(2)
    x = x + p["ls1.gamma"] * linear("attn.proj", attended)
    return x + p["ls2.gamma"] * linear("mlp.fc2", F.gelu(linear("mlp.fc1", normed("norm2", x))))


def plain_head_encoder(state, config, images):
    """DINOv2 with registers and the fusion, written down from its description."""
    get = {k.removeprefix("model."): v for k, v in state.items()}
    batch, side = len(images), config.image // config.patch
    x = (
        F.conv2d(
            images,
            get["patch_embed.proj.weight"],
            get["patch_embed.proj.bias"],
            stride=config.patch,
        )
        .flatten(2)
        .transpose(1, 2)
    )
    places = get["pos_embed"][0, 1:].reshape(config.grid, config.grid, -1)
    matrix = shrinking(config.grid, side)
    places = torch.einsum("ai,bj,ijc->abc", matrix, matrix, places).flatten(0, 1)
    first = (get["cls_token"] + get["pos_embed"][:, :1]).expand(batch, -1, -1)
    registers = get["register_tokens"].expand(batch, -1, -1)
    x, taps = torch.cat([first, registers, x + places], dim=1), []
    norm = [get[f"norm.{kind}"] for kind in ("weight", "bias")]
    for k in range(config.depth):
        x = plain_block(get, k, config, x)
        if k in config.taps:
            taps.append(F.layer_norm(x, (config.width,), *norm, 1e-6)[:, 1 + config.registers :])
    fused = [
        tap @ get[f"fusion_head.projects.{i}.weight"][:, :, 0, 0].T
        + get[f"fusion_head.projects.{i}.bias"]
        for i, tap in enumerate(taps)
    ]
    return (
        torch.cat(fused, -1) @ get["fusion_head.output_conv.weight"][:, :, 0, 0].T
        + get["fusion_head.output_conv.bias"]
    )


@torch.no_grad()
def test_head_encoder_is_dinov2_as_described():
    """Registers, 37 -> 32 position embeddings, layer scales, inner layers, no ImageNet colours."""
    torch.manual_seed(0)
    config = HeadEncoderConfig(
        depth=5, width=32, heads=2, mlp=128, patch=2, image=64, taps=(1, 2, 3, 4)
    )
    encoder = HeadEncoder(config)
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    images = torch.rand(1, 3, 64, 40)
    tokens = encoder(images)
    assert tokens.shape == (1, 1024, 32)
    padded = F.pad(images, (12, 12), value=1.0)
    assert_close(tokens, plain_head_encoder(encoder.state_dict(), config, padded))


def test_sapiens_is_read_from_its_torchscript_file(tmp_path):
    """A stand-in with the interface of the published file: a 1-tuple of a feature map."""

    class StandIn(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.patches = torch.nn.Conv2d(3, 24, 16, stride=16)

        def forward(self, x):
            return (self.patches(x),)

    network, path = StandIn(), tmp_path / "sapiens.pt2"
    torch.jit.script(network).save(str(path))
    encoder = SapiensEncoder(path, image=64)
    images = torch.rand(2, 3, 64, 40)
    tokens = encoder.tokens(images)
    white = F.pad(images, (12, 12), value=1.0)
    mean = torch.tensor([0.4844, 0.4570, 0.4062])[:, None, None]
    deviation = torch.tensor([0.2295, 0.2236, 0.2256])[:, None, None]
    expected = network.patches((white - mean) / deviation).flatten(2).transpose(1, 2)
    assert tokens.shape == (2, 16, 24) and not tokens.requires_grad
    assert torch.allclose(tokens, expected, atol=1e-5)
    assert not list(encoder.parameters()) and not encoder.state_dict()
    assert encoder.tokens(torch.rand(1, 3, 100, 60)).shape == (1, 16, 24)


def test_a_sapiens_file_that_is_missing_or_damaged(tmp_path):
    with pytest.raises(CrowdGaussianError, match="weights fetch sapiens-1b"):
        SapiensEncoder(tmp_path / "none.pt2")
    damaged = tmp_path / "sapiens.pt2"
    damaged.write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(CrowdGaussianError, match="cannot be read as a TorchScript file"):
        SapiensEncoder(damaged).tokens(torch.rand(1, 3, 8, 8))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(1)
    mesh = TemplateMesh.from_body(load_body("open"))
    config = LormConfig.tiny(num_points=600)
    points = sample_points(mesh, config.num_points)
    points = replace(points, constrained=torch.arange(600) % 7 == 0)
    made = LormModel(config, points, PatchEncoder((160, 96), 16, config.cond_dim)).eval()
    for layer in made.renderer.gs_net.out_layers.values():
        torch.nn.init.normal_(layer.weight, std=0.3)
    return made


@torch.no_grad()
def test_what_the_transformer_is_given(model, monkeypatch):
    """Body tokens, then head tokens padded with zeros; the motion from the mean body token."""
    given, queries = [], model.posing.query
    monkeypatch.setattr(
        model.transformer, "forward", lambda *inputs: given.extend(inputs) or inputs[0]
    )
    tokens = Tokens(torch.randn(2, 60, 128), torch.randn(2, 64, 64))
    model.attributes(tokens)
    points, condition, motion = given
    assert torch.equal(points, model.pcl_embed(queries).expand(2, -1, -1))
    assert torch.equal(condition[:, :60], tokens.body)
    assert torch.equal(condition[:, 60:, :64], tokens.head) and not condition[:, 60:, 64:].any()
    first, last = model.motion_embed_mlp[0], model.motion_embed_mlp[2]
    mean = tokens.body.sum(1) / 60
    hidden = F.silu(mean @ first.weight.T + first.bias)
    assert torch.allclose(motion, hidden @ last.weight.T + last.bias, atol=1e-5)


@torch.no_grad()
def test_tokens_may_be_narrower_than_the_transformer():
    """What a projection widens is what a network is given whose tokens are as wide already."""
    sizes = {"width": 96, "heads": 4, "layers": 2, "body_tokens": 20, "num_points": 12}
    torch.manual_seed(2)
    narrow = BodyHeadTransformer(LormConfig(**sizes, cond_dim=80))
    wide = BodyHeadTransformer(LormConfig(**sizes, cond_dim=96))
    state = narrow.state_dict()
    project = state["linear_cond_proj.weight"]
    same = {"weight": torch.eye(96), "bias": torch.zeros(96)}
    wide.load_state_dict(state | {f"linear_cond_proj.{k}": v for k, v in same.items()})
    points, tokens, motion = torch.randn(1, 12, 96), torch.randn(1, 30, 80), torch.randn(1, 192)
    widened = tokens @ project.T + state["linear_cond_proj.bias"]
    assert_close(narrow(points, tokens, motion), wide(points, widened, motion))


def test_a_narrow_network_has_its_sizes_from_its_tensors_and_room_for_the_head():
    config = LormConfig.tiny(width=96, cond_dim=80, num_points=40)
    found = LormConfig.from_shapes(shapes_of(config))
    head = replace(config.head_encoder, image=448, heads=1)  # which no tensor shows
    assert found == replace(config, body_tokens=4096, head_encoder=head)
    points = sample_points(TemplateMesh.from_body(load_body("open")), 40)
    assert LormModel(config, points).transformer.linear_cond_proj.in_features == 80
    with pytest.raises(CrowdGaussianError, match="head tokens of 64"):
        LormModel(replace(config, cond_dim=48), points)


@torch.no_grad()
def test_people_in_a_batch_do_not_influence_each_other(model):
    body, head = torch.rand(2, 3, 160, 96), torch.rand(2, 3, 64, 64)
    both = model(body, head)
    for index in range(2):
        alone = model(body[index : index + 1], head[index : index + 1])
        for name, value in vars(alone).items():
            assert torch.allclose(getattr(both, name)[index], value[0], atol=1e-5), name
    assert not torch.allclose(both.rgb[0], both.rgb[1], atol=1e-5)


@torch.no_grad()
def test_autocast_leaves_the_geometry_in_float32(model):
    tokens = Tokens(torch.randn(1, 60, 128), torch.randn(1, 64, 64))
    exact = model.attributes(tokens)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model.attributes(tokens)
        placed = model.gaussians(
            exact, torch.zeros(1, 16), torch.zeros(1, 55, 3), torch.zeros(1, 3)
        )
    assert all(value.dtype == torch.float32 for value in vars(rough).values())
    assert (rough.offsets - exact.offsets).abs().max() < 0.05
    still = model.gaussians(exact, torch.zeros(1, 16), torch.zeros(1, 55, 3), torch.zeros(1, 3))
    assert torch.equal(placed[0].means, still[0].means)


def posed(model):
    torch.manual_seed(2)
    attributes = model.attributes(Tokens(torch.randn(2, 60, 128), torch.randn(2, 64, 64)))
    betas, pose = torch.randn(2, 16) * 0.5, torch.randn(2, 55, 3) * 0.4
    return attributes, betas, pose, torch.randn(2, 3)


@torch.no_grad()
def test_the_avatar_in_blender_reproduces_the_networks_centres(model):
    """The open body has four weights a vertex, so nothing is cut off."""
    attributes, betas, pose, transl = posed(model)
    splats = model.gaussians(attributes, betas, pose, transl)[1]
    parts = model.canonical(attributes, 1, betas[1], pose[1])
    avatar = Avatar(
        parts.gaussians,
        parts.skin_joints,
        parts.skin_weights,
        parts.rest_joints,
        parts.body,
        BodyParams(betas[1].numpy(), pose[1].numpy(), transl[1].numpy()),
    )
    animated = pose_avatar(avatar)
    assert np.abs(animated.means - splats.means.numpy()).max() < 1e-5
    rigid = model.posing.skin_weights.amax(dim=1).numpy() > 0.999
    shapes = covariances(splats).numpy()
    turned = covariances(type(splats).from_gaussians(animated)).numpy()
    still = model.posing.constrained.numpy()
    for group in (rigid & ~still, rigid & still):
        assert group.sum() > 10
        assert np.abs(turned[group] - shapes[group]).max() < 1e-6


@torch.no_grad()
def test_canonical_body_is_the_body_models_own(model):
    attributes, betas, *_ = posed(model)
    parts = model.canonical(attributes, 0, betas[0], scale=0.5)
    vertices, joints = load_body("open").rest(betas[:1], torch.tensor([0.5]))
    assert np.allclose(parts.body.vertices, vertices[0], atol=1e-6)
    assert np.allclose(parts.rest_joints, joints[0], atol=1e-6)
    assert np.allclose(parts.skin_weights.sum(1), 1) and parts.skin_joints.dtype == np.uint8


@pytest.mark.parametrize("name", ["betas", "pose", "transl"])
def test_values_that_are_not_numbers_are_refused(model, name):
    attributes, betas, pose, transl = posed(model)
    {"betas": betas, "pose": pose, "transl": transl}[name][1].view(-1)[0] = math.nan
    with pytest.raises(CrowdGaussianError, match=f"The {name} of a person holds"):
        model.gaussians(attributes, betas, pose, transl)


def test_tokens_of_another_network_are_refused(model):
    with pytest.raises(CrowdGaussianError, match="Body tokens have the shape"):
        model.attributes(Tokens(torch.zeros(1, 61, 128), torch.zeros(1, 64, 64)))
    with pytest.raises(CrowdGaussianError, match="do not go with body tokens"):
        model.attributes(Tokens(torch.zeros(2, 60, 128), torch.zeros(1, 64, 64)))


def test_sampled_points_are_spread_as_the_published_ones(model):
    mesh = model.mesh
    points = sample_points(mesh, 4000, seed=3)
    assert torch.equal(points.template, sample_points(mesh, 4000, seed=3).template)
    heights = points.template[:, 1]
    neck = mesh.joints[12, 1]
    assert heights[3000:].min() > neck - 0.06 and heights[3000:].mean() > neck + 0.1
    assert (heights[:3000] > neck + 0.12).sum() == 0
    assert 0.3 < points.upper_body.float().mean() < 0.8


def test_large_sizes_keep_a_finite_gradient():
    decoder = GaussianDecoder(
        LormConfig(width=16, heads=1, num_points=4, decoder_hidden=8, cond_dim=16)
    )
    torch.nn.init.constant_(decoder.gs_net.out_layers["scaling"].bias, 300.0)
    features = torch.randn(1, 4, 16, requires_grad=True)
    found: Attributes = decoder(features, torch.tensor([True, False, True, False]))
    assert torch.allclose(found.scales.amax(dim=2)[0], torch.tensor([0.02, 0.05, 0.02, 0.05]))
    found.scales.sum().backward()
    assert features.grad.isfinite().all()
