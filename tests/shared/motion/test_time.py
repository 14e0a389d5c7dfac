# SPDX-License-Identifier: Apache-2.0
"""Motion in time: frame rates, loops and blends keep what they must."""

import numpy as np
import pytest
from _support.motions import degrees_between, smooth
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.motion.kinematics import global_turns, local_poses
from crowdgaussian_shared.motion.motion import check_motion
from crowdgaussian_shared.motion.time import (
    append,
    blend_poses,
    cut,
    ease,
    face_forward,
    in_place,
    move,
    repeat,
    resample,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st


@settings(max_examples=15)
@given(st.floats(8, 200), st.integers(2, 40))
@example(49.99999999999997, 10)  # the 16th frame would come 1.7e-16 s after the end
def test_another_frame_rate_keeps_time_and_the_first_frame(fps, frames):
    motion = smooth(frames)
    other = resample(motion, fps)
    assert other.fps == fps and 0 <= motion.seconds - other.seconds < 1 / fps + 1e-9
    assert degrees_between(other.poses[0], motion.poses[0]) < 1e-4
    assert len(other.poses) == len(other.transl) == len(other.contacts)
    at = np.arange(other.frames) / fps  # heights and paths stay on the lines between frames
    np.testing.assert_allclose(
        other.transl[:, 2], np.interp(at, np.arange(frames) / 30, motion.transl[:, 2]), atol=1e-9
    )


@pytest.mark.parametrize("fps", [23.976, 24.0, 25.0, 29.97, 30.0, 59.94, 120.0])
@pytest.mark.parametrize("factor", [2, 3, 4, 5, 8])
def test_whole_multiples_of_a_frame_rate_keep_the_last_frame(fps, factor):
    motion = smooth(10, fps)
    assert resample(motion, fps * factor).frames == 9 * factor + 1
    assert resample(resample(motion, fps * factor), fps).frames == 10


def test_up_and_down_again_is_the_same_motion():
    motion = smooth(31)
    back = resample(resample(motion, 120.0), 30.0)
    assert degrees_between(back.poses, motion.poses) < 1e-3
    np.testing.assert_allclose(back.transl, motion.transl, atol=1e-9)
    between = resample(motion, 60.0)
    exact = smooth(61, fps=60.0)
    assert degrees_between(between.poses, exact.poses[: between.frames]) < 1.0


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.floats(0, 1))
def test_a_blend_turns_by_its_share_of_the_angle(seed, weight):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(0, 1, (2, 7, 3))
    mixed = blend_poses(a, b, np.full((1,), weight))
    for k in range(7):
        whole = degrees_between(a[k], b[k])
        assert abs(degrees_between(a[k], mixed[k]) - weight * whole) < 1e-3 * max(whole, 1)
    assert degrees_between(blend_poses(a, b, np.zeros(1)), a) < 1e-4
    assert degrees_between(blend_poses(a, b, np.ones(1)), b) < 1e-4


def test_ease_starts_and_ends_softly():
    x = np.linspace(-1, 2, 301)
    y = ease(x)
    assert y[0] == 0 and y[-1] == 1 and (np.diff(y) >= 0).all() and ease(0.5) == 0.5


@pytest.mark.parametrize("overlap", [0, 8])
def test_repeats_go_on_from_where_they_are(overlap):
    motion = move(smooth(40), 0.7, np.array([3.0, 0, -2]))
    whole = repeat(motion, 3, overlap)
    assert whole.frames == 3 * 40 - 2 * overlap == len(whole.contacts)
    steps = np.linalg.norm(np.diff(whole.transl[:, [0, 2]], axis=0), axis=1)
    usual = np.linalg.norm(np.diff(motion.transl[:, [0, 2]], axis=0), axis=1).max()
    assert steps.max() < 2 * usual  # nobody jumps
    np.testing.assert_allclose(whole.transl[:20], motion.transl[:20], atol=1e-12)
    if overlap:
        turn = [degrees_between(a, b) for a, b in zip(whole.poses[1:], whole.poses[:-1])]
        cutting = degrees_between(motion.poses[0, 1:], motion.poses[-1, 1:])
        assert max(turn) < 0.6 * cutting


def test_facing_forward_and_in_place():
    motion = face_forward(move(smooth(20), 2.0, np.array([5.0, 1, 5])))
    np.testing.assert_allclose(motion.transl[0], (0, 2, 0), atol=1e-12)
    still = in_place(motion)
    assert np.ptp(still.transl[:, [0, 2]]) == 0
    np.testing.assert_array_equal(still.transl[:, 1], motion.transl[:, 1])


def test_turning_and_turning_back_is_nothing():
    motion = smooth(10)
    back = move(move(motion, 1.1, np.array([1.0, 2, 3])), 0.0, -np.array([1.0, 2, 3]))
    back = move(back, -1.1, np.zeros(3))
    assert degrees_between(back.poses, motion.poses) < 1e-4
    np.testing.assert_allclose(back.transl, motion.transl, atol=1e-12)


def test_globals_and_locals_are_inverse():
    poses = smooth(5).poses
    assert degrees_between(local_poses(global_turns(poses)), poses) < 1e-4


def test_cuts_and_nonsense():
    motion = smooth(10)
    assert cut(motion, 2, 4).frames == 3 and append(motion, motion, 99).frames == 11
    nonsense = (lambda: cut(motion, 10), lambda: resample(motion, 0.0),
                lambda: resample(motion, float("nan")), lambda: repeat(motion, 10**6))  # fmt: skip
    for wrong in nonsense:
        with pytest.raises(CrowdGaussianError, match="smooth"):
            wrong()


@pytest.mark.parametrize("spoil, words", [
    (lambda m: m.poses.__setitem__((3, 5, 0), np.nan), "frame 3 .*NaN"),
    (lambda m: m.transl.__setitem__((2, 1), np.inf), "frame 2 .*NaN"),
    (lambda m: m.transl.__setitem__((2, 1), 1e6), "frame 2 .*farther"),
    (lambda m: m.poses.__setitem__((1, 5, 0), 1e5), "frame 1 turns"),
])  # fmt: skip
def test_broken_numbers_are_told_with_their_frame(spoil, words):
    motion = smooth(5)
    spoil(motion)
    with pytest.raises(CrowdGaussianError, match=words):
        check_motion(motion, "walk.npz")
