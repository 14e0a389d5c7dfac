# SPDX-License-Identifier: Apache-2.0
"""CrowdRefiner's network on small random weights in SD-Turbo's layout, its losses and its tiles."""

import re
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from _support.refiner_made_up import pictures, small_refiner
from _support.vgg_made_up import TAPS, VGG16, write_vgg
from crowdgaussian.body import load_body
from crowdgaussian.core import metrics as lpips
from crowdgaussian.core.metrics import load_st_lpips
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
    WITH_ST_LPIPS,
    CalibrationConfig,
    RefinerLoss,
    RefinerLossWeights,
    calibrate,
    gram,
    gram_distance,
    refiner_loss,
)
from crowdgaussian.synthetic.scenes import compose, hemisphere_views, made_up_actor
from crowdgaussian.weights.catalogue import SHIFT_TOLERANT_VGG
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


def activations(seed):
    """Of five layers, two samples each."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(2, 6, side, side, generator=generator) for side in (32, 16, 8, 4, 2)]


def test_gram_looks_at_each_sample_alone():
    ours, theirs = activations(0), activations(1)
    both = gram_distance(ours, theirs)
    alone = [
        gram_distance(*([layer[k : k + 1] for layer in part] for part in (ours, theirs)))
        for k in (0, 1)
    ]
    assert torch.allclose(both, torch.stack(alone).mean(), rtol=1e-4)
    assert float(gram_distance(ours, ours)) == 0.0
    shifted = gram(torch.roll(ours[0], 7, dims=3))
    assert torch.allclose(shifted, gram(ours[0]), rtol=1e-4)  # texture, not place


def test_losses_come_with_their_weights_and_after_the_warm_up(random_perception):
    images = pictures(count=2)[0]
    weights = RefinerLossWeights(lpips=0.5, gram=2.0, gram_after=10, lpips_after=20)
    loss = RefinerLoss(weights, random_perception.loss.perception)
    _, early = loss(images, images.flip(0), 9)
    total, late = loss(images, images.flip(0), 10)
    _, last = loss(images, images.flip(0), 20)
    assert set(early) == {"l2", "ssim"} and set(late) == {"l2", "ssim", "gram"}
    assert set(last) == {*late, "lpips"}
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
    blocks = loss.perception.blocks
    assert [type(block[-1]) for block in blocks] == [nn.ReLU] * 5
    convolutions = [layer for layer in blocks.modules() if isinstance(layer, nn.Conv2d)]
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
    assert bare.perception is None


def made_up_st_lpips(path):
    """Random weights under the names of stlpips_pytorch's file."""
    rng, weights = np.random.default_rng(0), {}
    starts = ("1.0", "1.2", "2.6", "2.8", "3.12", "3.14", "3.16", "4.20", "4.22", "4.24")
    for start, (before, after) in zip((*starts, "5.28", "5.30", "5.32"), VGG16.values()):
        size = np.float32((2 / before / 9) ** 0.5)
        noise = rng.standard_normal((after, before, 3, 3), np.float32) * size
        weights[f"net.slice{start}.weight"] = torch.from_numpy(noise)
        noise = rng.standard_normal(after, np.float32) * np.float32(0.1)
        weights[f"net.slice{start}.bias"] = torch.from_numpy(noise)
    for k, place in enumerate(TAPS):
        line = rng.random((1, VGG16[place][1], 1, 1), np.float32)
        weights[f"lin{k}.model.1.weight"] = torch.from_numpy(line)
    torch.save(weights, path)
    return path


def waves():
    """Two pictures, and the first upside down.  # [1, 48, 40, 3] each"""
    rows, columns = np.meshgrid(np.arange(48.0), np.arange(40.0), indexing="ij")
    a, b = (
        np.stack(
            [
                0.5 + size * np.sin(rows / 3 + k + late) * np.cos(columns / wide - k)
                for k in (0, 1, 2)
            ],
            axis=2,
        )
        for size, late, wide in ((0.5, 0, 5), (0.4, 0.3, 4))
    )
    return [torch.from_numpy(each.copy()).float()[None] for each in (a, b, a[::-1])]


# What the package stlpips_pytorch 0.0.2 says of waves(), with other weights and with its own
MADE_UP = 0.39713275, 0.65619433, 0.70176667
PUBLISHED = 0.25769389, 0.63373226, 0.75970626


@pytest.mark.parametrize("golden", [MADE_UP, PUBLISHED], ids=["made up", "published"])
def test_st_lpips_gives_its_package_s_numbers(tmp_path, golden):
    if golden is MADE_UP:
        path = made_up_st_lpips(tmp_path / "vgg.pth")
    elif find_spec(SHIFT_TOLERANT_VGG.package) is None:
        pytest.skip("stlpips_pytorch is not installed")
    else:
        path, _ = SHIFT_TOLERANT_VGG.checked_path()
    distance, (a, b, c) = load_st_lpips(path), waves()
    found = [float(distance(*pair)) for pair in ((a, b), (a, c), (b, c))]
    assert found == pytest.approx(golden, rel=1e-4)
    assert float(distance(a, a)) == 0.0


def test_st_lpips_is_named_and_its_file_is_checked(tmp_path, monkeypatch):
    weights = RefinerLossWeights(**WITH_ST_LPIPS)
    assert "0.1 x ST-LPIPS" in weights.in_words() and "Gram of ST-LPIPS's" in weights.in_words()
    with pytest.raises(CrowdGaussianError, match="one of: lpips, st-lpips"):
        RefinerLossWeights(perceptual="lpips-vgg")
    place = tmp_path / SHIFT_TOLERANT_VGG.package
    (place / SHIFT_TOLERANT_VGG.file).parent.mkdir(parents=True)
    (place / "__init__.py").write_text("raise AssertionError('its code is not run')")
    file = place / SHIFT_TOLERANT_VGG.file
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(CrowdGaussianError, match="is missing; run .pip install .*stlpips_pytorch"):
        refiner_loss(weights, None, None)
    torch.save({"net.slice1.0.weight": torch.zeros(1)}, file)
    with pytest.raises(CrowdGaussianError, match="is not the one this version was made for"):
        refiner_loss(weights, None, None)
    for content in (None, b"PK", b""):
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(CrowdGaussianError, match="cannot be read as ST-LPIPS"):
            load_st_lpips(file)


def test_gram_is_as_large_as_in_difix(random_perception, blurred_person):
    found, wanted = blurred_person
    shift, scale = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    shift, scale = (torch.tensor(value)[:, None, None] for value in (shift, scale))
    both = (torch.cat(blurred_person) - shift) / scale
    expected, network = 0.0, random_perception.network
    for place in VGG16:
        if place and place - 2 not in VGG16:  # a pooling took a number
            both = functional.max_pool2d(both, 2)
        both = functional.conv2d(
            both, *(network[f"features.{place}.{part}"] for part in ("weight", "bias")), padding=1
        ).relu()
        if place in TAPS:
            share = (1 / 2.6, 1 / 4.8, 1 / 3.7, 1 / 5.6, 10 / 1.5)[TAPS.index(place)]
            a, b = (each.flatten(1) @ each.flatten(1).T for each in both)
            expected += share * float((a - b).square().mean()) / both[0].numel()
    alone = RefinerLossWeights(l2=0.0, ssim=0.0, lpips=0.0, gram=1.0, gram_after=0)
    loss = RefinerLoss(alone, random_perception.loss.perception)
    assert float(loss(found, wanted, 0)[0]) == pytest.approx(expected, rel=1e-3)
    with torch.autocast("cpu", torch.bfloat16):
        assert float(loss(found, wanted, 0)[0]) == pytest.approx(expected, rel=1e-3)


def test_every_loss_has_a_say_in_what_is_learnt(random_perception, blurred_person):
    networks, norms = random_perception.loss, {}
    for name in ("l2", "lpips", "ssim", "gram"):
        alone = dict.fromkeys(("l2", "lpips", "ssim", "gram"), 0.0) | {name: 1.0, "gram_after": 0}
        loss = RefinerLoss(RefinerLossWeights(**alone), networks.perception)
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
