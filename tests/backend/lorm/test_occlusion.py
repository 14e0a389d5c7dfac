# SPDX-License-Identifier: Apache-2.0
"""Occluders: how each kind is distributed, what they never do, and what bad input is told."""

import numpy as np
import pytest
from crowdgaussian.lorm.training.occlusion import (
    BODY_KEYPOINTS,
    STEPS,
    OcclusionConfig,
    bezier,
    body_points,
    draw,
    occlude,
    occlude_randomly,
    paint_bands,
    paint_cuts,
    paint_ellipses,
    resize_to,
    simulate,
    stage_picture,
)
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.geometry.skeleton import BODY_JOINTS, JOINT_INDEX

HEIGHT, WIDTH, TALL = 200, 120, 160  # pixels; the person is 160 tall
PLACES = {  # x, y in pixels, right side mirrored
    "pelvis": (60, 105),
    "spine1": (60, 95),
    "spine2": (60, 82),
    "spine3": (60, 70),
    "neck": (60, 52),
    "head": (60, 38),
    "hip": (70, 110),
    "knee": (72, 145),
    "ankle": (73, 172),
    "foot": (74, 178),
    "collar": (66, 56),
    "shoulder": (76, 58),
    "elbow": (84, 82),
    "wrist": (88, 104),
}


def joint(name):
    x, y = PLACES[name.removeprefix("left_").removeprefix("right_")]
    return (2 * 60 - x if name.startswith("right_") else x, y)


@pytest.fixture(scope="module")
def person():
    """A figure of capsules, its 22 joints, and a picture of it."""
    import cv2

    joints = np.array([joint(name) for name in BODY_JOINTS], float)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.ellipse(mask, (60, 32), (11, 12), 0, 0, 360, 255, -1)
    for chain in (
        ("neck", "spine2", "pelvis"),
        ("shoulder", "elbow", "wrist"),
        ("hip", "knee", "foot"),
    ):
        for side in ("left_", "right_"):
            names = [side + n if side + n in JOINT_INDEX else n for n in chain]
            thick = 32 if chain[0] == "neck" else 11
            cv2.polylines(mask, [np.int32([joint(n) for n in names])], False, 255, thick)
    mask[180:], mask[:20] = 0, 0
    image = np.random.default_rng(0).integers(0, 200, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return image, mask > 0, joints


def many(person, count=600, **changes):
    _, mask, joints = person
    rng = np.random.default_rng(1)
    points = joints[list(BODY_KEYPOINTS)]
    return [draw(mask, points, rng, OcclusionConfig(**changes)) for _ in range(count)]


def test_ellipses_lie_on_every_body_joint_and_never_on_the_head(person):
    joints = person[2]
    centres = np.concatenate([o.centres for o in many(person)])
    at = np.array([np.flatnonzero((joints == c).all(1))[0] for c in centres])
    body = {i for i, name in enumerate(BODY_JOINTS) if name not in ("head", "neck")}
    assert set(at) == body
    expected = len(at) / len(body)
    counts = np.bincount(at, minlength=22)[sorted(body)]
    assert (np.abs(counts - expected) < 5 * np.sqrt(expected)).all()


def test_mediapipe_s_landmarks_are_centres_but_for_those_of_the_head(person):
    _, mask, _ = person
    landmarks = np.full((33, 2), 90.0)
    landmarks[:11] = 60, 32  # nose, eyes, ears, mouth
    landmarks[11] = -1e6  # not sure
    points = body_points(mask, landmarks)
    assert points.shape == (21, 2) and (points == 90).all()


def test_ellipses_without_joints_keep_off_the_head(person):
    image, mask, _ = person
    from crowdgaussian.lorm.training.occlusion import body_points

    points = body_points(mask, None)
    top = np.nonzero(mask)[0].min()
    assert points[:, 1].min() > top + 0.19 * TALL
    assert occlude_randomly(image, mask, None, np.random.default_rng(0)).ratio > 0


def test_ellipses_have_the_stated_counts_sizes_and_turns(person):
    drawn = many(person)
    counts = np.bincount([len(o.centres) for o in drawn], minlength=5) / len(drawn)
    assert counts[[0, 4]].max() == 0 and (np.abs(counts[1:4] - 1 / 3) < 0.08).all()
    radii = np.concatenate([o.radii for o in drawn]) / TALL
    assert radii.min() >= 0.05 and radii.max() <= 0.16
    assert radii.mean() == pytest.approx(0.105, abs=0.004)
    angles = np.concatenate([o.angles for o in drawn])
    assert 0 <= angles.min() < 5 and 175 < angles.max() <= 180


def test_ellipses_are_painted_as_their_equation_says(person):
    drawn = next(o for o in many(person) if len(o.centres) == 1)
    (x0, y0), (a, b), turn = drawn.centres[0], drawn.radii[0], np.radians(drawn.angles[0])
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    u = (x - x0) * np.cos(turn) + (y - y0) * np.sin(turn)
    v = -(x - x0) * np.sin(turn) + (y - y0) * np.cos(turn)
    inside = (u / a) ** 2 + (v / b) ** 2 <= 1
    assert (inside ^ paint_ellipses((HEIGHT, WIDTH), drawn)).sum() < 0.12 * inside.sum()


def test_bands_are_thick_bezier_curves_across_the_person(person):
    drawn = [o for o in many(person) if len(o.bands)]
    counts = np.bincount([len(o.bands) for o in many(person)], minlength=4) / 600
    assert counts[3] == 0 and (np.abs(counts[:3] - 1 / 3) < 0.08).all()
    widths = np.concatenate([o.widths for o in drawn]) / TALL
    assert widths.min() >= 0.04 and widths.max() <= 0.12
    ends = np.concatenate([o.bands[:, 2] - o.bands[:, 0] for o in drawn])
    downwards = np.isclose(ends[:, 1], 1.2 * TALL)
    assert 0.4 < downwards.mean() < 0.6
    control = np.array([[[0.0, 0], [10, 40], [50, 0]]])
    curve = bezier(control, 3)[0]
    assert np.allclose(curve, [[0, 0], [17.5, 20], [50, 0]])
    alone = next(o for o in drawn if len(o.bands) == 1)
    painted = paint_bands((HEIGHT, WIDTH), alone)
    y, x = np.nonzero(painted)
    path = bezier(alone.bands, 400)[0]
    distance = np.hypot(x[:, None] + 0.5 - path[:, 0], y[:, None] + 0.5 - path[:, 1]).min(1)
    assert distance.max() < 0.5 * alone.widths[0] + 2


def test_cuts_come_with_their_probability_and_hide_one_side(person):
    mask = person[1]
    drawn = many(person)
    cut = [o for o in drawn if len(o.cuts)]
    assert 0.24 < len(cut) / len(drawn) < 0.36
    shares = np.array([(paint_cuts(mask.shape, o) & mask).sum() / mask.sum() for o in cut])
    assert shares.min() > 0.09 and shares.max() < 0.46
    angles = np.arctan2(*np.concatenate([o.cuts for o in cut])[:, 1::-1].T)
    assert (np.histogram(angles, 4, (-np.pi, np.pi))[0] > len(cut) / 8).all()
    side = paint_cuts(mask.shape, cut[0])
    a, b, c = cut[0].cuts[0]
    assert side[150, 100] == (a * 100.5 + b * 150.5 > c)


def test_never_more_than_seventy_percent(person):
    _, mask, joints = person
    rng = np.random.default_rng(2)
    for config in (
        OcclusionConfig(),
        OcclusionConfig(ellipses=(9, 9), ellipse_radii=(0.3, 0.6), bands=(4, 4)),
    ):
        hidden = [simulate(mask, joints, rng, config).hidden.sum() for _ in range(150)]
        assert max(hidden) <= 0.7 * mask.sum()
        assert min(hidden) > 0
    assert min(hidden) > 0.69 * mask.sum()  # too much is shrunk to the limit, not thrown away


def test_stages_grow_one_out_of_the_other(person):
    _, mask, joints = person
    s = simulate(mask, joints, np.random.default_rng(5))
    assert ((s.ellipses | s.bands | s.cuts) == s.union).all()
    assert (s.union <= s.closed).all() and (s.closed <= s.dilated).all()
    assert s.closed.sum() < s.dilated.sum() and (s.hidden == (s.dilated & mask)).all()
    y, x = np.nonzero(s.dilated)
    far = [np.abs(np.argwhere(s.closed) - p).max(1).min() for p in np.stack([y, x], 1)[::97]]
    assert max(far) <= 3  # three iterations of a kernel that reaches one pixel


def test_the_seed_decides(person):
    image, mask, joints = person
    first, again, other = (occlude(image, mask, joints, 0.4, seed) for seed in (7, 7, 8))
    assert (first.image == again.image).all() and (first.visible == again.visible).all()
    assert (first.visible != other.visible).any()


@pytest.mark.parametrize("ratio", [0.0, 0.2, 0.4, 0.6, 0.7])
def test_the_asked_share_is_hidden(person, ratio):
    image, mask, joints = person
    for seed in range(5):
        done = occlude(image, mask, joints if seed % 2 else None, ratio, seed)
        assert abs(done.ratio - ratio) * mask.sum() < 1  # less than one pixel
        assert (done.visible <= mask).all()
        hidden = mask & ~done.visible
        assert (done.image[hidden] == 255).all()
        assert (done.image[done.visible] == image[done.visible]).all()


def test_an_occluder_grows_evenly():
    mask = np.ones((60, 60), bool)
    disc = np.hypot(*(np.mgrid[:60, :60] - 29.5)) < 10
    wider = resize_to(disc, mask, 0.5)
    radii = np.hypot(*(np.argwhere(wider).T - 29.5))
    assert wider.sum() == 1800 and radii.max() < np.sqrt(1800 / np.pi) + 1


def test_the_picture_shows_every_stage(person):
    image, mask, joints = person
    picture = stage_picture(image, mask, joints, seed=3)
    assert picture.shape == (HEIGHT + 24, len(STEPS) * WIDTH, 3)
    panels = picture[24:].reshape(HEIGHT, len(STEPS), WIDTH, 3)
    assert (panels[:, 0][mask] == image[mask]).all()
    assert len({panel.tobytes() for panel in panels.swapaxes(0, 1)}) >= 6


def test_bad_input_is_told_in_one_sentence(person):
    image, mask, joints = person
    tiny = np.zeros_like(mask)
    tiny[50:62, 50:55] = True
    lost = joints.copy()
    lost[3, 0] = np.nan
    for arguments, words in (
        ((image, np.zeros_like(mask)), "empty"),
        ((image, mask[:-1]), "same picture and size"),
        ((image, tiny), "12 pixels tall"),
        ((image, mask, lost), "no numbers"),
        ((image, mask, joints[:5]), "55 joints"),
        ((image, mask, joints, 0.8), "not possible"),
    ):
        with pytest.raises(CrowdGaussianError, match=words) as caught:
            occlude(*arguments)
        assert str(caught.value).count(". ") == 0
