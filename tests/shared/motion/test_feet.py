# SPDX-License-Identifier: Apache-2.0
"""Feet that stand in a walk stand on every body, and nothing else is bent out of shape."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from _support.made_up_motion import FPS, cmu_walk, slide, walk_poses
from _support.motions import write_lhm
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX
from crowdgaussian_shared.motion.feet import LEGS, between, reach
from crowdgaussian_shared.motion.fit import Wearer, fit_motion
from crowdgaussian_shared.motion.kinematics import (
    ADULT_SOLE,
    adult_joints,
    global_turns,
    joint_paths,
    leg_length,
)
from crowdgaussian_shared.motion.motion import Motion, find_contacts, runs
from crowdgaussian_shared.motion.npz import with_contacts
from crowdgaussian_shared.motion.read import ReadOptions, read_motion

ROOT = Path(__file__).resolve().parents[3]
FEET = [7, 8, 10, 11]
MAX_SLIDE = 0.02  # metres


def body(size: float, seed: int) -> Wearer:
    """An adult scaled, with legs, hips and feet of other proportions."""
    rng = np.random.default_rng(seed)
    rest = adult_joints() * size
    thigh, shin, toes, hips = rng.normal(0, 0.03, 4) * size
    rest[[4, 5, 7, 8, 10, 11], 1] += thigh
    rest[[7, 8, 10, 11], 1] += shin
    rest[[10, 11], 2] += toes / 2
    rest[[1, 4, 7, 10], 0] += hips / 2
    rest[[2, 5, 8, 11], 0] -= hips / 2
    return Wearer(rest, ADULT_SOLE * size + thigh + shin)


def feet_of(wearer, motion):
    turns = global_turns(motion.poses)
    return joint_paths(wearer.rest_joints, turns, motion.transl)[:, FEET]


def people_of_the_sample() -> list[Wearer]:
    """The six bodies of the bundled photo, from the true shapes."""
    truth = json.loads(
        (ROOT / "backend/crowdgaussian/synthetic/sample_data/ground_truth.json").read_text()
    )
    with np.load(ROOT / "backend/crowdgaussian/body/open_body.npz", allow_pickle=False) as data:
        wearers = []
        for person in truth["people"]:
            betas = np.array(person["betas"])
            joints = data["joints"] + np.tensordot(betas, data["joint_directions"], 1)
            vertices = data["template"] + np.tensordot(betas, data["directions"], 1)
            scale = person["scale"]
            wearers.append(Wearer(scale * joints, scale * float(vertices[:, 1].min())))
    return wearers


@pytest.fixture(scope="module")
def walk():
    poses, transl, stands = walk_poses(adult_joints(), ADULT_SOLE, seconds=3.0)
    return with_contacts(Motion("walk", FPS, poses, transl)), stands


@pytest.mark.parametrize("size, seed", [(1.0, 0), (0.6, 1), (0.8, 2), (1.15, 3)])
@pytest.mark.parametrize("known", [True, False])
def test_feet_stand_on_every_body(walk, size, seed, known):
    motion, stands = walk
    motion = replace(motion, leg=leg_length(adult_joints()) if known else None)
    wearer = body(size, seed)
    fitted = fit_motion(motion, wearer)
    feet = feet_of(wearer, fitted)
    assert slide(feet, stands) < MAX_SLIDE
    balls = feet[:, 2:, 1] - (wearer.rest_joints[FEET[2:], 1] - wearer.sole)
    flat = stands[:, :2] & stands[:, 2:]
    assert np.abs(balls[flat]).max() < 0.03  # on the floor, not above or below it
    way, short = fitted.transl[-1] - fitted.transl[0], motion.transl[-1] - motion.transl[0]
    ratio = leg_length(wearer.rest_joints) / leg_length(adult_joints())
    assert abs(way[2] / short[2] / ratio - 1) < (0.01 if known else 0.12)
    speed = np.linalg.norm(np.diff(feet, axis=0), axis=2).max() * FPS
    source = np.linalg.norm(np.diff(feet_of(Wearer(adult_joints(), 0), motion), axis=0), axis=2)
    assert speed < 1.3 * ratio * source.max() * FPS + 0.1  # no snatching
    trunk = [0, 3, 6, 9, 12, 15, 16, 17, 18, 19]
    np.testing.assert_allclose(fitted.poses[:, trunk], motion.poses[:, trunk], atol=1e-6)


def test_a_walk_that_slides_is_mended_and_the_measure_sees_it(walk):
    motion, stands = walk
    icy = replace(motion, transl=motion.transl * (1, 1, 1.12), leg=leg_length(adult_joints()))
    wearer = Wearer(adult_joints(), ADULT_SOLE)
    assert slide(feet_of(wearer, fit_motion(icy, wearer, feet=False)), stands) > 0.03
    assert slide(feet_of(wearer, fit_motion(icy, wearer)), stands) < MAX_SLIDE


def test_a_bvh_stands_too(tmp_path):
    text, source = cmu_walk(seconds=3.0)
    (tmp_path / "w.bvh").write_text(text)
    motion = read_motion(tmp_path / "w.bvh")
    for size, seed in ((1.0, 0), (0.7, 5)):
        wearer = body(size, seed)
        assert slide(feet_of(wearer, fit_motion(motion, wearer)), source.stands) < MAX_SLIDE


@pytest.mark.parametrize("kind", ["amass", "bvh", "lhm"])
def test_feet_stand_on_all_people_of_the_sample(tmp_path, kind):
    if kind == "bvh":
        text, source = cmu_walk(seconds=3.0)
        (tmp_path / "walk.bvh").write_text(text)
        motion, stands = read_motion(tmp_path / "walk.bvh"), source.stands
    else:
        poses, transl, stands = walk_poses(adult_joints(), ADULT_SOLE, seconds=2.0)
        if kind == "amass":
            np.savez(tmp_path / "walk.npz", poses=poses[:, [*range(22), *range(25, 55)]].reshape(
                len(poses), -1), trans=transl, mocap_framerate=FPS)  # fmt: skip
            motion = read_motion(tmp_path / "walk.npz")
        else:
            motion = read_motion(write_lhm(tmp_path / "walk", poses, transl), ReadOptions(fps=FPS))
    wearers = people_of_the_sample()
    assert len(wearers) == 6
    for wearer in wearers:
        slid = slide(feet_of(wearer, fit_motion(motion, wearer)), stands)
        print(f"{kind}: {100 * slid:.2f} cm")
        assert slid < MAX_SLIDE


def test_contacts_are_those_of_the_walk(walk):
    motion, stands = walk
    assert (motion.contacts[:, 2:] == stands[:, 2:]).mean() > 0.95
    assert (motion.contacts[:, :2] & ~stands[:, 2:]).mean() < 0.03  # no ankle stands in the air


def test_runners_do_not_stand_and_statues_do():
    times = np.arange(60)[:, None, None] / 60
    moving = times * np.array([0, 0, 3.0]) + np.array([0, 0.1, 0])
    assert not find_contacts(moving, 60, 0.8).any()
    assert find_contacts(np.zeros((60, 2, 3)), 60, 0.8).all()
    assert runs(np.array([1, 1, 0, 1, 0], bool)) == [(0, 2), (3, 4)]


@pytest.mark.parametrize("seed", range(4))
def test_legs_reach_and_keep_their_lengths(seed):
    rng = np.random.default_rng(seed)
    rest = adult_joints()
    poses = np.zeros((30, 55, 3))
    poses[:, [1, 4], 0] = rng.uniform([-0.6, 0.0], [0.3, 1.2], (30, 2))
    turns = global_turns(poses)
    places = joint_paths(rest, turns, np.zeros((30, 3)))
    goal = places[:, LEGS[0].ankle] + rng.normal(0, 0.03, (30, 3))
    longest = leg_length(rest) * 0.995
    gap = goal - places[:, 1]
    goal = places[:, 1] + gap * np.minimum(1, longest / np.linalg.norm(gap, axis=1))[:, None]
    foot = turns[:, LEGS[0].ankle].copy()
    reach(turns, places, LEGS[0], goal)
    np.testing.assert_allclose(places[:, LEGS[0].ankle], goal, atol=2e-3)
    again = joint_paths(rest, turns, np.zeros((30, 3)))  # lengths: kinematics give the same
    np.testing.assert_allclose(again[:, [4, 7]], places[:, [4, 7]], atol=1e-9)
    np.testing.assert_array_equal(turns[:, LEGS[0].ankle], foot)


def test_smallest_turns_even_of_opposites():
    a = np.array([[1.0, 0, 0], [0, 2, 0], [0, 0, 1]])
    b = np.array([[0, 1.0, 0], [0, -1, 0], [0, 0, 3]])
    turned = np.einsum("nab,nb->na", between(a, b), a / np.linalg.norm(a, axis=1, keepdims=True))
    np.testing.assert_allclose(turned, b / np.linalg.norm(b, axis=1, keepdims=True), atol=1e-9)
    side = between(a[1], b[1], fallback=np.array([1.0, 0, 0]))
    np.testing.assert_allclose(side, np.diag([1.0, -1, -1]), atol=1e-9)


def test_hands_go_round_the_trunk_and_come_back():
    """A left hand that swings from the side into the belly."""
    rest, frames = adult_joints(), 141
    poses = np.zeros((frames, 55, 3))
    across = np.pad(np.sin(np.linspace(0, np.pi, 61)) ** 2, 40)
    poses[:, 17, 2] = 1.35  # the other hangs
    poses[:, 16, 2], poses[:, 18, 2] = -1.35 - 0.3 * across, -0.9 * across
    motion = Motion("sink", 30.0, poses, np.zeros((frames, 3)))
    wearer = Wearer(rest, ADULT_SOLE)
    depths = []
    for hands in (False, True):
        fitted = fit_motion(motion, wearer, feet=False, floor=False, hands=hands)
        paths = joint_paths(rest, global_turns(fitted.poses), fitted.transl)
        hand = paths[:, [JOINT_INDEX[f"left_{n}"] for n in ("wrist", "middle1", "middle3")]]
        # A cylinder well inside any trunk, about the axis of the one that stands still.
        near = np.linalg.norm((hand - rest[3])[..., [0, 2]] - (0, 0.05), axis=2)
        inside = (hand[..., 1] > rest[0, 1] - 0.1) & (hand[..., 1] < rest[9, 1])
        depths.append(np.where(inside, 0.11 - near, 0.0).max())
    assert depths[0] > 0.03 and depths[1] <= 0.0
    np.testing.assert_array_equal(fitted.poses[:, 17], motion.poses[:, 17])  # the other arm
    np.testing.assert_allclose(fitted.poses[[0, -1]], motion.poses[[0, -1]], atol=1e-6)
    step = np.abs(np.diff(paths[:, JOINT_INDEX["left_wrist"]], axis=0)).max()
    assert step < 0.08, "no jump where it begins and ends"
