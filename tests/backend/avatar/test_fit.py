# SPDX-License-Identifier: Apache-2.0
"""A painted person becomes an avatar: outline, colours, holes, and what was not seen."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from _support.avatar_scene import HAIR, SHIRT, SKIN, TROUSERS, crowd_of, paint, view_of
from crowdgaussian.avatar.photo_fit import PhotoFit
from crowdgaussian.avatar.quality import all_round, coverage, measure
from crowdgaussian.avatar.types import PhotoFitConfig
from crowdgaussian.avatar.visibility import PAINTED, make_view, visible
from crowdgaussian.body import load_body
from crowdgaussian.core.progress import silent
from crowdgaussian.segment.types import CrowdView, PersonMask
from crowdgaussian_shared.errors import Cancelled, CrowdGaussianError
from crowdgaussian_shared.geometry.sh import colour_to_sh

CONFIG = PhotoFitConfig(gaussians=12000, max_crop_px=320, colour_steps=25)
C0 = 0.28209479177387814


@pytest.fixture(scope="module")
def body():
    return load_body()


@pytest.fixture(scope="module")
def scene(body):
    return paint(body)


@pytest.fixture(scope="module")
def built(body, scene):
    fit = PhotoFit(CONFIG, body)
    return fit.reconstruct_with_visibility(view_of(scene), 0, silent)


def colours(avatar):
    return avatar.gaussians.sh[:, 0] * C0 + 0.5


def nearest_paint(values):
    paints = np.array([SHIRT, TROUSERS, SKIN, HAIR])
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    dark = values.sum(1) < 0.45
    hue = (unit @ (paints[:3] / np.linalg.norm(paints[:3], axis=1, keepdims=True)).T).argmax(1)
    return np.where(dark, 3, hue)


def test_outline_colours_and_coverage(built, scene):
    quality = measure(built.avatar, view_of(scene), 0)
    assert quality["iou"] > 0.9
    assert quality["psnr_db"] > 24
    assert quality["coverage"] > 0.98


def test_avatar_is_valid(built):
    avatar = built.avatar
    gaussians = avatar.gaussians
    assert 10000 < len(gaussians) < 14000
    assert np.allclose(avatar.skin_weights.sum(1), 1, atol=1e-5)
    assert np.allclose(np.linalg.norm(gaussians.quats, axis=1), 1, atol=1e-5)
    assert (gaussians.scales > 1e-4).all() and (gaussians.scales < 0.06).all()
    assert (gaussians.opacities >= 0.5).all() and (gaussians.opacities <= 1).all()
    assert gaussians.sh.shape[1:] == (1, 3) and np.isfinite(gaussians.sh).all()
    for values in (gaussians.means, gaussians.quats, gaussians.sh, avatar.pose, avatar.betas):
        assert values.dtype == np.float32


def test_the_back_wears_what_the_front_wears(built):
    """Unseen trousers stay trousers, unseen shirt stays shirt, the back of the head is hair."""
    means, unseen = built.avatar.gaussians.means, built.seen < 0.05
    paint_of = nearest_paint(colours(built.avatar))
    back = unseen & (means[:, 2] < 0)
    arms = np.abs(means[:, 0]) > 0.2
    chest = back & ~arms & (means[:, 1] > 0.1) & (means[:, 1] < 0.3)
    thighs = back & ~arms & (means[:, 1] < -0.25) & (means[:, 1] > -0.8)
    head = back & ~arms & (means[:, 1] > 0.62) & (means[:, 2] < -0.02)
    assert (paint_of[chest] == 0).mean() > 0.95
    assert (paint_of[thighs] == 1).mean() > 0.95
    assert (paint_of[head] == 3).mean() > 0.95


def test_no_background_in_the_colours(built):
    """The background is green noise: no Gaussian may be clearly green."""
    values = colours(built.avatar)
    green = values[:, 1] - np.maximum(values[:, 0], values[:, 2])
    assert (green > 0.12).mean() < 0.005


def test_an_occluder_hides_but_leaves_no_hole(body, scene):
    """The lower half is hidden: it keeps covering the body and takes no occluder colour."""
    photo, visible = scene.photo.copy(), scene.mask.copy()
    photo[200:] = (0, 255, 0)
    hidden = np.zeros_like(visible)
    hidden[200:] = True
    masks = [PersonMask(visible & ~hidden, scene.mask, 0.4)]
    fit = PhotoFit(CONFIG, body)
    seen = CrowdView(photo, crowd_of(scene), masks)
    avatar = next(fit.reconstruct(seen, [0], silent)).result()
    assert coverage(avatar, views=6, size=160) > 0.97
    values = colours(avatar)
    assert (values[:, 1] - values[:, 0] > 0.3).mean() < 0.005
    view = make_view(seen, 0, 0.08, 320)
    assert view.hidden[210:300].any()


def test_coverage_sees_a_hole(built):
    gaussians = built.avatar.gaussians
    solid = np.where(np.abs(gaussians.means[:, 1] - 0.2) < 0.06, 0.0, gaussians.opacities)
    holed = replace(built.avatar, gaussians=replace(gaussians, opacities=solid.astype(np.float32)))
    assert coverage(holed, views=2, size=128) < 0.97


def test_cancel_stops_between_steps(body, scene):
    def stop(progress):
        if progress.fraction > 0.3:
            raise Cancelled

    with pytest.raises(Cancelled):
        next(PhotoFit(CONFIG, body).reconstruct(view_of(scene), [0], stop))


def test_nobody_visible_is_told_in_a_sentence(body, scene):
    nothing = [PersonMask(scene.mask & False, scene.mask, 1.0)]
    with pytest.raises(CrowdGaussianError, match="no visible pixel"):
        view = CrowdView(scene.photo, crowd_of(scene), nothing)
        next(PhotoFit(CONFIG, body).reconstruct(view, [0], silent)).result()


def test_a_gaussian_is_seen_by_what_it_paints_of_its_disc():
    """In numpy and in torch alike, and a slanting disc by its fewer pixels."""
    radius, depth, facing = np.array([0.01] * 4), np.full(4, 2.0), np.array([1.0, 1.0, 1.0, 0.5])
    disc = (2 * 0.01 * 1000 / 2.0) ** 2  # 100 pixels
    painted = np.array([0.0, 0.5, 2.0, 0.25]) * PAINTED * disc
    seen = visible(painted, radius, 1000.0, depth, facing)
    np.testing.assert_allclose(seen, [0.0, 0.5, 1.0, 0.25], rtol=1e-4)
    plain = visible(painted, radius, 1000.0, depth)
    alike = visible(*map(torch.from_numpy, (painted, radius)), 1000.0, torch.from_numpy(depth))
    np.testing.assert_array_equal(alike.numpy(), plain)


def test_all_round_is_high_for_a_good_fit_and_low_for_disasters(built, scene, body):
    seen = make_view(view_of(scene), 0, 0.08, 320)
    good = all_round(built.avatar, seen, 0.95)
    assert good["all_round"] > 0.8
    gaussians, means = built.avatar.gaussians, built.avatar.gaussians.means

    def score(avatar, part, view=seen, iou=0.95):
        parts = all_round(avatar, view, iou)
        assert parts["all_round"] < 0.5
        assert parts[f"round_{part}"] < min(0.6, good[f"round_{part}"])

    def changed(**fields):
        return replace(built.avatar, gaussians=replace(gaussians, **fields))

    net = gaussians.sh.copy()  # one leg shows a thing
    net[(means[:, 0] > 0) & (means[:, 1] < -0.3)] = colour_to_sh(np.array([[0.1, 0.9, 0.1]]))
    score(changed(sh=net), "legs")
    beads = gaussians.sh.copy()  # the back is sown with saturated beads
    beads[(means[:, 2] < 0) & (np.arange(len(means)) % 5 == 0)] *= -3
    score(changed(sh=beads), "colours")
    puffed = means * np.where(means[:, 1:2] < 0.3, np.float32([1, 1, 3.5]), 1)  # a balloon
    score(changed(means=puffed.astype(np.float32)), "shape")
    holed = np.where(np.abs(means[:, 1] - 0.2) < 0.08, 0, gaussians.opacities)
    score(changed(opacities=holed.astype(np.float32)), "whole")
    pose = built.avatar.pose.copy()
    pose[0] = np.pi, 0, 0  # upside down, also in the photo
    score(built.avatar.with_params(pose=pose), "upright")
    beside = built.avatar.with_params(transl=built.avatar.transl + np.float32([0.3, 0, 0]))
    score(beside, "free")
    score(built.avatar, "outline", iou=0.72)
