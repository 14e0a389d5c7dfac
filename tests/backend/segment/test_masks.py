# SPDX-License-Identifier: Apache-2.0
"""Masks on drawn cases whose answer is known."""

import cv2
import numpy as np
import pytest
from crowdgaussian.core.crop import Crop, box_of
from crowdgaussian.segment.silhouettes import (
    EdgeInput,
    assign_pixels,
    clean,
    drop_specks,
    fill_holes,
    guided_filter,
    refine_edges,
)
from crowdgaussian.segment.types import SegmentConfig
from crowdgaussian_shared.geometry.camera import Camera


def box_mask(shape, x0, y0, x1, y1):
    mask = np.zeros(shape, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def test_nearer_body_wins_where_both_claim():
    left, right = box_mask((40, 60), 5, 5, 35, 35), box_mask((40, 60), 25, 5, 55, 35)
    soft = [left * np.float32(0.95), right * np.float32(0.9)]
    depths = [np.where(left, np.float32(3.0), np.inf), np.where(right, np.float32(2.0), np.inf)]
    first, second = assign_pixels(soft, depths, 0.45)
    assert np.array_equal(second, right)
    assert np.array_equal(first, left & ~right)
    swapped = assign_pixels(soft, depths[::-1], 0.45)
    assert not (swapped[0] & swapped[1]).any()


def test_surer_mask_wins_where_only_one_body_projects():
    claim = box_mask((20, 20), 2, 2, 18, 18)
    soft = [claim * np.float32(0.6), claim * np.float32(0.9)]
    depths = [np.full((20, 20), 1.0, np.float32), np.full((20, 20), np.inf, np.float32)]
    first, second = assign_pixels(soft, depths, 0.45)
    assert second.sum() == claim.sum() and not first.any()


def test_clear_soft_difference_beats_depth():
    claim = box_mask((20, 20), 2, 2, 18, 18)
    near, far = np.full((20, 20), 1.0, np.float32), np.full((20, 20), 2.0, np.float32)
    first, second = assign_pixels(
        [claim * np.float32(0.51), claim * np.float32(1.0)], [near, far], 0.45
    )
    assert not first.any() and np.array_equal(second, claim)


def test_nobody_and_nothing():
    assert assign_pixels([], [], 0.4) == []
    empty = np.zeros((8, 8), np.float32)
    assert not assign_pixels([empty], [np.full((8, 8), np.inf)], 0.4)[0].any()


def test_parts_cut_by_an_occluder_stay_and_specks_go():
    mask = box_mask((100, 60), 20, 5, 40, 45) | box_mask((100, 60), 20, 55, 40, 95)
    speck = box_mask((100, 60), 50, 50, 53, 53)
    hand = box_mask((100, 60), 5, 20, 8, 23)
    kept = drop_specks(mask | speck | hand, np.array([[6.5, 21.5], [500.0, -4.0]]), 0.05)
    assert np.array_equal(kept, mask | hand)


def test_small_hole_filled_and_large_hole_kept():
    mask = box_mask((100, 100), 10, 10, 90, 90)
    mask[20:23, 20:23] = False
    mask[50:70, 50:70] = False
    filled = fill_holes(mask, 0.01)
    assert filled[21, 21] and not filled[60, 60]
    assert not fill_holes(np.zeros((9, 9), bool), 0.5).any()


def test_clean_smooths_without_moving_the_edge():
    rng = np.random.default_rng(0)
    truth = box_mask((120, 80), 20, 20, 60, 100)
    noisy = truth ^ (rng.random(truth.shape) < 0.01)
    assert iou(clean(noisy, np.zeros((0, 2)), 2, 0.05, 0.01), truth) > 0.98


def test_refined_edge_follows_the_photo():
    rng = np.random.default_rng(1)
    truth = box_mask((200, 160), 50, 30, 110, 180)
    photo = np.where(truth[..., None], (190, 40, 40), (60, 140, 70)).astype(np.float64)
    photo = np.clip(photo + rng.normal(0, 8, photo.shape), 0, 255).astype(np.uint8)
    shifted = np.roll(truth, (2, 3), (0, 1)).astype(np.float32)
    rough = cv2.GaussianBlur(shifted, (0, 0), 4.0)
    body = box_mask((200, 160), 58, 36, 102, 174)
    nobody = np.zeros_like(truth)
    crop = EdgeInput(photo, rough, body, nobody, nobody, 200.0)
    refined = refine_edges(crop, SegmentConfig()) > 0.5
    assert iou(rough > 0.5, truth) < 0.93
    assert iou(refined, truth) > 0.98


def test_mask_far_from_the_body_is_dropped():
    own, stranger = box_mask((200, 200), 20, 20, 60, 180), box_mask((200, 200), 140, 20, 180, 180)
    photo = np.where((own | stranger)[..., None], 200, 30).astype(np.uint8).repeat(3, -1)
    nothing = own & False
    crop = EdgeInput(photo, (own | stranger).astype(np.float32), own, nothing, nothing, 160.0)
    refined = refine_edges(crop, SegmentConfig()) > 0.5
    assert not (refined & stranger).any() and iou(refined, own) > 0.98


def test_guided_filter_keeps_a_linear_function_of_the_guide():
    rng = np.random.default_rng(2)
    guide = rng.random((30, 40, 3)).astype(np.float32)
    values = guide @ np.array([0.2, -0.5, 0.7], np.float32) + 0.1
    assert np.abs(guided_filter(guide, values, 4, 1e-8) - values).max() < 1e-3


def test_crop_camera_sees_the_same_points():
    camera = Camera(np.array([[500.0, 0, 330], [0, 510.0, 200], [0, 0, 1]]), np.eye(4), 640, 480)
    crop = Crop.around(np.array([100.2, 50.0, 300.0, 450.0]), 20, (640, 480), 200)
    small = crop.camera(camera)
    assert max(crop.width, crop.height) == 200 and crop.y1 == 470
    point = np.array([-0.3, 0.2, 2.0])
    wide = camera.K @ point / point[2]
    near = small.K @ point / point[2]
    assert np.allclose(crop.points(wide[None, :2])[0], near[:2])


@pytest.mark.parametrize("shape", [(60, 80), (480, 640)])
def test_crop_puts_back_what_it_takes(shape):
    truth = box_mask(shape, 20, 10, 50, 40)
    crop = Crop.around(box_of(truth), 5, shape[::-1], 4000)
    assert np.array_equal(crop.put(crop.take(truth).astype(np.float32), shape[::-1]) > 0.5, truth)
    assert box_of(np.zeros(shape, bool)) is None
