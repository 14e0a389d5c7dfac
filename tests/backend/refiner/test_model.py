# SPDX-License-Identifier: Apache-2.0
"""CrowdRefiner's network on small random weights in SD-Turbo's layout, its losses and its tiles."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from _support.refiner_made_up import pictures, small_refiner
from _support.vgg_made_up import VGG16, write_vgg
from crowdgaussian.body import load_body
from crowdgaussian.core import metrics as lpips
from crowdgaussian.core.training import trained_parts
from crowdgaussian.refiner.networks.sd_checkpoint import load_refiner, save_refiner
from crowdgaussian.refiner.networks.sd_turbo import (
    TARGETS,
    TurboConfig,
    cumulative_alpha,
    identity_eps,
    predicted_x0,
)
from crowdgaussian.refiner.networks.tiling import MIN_TILE, tiled
from crowdgaussian.refiner.training.dataset import render_truth
from crowdgaussian.refiner.training.losses import (
    LAYERS,
    CalibrationConfig,
    RefinerLoss,
    RefinerLossWeights,
    calibrate,
    gram,
    gram_distance,
    refiner_loss,
)
from crowdgaussian.synthetic.scenes import compose, hemisphere_views, made_up_actor
from crowdgaussian_shared.errors import CrowdGaussianError, OutOfMemoryError
from diffusers import DDPMScheduler
from torch import nn
from torch.nn import functional


def test_the_closed_form_is_the_scheduler_s_step():
    scheduler = DDPMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        num_train_timesteps=1000,
        clip_sample=False,
    )
    assert cumulative_alpha() == pytest.approx(0.755238, abs=1e-6)
    assert cumulative_alpha() == pytest.approx(float(scheduler.alphas_cumprod[199]), rel=1e-5)
    z = torch.randn(2, 4, 3, 3)
    eps = torch.randn(2, 4, 3, 3)
    assert torch.allclose(predicted_x0(z, eps), 1.15069 * z - 0.56928 * eps, atol=1e-4)


def test_the_identity_noise_gives_the_input_back():
    z = torch.randn(2, 4, 8, 8)
    assert torch.allclose(identity_eps(z), 0.26470 * z, atol=1e-4)
    assert torch.allclose(predicted_x0(z, identity_eps(z)), z, atol=1e-6)
    refiner = small_refiner()
    images, normals = pictures()
    refiner.predict_noise = lambda latent, _: identity_eps(latent)
    with torch.no_grad():
        latent, features = refiner.encode(images * 2 - 1)
        decoded = refiner.vae.decode(latent / refiner.vae.config.scaling_factor).sample
        assert torch.allclose(refiner(images, normals), (decoded + 1) / 2, atol=1e-5)


def test_the_posenet_changes_nothing_before_it_has_learned():
    refiner = small_refiner()
    images, normals = pictures()
    with torch.no_grad():
        assert torch.equal(refiner(images, normals), refiner(images, 1 - normals))
        refiner.posenet.out.weight.normal_(std=0.1)
        assert not torch.allclose(refiner(images, normals), refiner(images, 1 - normals))
        refiner.config = TurboConfig(normals=False)
        assert torch.equal(refiner(images, normals), refiner(images, 1 - normals))


def test_training_reaches_the_unet_the_posenet_and_adapters_of_the_decoder_alone():
    refiner = small_refiner(skips=True)
    parts = trained_parts(refiner)
    assert {name.split(".")[0] for name in parts} == {"unet", "posenet", "vae", "skips"}
    of_vae = [name for name in parts if name.startswith("vae.")]
    assert of_vae and all(".decoder." in name and ".lora_" in name for name in of_vae)
    images, normals = pictures()
    refiner(images, normals).square().mean().backward()
    assert all(
        value.grad is None for name, value in refiner.named_parameters() if name not in parts
    )
    assert parts["posenet.out.weight"].grad.abs().max() > 0
    assert max(parts[name].grad.abs().max() for name in of_vae) > 0


def is_target(name):
    return re.fullmatch(TARGETS, name) is not None


def test_adapters_sit_where_difix_has_them():
    assert is_target("decoder.up_blocks.0.resnets.0.conv1")
    assert is_target("decoder.mid_block.attentions.0.to_out.0") and is_target("decoder.conv_in")
    assert not is_target("encoder.conv_in") and not is_target("decoder.conv_norm_out")
    assert not is_target("post_quant_conv")


@pytest.mark.parametrize("skips", [False, True])
def test_a_saved_refiner_says_the_same(tmp_path, skips):
    refiner = small_refiner(skips=skips)
    for part in trained_parts(refiner).values():
        part.data += 0.02 * torch.randn_like(part)
    images, normals = pictures()
    before = refiner.refine(images, normals)
    for _ in range(2):  # over itself too
        save_refiner(refiner, tmp_path / "refiner")
        refiner = load_refiner(tmp_path / "refiner")
    assert refiner.config.skips == skips
    assert torch.allclose(refiner.refine(images, normals), before, atol=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["refiner"]


def test_tiles_join_without_seams():
    images, normals = pictures(200, 333)
    assert torch.allclose(tiled(lambda i, n: 2 * i, images, normals, 128, 32), 2 * images)
    blur = nn.Conv2d(3, 3, 5, padding=2)
    with torch.no_grad():
        whole = blur(images)
        joined = tiled(lambda i, n: blur(i), images, normals, 128, 64)
    assert (whole - joined)[..., 8:-8, 8:-8].abs().max() < 0.08  # only next to seams
    assert (whole - joined)[..., 8:-8, 8:-8].abs().mean() < 0.005


def test_too_little_memory_halves_the_tile():
    seen = []

    def network(images, normals):
        seen.append(images.shape[-1])
        if images.shape[-1] > 200:
            raise torch.OutOfMemoryError("no")
        return images

    images, normals = pictures(64, 700)
    assert torch.allclose(tiled(network, images, normals, 512, 64), images)
    assert max(seen[1:]) == 256 and seen[-1] == MIN_TILE


def cpu_too_small():
    torch.empty(2**50, dtype=torch.uint8)


def gpu_too_small():
    raise torch.OutOfMemoryError("no")


def another_error():
    raise RuntimeError("shapes do not fit")


@pytest.mark.parametrize("allocate", [cpu_too_small, gpu_too_small])
def test_torch_s_own_ways_to_run_out_of_memory_are_known(allocate):
    images, normals = pictures(64, 300)

    def hungry(images, normals):
        if images.shape[-1] > 200:
            allocate()
        return images

    assert torch.allclose(tiled(hungry, images, normals, 512, 64), images)
    with pytest.raises(OutOfMemoryError, match="not enough memory"):
        tiled(lambda i, n: allocate(), images, normals, 512, 64)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        tiled(lambda i, n: another_error(), images, normals, 512, 64)


@pytest.mark.parametrize(
    ("normals", "words"),
    [
        (None, "needs the normal map"),
        (torch.zeros(1, 4, 32, 40), "the same cameras"),
        (torch.full((1, 4, 32, 48), torch.nan), "no numbers"),
    ],
)
def test_bad_input_is_refused(normals, words):
    with pytest.raises(CrowdGaussianError, match=words):
        small_refiner().refine(pictures()[0], normals)


def random_vgg():
    torch.manual_seed(0)
    layers, width = [], 3
    for index in range(LAYERS[-1] + 1):
        convolution = index % 2 == 0
        layers.append(nn.Conv2d(width, 6, 3, padding=1) if convolution else nn.ReLU())
        width = 6 if convolution else width
    return nn.Sequential(*layers).requires_grad_(False)


def test_gram_looks_at_each_sample_alone():
    features, (images, _) = random_vgg(), pictures(count=2)
    other = images.flip(0)
    both = gram_distance(features, images, other)
    alone = [gram_distance(features, images[k : k + 1], other[k : k + 1]) for k in (0, 1)]
    assert torch.allclose(both, torch.stack(alone).mean(), rtol=1e-4)
    assert float(gram_distance(features, images, images)) == 0.0
    shifted = gram(torch.roll(images, 7, dims=3))
    assert torch.allclose(shifted, gram(images), rtol=1e-4)  # texture, not place


def test_losses_come_with_their_weights_and_after_the_warm_up():
    features, (images, _) = random_vgg(), pictures(count=2)
    loss = RefinerLoss(RefinerLossWeights(lpips=0.0, gram=2.0, gram_after=10), features)
    _, early = loss(images, images.flip(0), 9)
    total, late = loss(images, images.flip(0), 10)
    assert set(early) == {"l2", "ssim"} and set(late) == {"l2", "ssim", "gram"}
    assert float(total) == pytest.approx(sum(late.values()), rel=1e-5)
    assert late["l2"] == pytest.approx(float((images - images.flip(0)).square().mean()), rel=1e-5)
    bare = RefinerLossWeights().without_vgg()
    assert (
        not bare.needs_vgg
        and RefinerLossWeights().needs_vgg
        and bare.ssim == RefinerLossWeights().ssim
    )


@pytest.fixture(scope="module")
def random_perception(tmp_path_factory):
    """VGG16 and heads of random weights on disk, and the loss that was read from them."""
    folder = tmp_path_factory.mktemp("vgg")
    network, _ = write_vgg(folder)
    files = folder / "vgg16.pth", folder / "vgg.pth"
    with pytest.MonkeyPatch.context() as patch:
        for digest in ("BACKBONE_SHA256", "HEADS_SHA256"):
            patch.setattr(lpips, digest, "")
        loss = refiner_loss(RefinerLossWeights(gram_after=0), *files)
    return SimpleNamespace(network=network, files=files, loss=loss)


@pytest.fixture(scope="module")
def blurred_person():
    """Somebody on white with 2 pixels of blur, and sharp.  # [1, 3, 96, 96] twice"""
    body = load_body("open")
    scene = compose(lambda rng: made_up_actor(body, rng), (1, 1), np.random.default_rng(3))
    view = torch.from_numpy(render_truth(scene, hemisphere_views(scene, 1, 96))).float() / 255
    sharp = (view[..., :3] * view[..., 3:] + 1 - view[..., 3:]).permute(0, 3, 1, 2)
    kernel = torch.exp(-torch.arange(-6, 7).float().square() / 8)
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, 13)
    rows = functional.conv2d(functional.pad(sharp, (6,) * 4, "replicate"), kernel, groups=3)
    return functional.conv2d(rows, kernel.transpose(2, 3), groups=3), sharp


def test_perceptual_losses_read_the_published_files(random_perception):
    files, loss = random_perception.files, random_perception.loss
    with pytest.raises(CrowdGaussianError, match="or train with --without-vgg"):
        refiner_loss(RefinerLossWeights(), *files)  # these are not the published ones
    assert [type(loss.features[k]) for k in LAYERS] == [nn.ReLU] * 5
    convolutions = [layer for layer in loss.features if isinstance(layer, nn.Conv2d)]
    assert all(
        torch.equal(layer.weight, random_perception.network[f"features.{place}.weight"])
        for layer, place in zip(convolutions, VGG16, strict=True)
    )
    found = pictures()[0].requires_grad_()
    total, terms = loss(found, pictures(count=2)[0][1:], 0)
    total.backward()
    assert set(terms) == {"l2", "ssim", "lpips", "gram"} and min(terms.values()) > 0
    assert found.grad.abs().max() > 0 and not any(p.requires_grad for p in loss.parameters())
    bare = refiner_loss(RefinerLossWeights().without_vgg(), None, None)
    assert bare.features is None and bare.lpips is None


def test_gram_is_as_large_as_in_difix(blurred_person):
    features, (found, wanted) = random_vgg(), blurred_person
    shift, scale = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    ours, theirs = (
        (picture - torch.tensor(shift)[:, None, None]) / torch.tensor(scale)[:, None, None]
        for picture in (found, wanted)
    )
    expected = 0.0
    for index, layer in enumerate(features):
        ours, theirs = layer(ours), layer(theirs)
        if index in LAYERS:
            share = (1 / 2.6, 1 / 4.8, 1 / 3.7, 1 / 5.6, 10 / 1.5)[LAYERS.index(index)]
            a, b = (each[0].flatten(1) @ each[0].flatten(1).T for each in (ours, theirs))
            expected += share * float((a - b).square().mean()) / ours[0].numel()
    assert float(gram_distance(features, found, wanted)) == pytest.approx(expected, rel=1e-3)
    with torch.autocast("cpu", torch.bfloat16):
        assert float(gram_distance(features, found, wanted)) == pytest.approx(expected, rel=1e-3)


def test_every_loss_has_a_say_in_what_is_learnt(random_perception, blurred_person):
    networks, norms = random_perception.loss, {}
    for name in ("l2", "lpips", "ssim", "gram"):
        alone = dict.fromkeys(("l2", "lpips", "ssim", "gram"), 0.0) | {name: 1.0, "gram_after": 0}
        loss = RefinerLoss(RefinerLossWeights(**alone), networks.features, networks.lpips)
        found = blurred_person[0].clone().requires_grad_()
        loss(found, blurred_person[1], 0)[0].backward()
        norms[name] = float(found.grad.norm())
    for weights in (RefinerLossWeights(), RefinerLossWeights(l2=4.0)):
        parts = {name: getattr(weights, name) * norm for name, norm in norms.items()}
        shares = {name: part / sum(parts.values()) for name, part in parts.items()}
        assert min(shares.values()) > 0.02 and max(shares.values()) < 0.75, shares


def test_clean_inputs_come_as_often_as_asked():
    generator = torch.Generator().manual_seed(0)
    coarse, clean = torch.zeros(600, 3, 16, 16), torch.ones(600, 3, 16, 16)
    given = calibrate(coarse, clean, CalibrationConfig(0.3, 0.2), generator).mean(dim=(1, 2, 3))
    assert abs(float((given == 1).float().mean()) - 0.3) < 0.06
    assert abs(float((given == 0).float().mean()) - 0.5) < 0.08
    assert float(((given > 0.02) & (given < 0.98)).float().mean()) > 0.1
    off = calibrate(coarse, clean, CalibrationConfig(0.0, 0.0), generator)
    assert torch.equal(off, coarse)
    again = [
        calibrate(coarse, clean, CalibrationConfig(), torch.Generator().manual_seed(5))
        for _ in range(2)
    ]
    assert torch.equal(*again)
