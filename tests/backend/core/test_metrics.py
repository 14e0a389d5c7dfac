# SPDX-License-Identifier: Apache-2.0
"""PSNR and SSIM against scikit-image, their masks, and their gradients."""

import numpy as np
import pytest
import torch
from crowdgaussian.core.metrics import masked_psnr, masked_ssim, psnr, ssim


@pytest.fixture
def pair():
    rng = np.random.default_rng(3)
    truth = np.kron(rng.random((2, 8, 9, 3)), np.ones((1, 4, 4, 1)))
    return np.clip(truth + rng.normal(0, 0.1, truth.shape), 0, 1), truth


def torches(*arrays):
    return (torch.as_tensor(a, dtype=torch.float64) for a in arrays)


def test_agree_with_scikit_image(pair):
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    image, truth = torches(*pair)
    for k in range(2):
        a, b = pair[0][k], pair[1][k]
        expected = structural_similarity(
            a,
            b,
            channel_axis=-1,
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        assert float(ssim(image, truth)[k]) == pytest.approx(expected, abs=1e-9)
        expected = peak_signal_noise_ratio(b, a, data_range=1.0)
        assert float(psnr(image, truth)[k]) == pytest.approx(expected, abs=1e-9)


def test_equal_images_are_perfect(pair):
    (truth,) = torches(pair[1])
    assert torch.allclose(ssim(truth, truth), torch.ones(2).double())
    assert torch.equal(psnr(truth, truth), torch.full((2,), 100.0).double())


def test_the_background_does_not_dilute_a_masked_number(pair):
    image, truth = torches(*pair)
    small = masked_psnr(image, truth, torch.ones(2, 32, 36, dtype=torch.bool))
    assert torch.allclose(small, psnr(image, truth))
    wide = [torch.nn.functional.pad(t, (0, 0, 40, 40, 40, 40), value=1.0) for t in (image, truth)]
    mask = torch.nn.functional.pad(torch.ones(2, 32, 36, dtype=torch.bool), (40, 40, 40, 40))
    assert torch.allclose(masked_psnr(*wide, mask), small)
    assert (psnr(*wide) - small > 8).all()  # -10 log10 of the fraction that the person fills
    assert (masked_ssim(*wide, mask) < ssim(*wide) - 0.05).all()


def test_an_empty_mask_has_no_number(pair):
    image, truth = torches(*pair)
    mask = torch.zeros(2, 32, 36, dtype=torch.bool)
    mask[1, 10:20, 10:20] = True
    for metric in (masked_psnr, masked_ssim):
        value = metric(image, truth, mask)
        assert value[0].isnan() and value[1].isfinite()


def test_gradients_make_images_alike(pair):
    image, truth = torches(*pair)
    image.requires_grad_()
    before = ssim(image, truth).mean()
    before.backward()
    with torch.no_grad():
        step = image + 0.5 * image.grad / image.grad.abs().max() * 0.05
    assert ssim(step, truth).mean() > before
