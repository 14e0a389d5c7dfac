# SPDX-License-Identifier: Apache-2.0
"""The shared floor on simulated crowds: better than stature alone, and jumpers do not spoil it."""

from dataclasses import replace

import numpy as np
import pytest
from crowdgaussian.people.ground import Standing, solve_ground
from crowdgaussian.people.standing import footing, is_seated
from crowdgaussian_shared.axes import scene_viewmat

WIDTH, HEIGHT = 1920, 1280
FOCAL = WIDTH / 2 / np.tan(np.radians(30))


def crowd(generator, people, pitch, height):
    """Feet and heads of adults seen by a camera.  # depth [N], foot and head pixels [N, 2]"""
    viewmat = scene_viewmat(height, pitch, generator.normal(0, np.radians(1.5)))
    rows = []
    while len(rows) < people:
        depth = generator.uniform(3.5, 14)
        foot = np.array([generator.uniform(-0.5, 0.5) * depth, 0.0, -depth])
        head = foot + [0.0, np.clip(generator.normal(1.70, 0.09), 1.45, 1.98), 0.0]
        seen = np.stack([foot, head]) @ viewmat[:3, :3].T + viewmat[:3, 3]
        if seen[:, 2].min() < 1:
            continue
        pixels = seen[:, :2] / seen[:, 2:] * FOCAL + [WIDTH / 2, HEIGHT / 2]
        if (pixels > 0).all() and (pixels < [WIDTH, HEIGHT]).all():
            rows.append((seen[0, 2], *pixels))
    return tuple(np.array(part) for part in zip(*rows))


def alone(foot, head, focal):
    """Everybody 1.70 m tall: what each person tells alone.  # depth [N], Standing"""
    depth = focal * 1.70 / np.linalg.norm(foot - head, axis=1)
    rays = np.column_stack([(foot - [WIDTH / 2, HEIGHT / 2]) / focal, np.ones(len(foot))])
    soles = rays * depth[:, None] * [1, -1, -1]
    count = len(foot)
    no = np.zeros(count, bool)
    return depth, Standing(soles[:, None], np.full(count, 1.70), ~no, ~no, no,
                           np.zeros((count, 3)))


def relative_error(found, true):
    ratio = found / true
    return float(np.median(np.abs(ratio / np.median(ratio) - 1)))


def order_accuracy(found, true):
    a, b = np.triu_indices(len(true), 1)
    far = np.abs(true[a] - true[b]) > 0.3
    return float(np.mean(np.sign(found[a] - found[b])[far] == np.sign(true[a] - true[b])[far]))


@pytest.mark.parametrize("focal_error, noise", [(0.0, 3.0), (-0.25, 3.0), (0.25, 5.0)])
def test_the_floor_beats_stature_alone(focal_error, noise):
    generator = np.random.default_rng(3)
    errors, orders, pitches = [], [], []
    for _ in range(12):
        pitch, height = np.radians(generator.uniform(-2, 18)), generator.uniform(1.2, 2.6)
        true, foot, head = crowd(generator, 7, pitch, height)
        foot, head = (p + generator.normal(0, noise, p.shape) for p in (foot, head))
        depth, people = alone(foot, head, FOCAL * (1 + focal_error))
        ground = solve_ground(people)
        together = depth * ground.slide
        errors.append([relative_error(depth, true), relative_error(together, true)])
        orders.append([order_accuracy(depth, true), order_accuracy(together, true)])
        pitches.append(abs(np.degrees(ground.pitch - pitch)))
    errors, orders = np.mean(errors, axis=0), np.mean(orders, axis=0)
    assert errors[1] < 0.75 * errors[0] and errors[1] < 0.026
    assert orders[1] >= orders[0] and orders[1] > 0.95
    assert np.mean(pitches) < 5.0


def standing_crowd(seed=5):
    generator = np.random.default_rng(seed)
    true, foot, head = crowd(generator, 6, np.radians(6), 1.7)
    return true, *alone(foot, head, FOCAL)


def test_everybody_lands_on_the_floor():
    _, _, people = standing_crowd()
    ground = solve_ground(people)
    soles = people.soles[:, 0] * ground.slide[:, None] @ ground.turn.T
    assert np.abs(soles[:, 1] + ground.height).max() < 1e-6
    assert footing(ground, people).on_ground.all()


def test_a_jumper_neither_pulls_the_floor_nor_is_pulled_down():
    _, _, people = standing_crowd()
    before = solve_ground(people)
    up = before.turn.T @ [0.0, 0.7, 0.0]
    soles = people.soles.copy()
    soles[2] += up
    jumping = replace(people, soles=soles)
    after = solve_ground(jumping)
    decided = footing(after, jumping)
    assert abs(after.height / before.height - 1) < 0.08
    assert not decided.on_ground[2] and "airborne" in decided.flags[2]
    assert decided.on_ground.sum() == 5
    assert decided.slide[2] == 1.0


def test_a_child_on_the_floor_is_a_child_not_a_distant_adult():
    true, _, people = standing_crowd()
    stretch = np.ones(6)
    stretch[1] = 1.70 / 1.1  # a child of 1.1 m, read as an adult farther away
    ground = solve_ground(replace(people, soles=people.soles * stretch[:, None, None]))
    decided = footing(ground, people)
    assert decided.on_ground[1] and "child" in decided.flags[1]


def test_seated_people_keep_their_depth():
    _, _, people = standing_crowd()
    supported = people.supported.copy()
    supported[0] = False
    seated = replace(people, supported=supported)
    decided = footing(solve_ground(seated), seated)
    assert not decided.on_ground[0] and decided.flags[0] == ("seated",)


def bent_body(hip_height, hip_back, lean):
    """A stick figure with feet below the knees.  # [55, 3]"""
    joints = np.zeros((55, 3))
    joints[[0, 1, 2]] = [0.0, hip_height, -hip_back]
    joints[[4, 5]] = [0.0, 0.45, 0.05]
    joints[[7, 8]] = [0.0, 0.08, 0.0]
    joints[[10, 11]] = [0.0, 0.02, 0.12]
    along = np.array([0.0, np.cos(lean), np.sin(lean)])
    joints[12], joints[15] = joints[0] + 0.5 * along, joints[0] + 0.65 * along
    return joints


def test_who_sits_leans_on_something_but_who_crouches_stands():
    assert is_seated(bent_body(0.45, 0.40, np.radians(5)))
    assert is_seated(bent_body(0.45, 0.40, np.radians(15)))
    assert not is_seated(bent_body(0.60, 0.30, np.radians(45)))
    assert not is_seated(bent_body(0.40, 0.20, np.radians(20)))
    assert not is_seated(bent_body(0.93, 0.0, 0.0))


def test_one_person_alone_still_stands():
    _, _, people = standing_crowd()
    one = Standing(*(value[:1] for value in vars(people).values()))
    ground = solve_ground(one)
    assert np.isfinite(ground.slide).all() and footing(ground, one).on_ground.all()
