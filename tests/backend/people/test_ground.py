# SPDX-License-Identifier: Apache-2.0
"""The shared floor on simulated crowds: better than stature alone, and jumpers do not spoil it."""

from dataclasses import replace

import numpy as np
import pytest
from _support.crowd_simulation import FOCAL, Kind, simulate
from crowdgaussian.people.ground.plane import PRIOR, SupportEvidence, solve_focal, solve_ground
from crowdgaussian.people.ground.support import decide_support, is_seated
from crowdgaussian.people.types import Crowd
from crowdgaussian.pipeline.review import ground_view, horizon
from crowdgaussian_shared.geometry.axes import scene_viewmat
from crowdgaussian_shared.geometry.camera import Camera

# kind of crowd, largest mean depth error and smallest mean order accuracy on the floor
TABLE = [
    (Kind(6), 0.018, 0.98),
    (Kind(12), 0.018, 0.98),
    (Kind(30), 0.018, 0.98),
    (Kind(12, hidden_feet=0.3), 0.018, 0.98),
    (Kind(12, focal_error=0.25, noise=5.0), 0.018, 0.98),
    (Kind(12, focal_error=-0.25), 0.018, 0.98),
    (Kind(30, jumpers=2), 0.018, 0.98),
    (Kind(30, children=3), 0.018, 0.98),
    (Kind(12, jumpers=2), 0.025, 0.98),  # the jumpers themselves have only their stature
    (Kind(12, children=3), 0.025, 0.98),
    (Kind(12, on_steps=3), 0.025, 0.95),
    (Kind(2), 0.05, 0.98),  # two people say little about a floor
]


def solved(kind, scenes=10):
    """Crowds of a kind, each with its floor and what becomes of everybody there."""
    generator = np.random.default_rng(0)
    for _ in range(scenes):
        crowd = simulate(generator, kind)
        ground = solve_ground(crowd.evidence)
        yield crowd, ground, decide_support(ground, crowd.evidence)


@pytest.mark.parametrize("kind, error, order", TABLE, ids=lambda value: repr(value))
def test_the_floor_beats_stature_alone(kind, error, order):
    rows = []
    for crowd, ground, decided in solved(kind):
        together = crowd.alone * decided.slide
        feet = (crowd.evidence.soles[:, 0] * decided.slide[:, None] @ ground.turn.T)[:, 1]
        on = decided.on_ground & (crowd.lift == 0)
        rows.append(
            [
                crowd.relative_error(crowd.alone),
                crowd.relative_error(together),
                crowd.order_accuracy(crowd.alone),
                crowd.order_accuracy(together),
                np.std(feet[on]),
                on.sum() / (crowd.lift == 0).sum(),
            ]
        )
    before, after, ranked_before, ranked, scatter, stand = np.mean(rows, axis=0)
    assert after < before and after <= error
    assert ranked >= min(ranked_before, 0.99) and ranked >= order
    assert scatter < 1e-6 and stand > 0.98


@pytest.mark.parametrize("kind", [Kind(12, children=3), Kind(30, children=3)], ids=repr)
def test_children_are_not_pushed_to_adult_size(kind):
    for crowd, _, decided in solved(kind):
        children = (crowd.evidence.stature * decided.slide)[:3]
        assert np.median(children) < 1.4
        assert abs(np.median(children / crowd.stature[:3]) - 1) < 0.2


def test_those_off_the_floor_are_left_alone():
    lifted, left = [], []
    for crowd, _, decided in solved(Kind(12, on_steps=3)):
        up = crowd.lift > 0.4
        lifted.append(up.sum())
        left.append((~decided.on_ground & (decided.slide <= 1.0))[up].sum())
    assert np.sum(left) / np.sum(lifted) > 0.6


def test_the_error_that_is_told_is_the_error_that_is_made():
    told, made = zip(
        *(
            (ground.pitch_error, abs(ground.pitch - crowd.pitch))
            for crowd, ground, _ in solved(Kind(12), 20)
        )
    )
    assert 0.5 < np.sqrt(np.mean(np.square(made))) / np.mean(told) < 2.0


def test_many_people_before_a_tilted_camera_tell_the_focal_length():
    generator, pitch = np.random.default_rng(1), np.radians(15)
    for error in (-0.25, 0.25):
        crowd = simulate(generator, Kind(30, focal_error=error), pitch)
        found = solve_focal(crowd.evidence, crowd.K)
        assert found.sure and abs(found.pixels / FOCAL - 1) < 0.12


@pytest.mark.parametrize("people", [3, 12])
def test_a_level_camera_or_a_few_people_leave_the_focal_length_open(people):
    crowd = simulate(np.random.default_rng(2), Kind(people, focal_error=0.25), 0.0)
    found = solve_focal(crowd.evidence, crowd.K)
    assert not found.sure and found.error == pytest.approx(PRIOR, rel=0.1)


def test_the_horizon_is_where_level_directions_meet():
    viewmat = scene_viewmat(1.7, np.radians(10), np.radians(3))
    camera = Camera(np.array([[900.0, 0, 480], [0, 900.0, 320], [0, 0, 1]]), viewmat, 960, 640)
    for direction in ([0.3, 0.0, -1.0], [-0.5, 0.0, -1.0]):
        pixel = camera.K @ viewmat[:3, :3] @ direction
        line = horizon(camera)
        assert abs(line @ (pixel / pixel[2])) / np.linalg.norm(line[:2]) < 1e-9


def test_the_floor_is_drawn_where_it_is():
    K = np.array([[500.0, 0, 320], [0, 500.0, 240], [0, 0, 1]])
    camera = Camera(K, scene_viewmat(1.7, np.radians(10)), 640, 480)

    class Somebody:
        transl = np.array([0.0, 1.0, -5.0])

    crowd = Crowd((Somebody(),), camera, "default", (True,))
    view = ground_view(np.zeros((480, 640, 3), np.uint8), crowd)
    changed = view.max(axis=2) > 60
    row = round(240 - 500 * np.tan(np.radians(10)))  # of the level horizon
    assert changed[row - 1 : row + 2].any(axis=0).all()
    assert not changed[: row - 3].any() and changed[row + 20 :].any()
    below = ground_view(
        np.zeros((480, 640, 3), np.uint8),
        replace(crowd, camera=replace(camera, viewmat=scene_viewmat(1.7, -1.5))),
    )
    assert below.shape == (480, 640, 3)  # a camera that sees only sky draws no floor


def standing_crowd(seed=5):
    return simulate(np.random.default_rng(seed), Kind(6), np.radians(6)).evidence


def test_everybody_lands_on_the_floor():
    people = standing_crowd()
    ground = solve_ground(people)
    soles = people.soles[:, 0] * ground.slide[:, None] @ ground.turn.T
    assert np.abs(soles[:, 1] + ground.height).max() < 1e-6
    assert decide_support(ground, people).on_ground.all()


def test_a_jumper_neither_pulls_the_floor_nor_is_pulled_down():
    people = standing_crowd()
    before = solve_ground(people)
    up = before.turn.T @ [0.0, 0.7, 0.0]
    soles = people.soles.copy()
    soles[2] += up
    jumping = replace(people, soles=soles)
    after = solve_ground(jumping)
    decided = decide_support(after, jumping)
    assert abs(after.height / before.height - 1) < before.height_error + after.height_error
    assert not decided.on_ground[2] and "airborne" in decided.flags[2]
    assert decided.on_ground.sum() == 5
    assert decided.slide[2] == 1.0


def test_a_child_on_the_floor_is_a_child_not_a_distant_adult():
    people = standing_crowd()
    stretch = np.ones(6)
    stretch[1] = 1.70 / 1.1  # a child of 1.1 m, read as an adult farther away
    ground = solve_ground(replace(people, soles=people.soles * stretch[:, None, None]))
    decided = decide_support(ground, people)
    assert decided.on_ground[1] and "child" in decided.flags[1]


def test_seated_people_keep_their_depth():
    people = standing_crowd()
    supported = people.supported.copy()
    supported[0] = False
    seated = replace(people, supported=supported)
    decided = decide_support(solve_ground(seated), seated)
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
    people = standing_crowd()
    one = SupportEvidence(*(value[:1] for value in vars(people).values()))
    ground = solve_ground(one)
    assert np.isfinite(ground.slide).all() and decide_support(ground, one).on_ground.all()
