# SPDX-License-Identifier: Apache-2.0
"""Body and head images: the published steps, shapes they cannot do, exact cameras, bad input."""

import cv2
import numpy as np
import pytest
from _support.avatar_scene import crowd_of, paint
from crowdgaussian.body import load_body
from crowdgaussian.lorm.inputs import body_crop, body_size, check_person, head_crop, head_points
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.geometry.camera import Camera

SIZE = (280, 168)


def blob(height, width, box, seed=0):
    """A noisy photo and an elliptic mask that touches the box x0 y0 x1 y1 (last pixels inside)."""
    rng = np.random.default_rng(seed)
    photo = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
    x0, y0, x1, y1 = box
    y, x = np.mgrid[:height, :width]
    inside = ((2 * x - x0 - x1) / (x1 - x0 + 0.1)) ** 2 + ((2 * y - y0 - y1) / (y1 - y0 + 0.1)) ** 2
    mask = inside <= 1.0
    return photo, mask


def published(photo, mask, size):
    """The steps as the reference page lists them, one after the other."""
    ys, xs = np.nonzero(mask)
    spans = []
    for at, limit in ((xs, photo.shape[1]), (ys, photo.shape[0])):
        middle, extent = int((at.min() + at.max()) / 2), int(at.max() - at.min()) * 1.1
        spans += [int(max(middle - extent // 2, 0)), int(min(middle + extent - extent // 2, limit))]
    left, right, top, bottom = spans
    rgb, alpha = photo[top:bottom, left:right], mask[top:bottom, left:right].astype(float)
    h, w = alpha.shape
    assert w < h
    target = int(min(w * (h / w / (5 / 3)), h))
    if target > w:
        beside = (target - w) // 2
        pads = ((0, 0), (beside, beside))
    else:
        pads = ((int(w * 5 / 3 - h), 0), (0, 0))
    rgb = np.pad(rgb, (*pads, (0, 0)), constant_values=255) / 255
    alpha = np.pad(alpha, pads)
    rgb = rgb * alpha[..., None] + 1 - alpha[..., None]
    ratio = 896 / max(alpha.shape)
    fitted = (round(alpha.shape[1] * ratio), round(alpha.shape[0] * ratio))
    rgb, alpha = (cv2.resize(v, fitted, interpolation=cv2.INTER_AREA) for v in (rgb, alpha))
    ys, xs = np.nonzero(alpha > 0)
    cx, cy = fitted[0] // 2, fitted[1] // 2
    half_w, half_h = np.abs(xs - cx).max(), np.abs(ys - cy).max()
    if half_h / half_w >= 5 / 3:
        half_w = round(half_h / (5 / 3))
    else:
        half_h = round(half_w * (5 / 3))
    assert half_w <= cx and half_h <= cy and abs(half_h / half_w - 5 / 3) < 0.03
    rgb = rgb[cy - half_h : cy + half_h, cx - half_w : cx + half_w]
    return cv2.resize(rgb, size[::-1], interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize(
    "box",
    [
        (40, 30, 95, 190),
        (100, 11, 171, 190),
        (31, 17, 120, 121),
        (50, 120, 120, 199),
        (3, 20, 33, 170),
    ],
)
def test_ordinary_crops_are_those_of_the_published_steps(box):
    photo, mask = blob(200, 260, box)
    ours = body_crop(photo, mask, size=SIZE).image
    assert np.abs(ours - published(photo, mask, SIZE)).max() < 1e-5


def test_size_of_the_published_body_image():
    assert body_size() == (1694, 1022)


SHAPES = {
    "lying": (20, 90, 240, 140),
    "sitting": (60, 60, 170, 165),
    "waist up": (80, 90, 190, 199),
    "wider than high at the corner": (0, 0, 120, 70),
    "touches top and bottom": (90, 0, 130, 199),
    "touches three edges": (0, 0, 90, 199),
    "whole photo": (0, 0, 259, 199),
    "thin": (100, 20, 104, 180),
}


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_is_whole_and_undistorted(name):
    photo, mask = blob(200, 260, SHAPES[name])
    photo[mask] = 0
    crop = body_crop(photo, mask, size=SIZE)
    assert crop.image.shape == (*SIZE, 3)
    scale = np.diag(crop.to_crop)[:2]
    assert abs(scale[0] / scale[1] - 1) < 0.03
    dark = (1 - crop.image[..., 0]).sum() / np.prod(scale)  # photo pixels of black
    assert dark == pytest.approx(mask.sum(), rel=0.03)
    middle = crop.points(np.argwhere(mask)[:, ::-1] + 0.5).mean(0)  # the mask's own
    found = np.argwhere(crop.image[..., 0] < 0.5)[:, ::-1].mean(0) + 0.5
    assert np.abs(found - middle).max() < 1.0
    corners = crop.points(np.argwhere(mask)[:, ::-1] + 0.5)
    assert corners.min() > -1 and (corners < np.array(SIZE[::-1]) + 1).all()


def test_framed_like_a_complete_person():
    """Hiding somebody's legs moves nothing when the frame is the whole silhouette."""
    photo, whole = blob(200, 260, (40, 20, 100, 190))
    visible = whole.copy()
    visible[110:] = False
    complete = body_crop(photo, whole, size=SIZE)
    hidden = body_crop(photo, visible, frame=whole, size=SIZE)
    assert np.array_equal(complete.to_crop, hidden.to_crop)
    assert np.array_equal(complete.image[:120], hidden.image[:120])
    assert (hidden.image[200:] > 0.9999).all() and hidden.image[:120].min() < 0.2
    assert not np.array_equal(body_crop(photo, visible, size=SIZE).to_crop, complete.to_crop)


def test_other_people_are_white_in_both_images():
    photo, mask = blob(200, 260, (40, 20, 100, 190))
    other = np.zeros_like(mask)
    other[:, 80:] = True
    photo[...] = 90
    photo[other] = (255, 0, 0)
    visible = mask & ~other
    head = np.array([[60.0, 20], [90, 50]])
    for crop in (body_crop(photo, visible, mask, SIZE), head_crop(photo, visible, head)):
        red = (crop.image[..., 0] > 0.9) & (crop.image[..., 1] < 0.3)
        assert crop.shown and not red.any()


def test_camera_of_a_crop_is_exact():
    photo, mask = blob(200, 260, (150, 60, 259, 130))
    K = np.array([[310.0, 0.7, 124.3], [0, 290, 95.1], [0, 0, 1]])
    camera = Camera(K, np.diag([1.0, -1, -1, 1]), 260, 200)
    points = np.random.default_rng(1).normal(0, 0.5, (50, 3)) + (0, 0, 4)
    in_photo = (points / points[:, 2:]) @ K[:2].T
    for crop in (
        body_crop(photo, mask, size=SIZE),
        head_crop(photo, mask, np.array([[230.0, 40], [280, 99]])),
    ):
        seen = crop.camera(camera)
        assert (seen.height, seen.width) == crop.image.shape[:2]
        assert np.allclose((points / points[:, 2:]) @ seen.K[:2].T, crop.points(in_photo))
        assert abs(seen.K[0, 2] - seen.width / 2) > 1  # off-centre


def test_the_crop_shows_what_its_camera_says():
    """Pixels follow the map: a square in the photo lands where the map puts it."""
    photo, mask = np.full((200, 260, 3), 255, np.uint8), np.zeros((200, 260), bool)
    mask[20:190, 50:120] = True
    photo[60:80, 70:90] = 0
    for crop in (
        body_crop(photo, mask, size=SIZE),
        head_crop(photo, mask, np.array([[60.0, 50], [100, 90]])),
    ):
        rows, columns = np.nonzero(crop.image[..., 0] < 0.5)
        low, high = crop.points(np.array([[70, 60], [90, 80]]))
        assert np.abs((columns.min(), rows.min()) - low).max() < 1.0
        assert np.abs((columns.max() + 1, rows.max() + 1) - high).max() < 1.0


@pytest.fixture(scope="module")
def body():
    return load_body("open")


def test_head_of_the_body_model(body):
    """The head's square lies around the painted head and follows it out of the photo."""
    scene = paint(body, 120, 160)
    (person,) = crowd_of(scene).people
    head = head_points(body.posed(person.params).vertices, body.parts, scene.camera)
    crop = head_crop(scene.photo, scene.mask, head)
    assert crop.image.shape == (112, 112, 3) and crop.shown
    inside = crop.points(head)
    assert inside.min() > 5 and inside.max() < 107
    assert 0.5 < np.ptp(inside, axis=0).max() / 112 < 0.75  # 1 / 1.65, for a head longer than wide
    rows = np.flatnonzero(scene.mask.any(1))
    top = rows[0] + 0.5
    assert abs(head[:, 1].min() - top) < 0.06 * len(rows)  # hair stands up to 6 cm above it
    far = head_crop(scene.photo, scene.mask, head + (0, -400))
    assert not far.shown and (far.image == 0).all()
    edge = head - (head[:, 0].mean(), 0)
    half = head_crop(scene.photo // 2, np.ones_like(scene.mask), edge)
    assert (half.image[:, :50] > 0.99).all()  # outside the photo is white
    assert (half.image[:, 62:] < 0.6).all()


def test_bad_input_is_one_sentence(body):
    photo, mask = blob(200, 260, (40, 20, 100, 190))
    tiny = np.zeros_like(mask)
    tiny[50:62, 60:65] = True
    (person,) = crowd_of(paint(body, 60, 80)).people
    person.pose[3] = np.nan
    cases = [
        ("empty", lambda: body_crop(photo, mask & False)),
        ("260 x 150 pixels and the photo 260 x 200", lambda: body_crop(photo, mask[:150])),
        ("12 pixels", lambda: body_crop(photo, tiny)),
        ("it is uint8", lambda: body_crop(photo, mask.astype(np.uint8))),
        ("pose of person 4", lambda: check_person(person, 4)),
    ]
    for words, call in cases:
        with pytest.raises(CrowdGaussianError, match=words) as caught:
            call()
        assert str(caught.value).endswith(".") and "\n" not in str(caught.value)
