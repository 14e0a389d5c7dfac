# SPDX-License-Identifier: Apache-2.0
"""Doubles, parts and background crowd are told from people, on drawn figures."""

import numpy as np
import pytest
from _support.people_made_up import body, figure
from crowdgaussian.people.detect.choice import (
    Candidate,
    Witnesses,
    choose_people,
    limb_distance,
    mask_containment,
)
from crowdgaussian.people.detect.choice import is_duplicate as is_double
from crowdgaussian.people.detect.detections import detection_flags, visible_box
from crowdgaussian.people.detect.tta import body_score
from crowdgaussian.people.types import PeopleConfig

CONFIG = PeopleConfig()


def choose(bodies, config=CONFIG):
    """The chosen ones of some bodies in a photo without faces."""
    kept = choose_people([Candidate(one) for one in bodies], config, Witnesses((), (800, 1100)))
    return [one.body for one in kept]


def is_duplicate(one, other):
    return is_double(Candidate(one), Candidate(other))


def test_the_same_person_found_twice_is_one_person():
    first = body(figure((300, 300), 400), 400)
    again = body(figure((308, 304), 390), 390, confidence=0.8)
    assert is_duplicate(first, again)
    assert [one is first for one in choose([again, first])] == [True]


def test_a_double_with_left_and_right_swapped_is_still_the_same():
    first = body(figure((300, 300), 400), 400)
    swapped = figure((300, 300), 400) * [-1, 1] + [600, 0]
    assert limb_distance(first, body(swapped, 400)) < 0.02


def test_legs_taken_for_a_person_are_dropped():
    whole = body(figure((300, 300), 400), 400)
    inside = body(figure((324, 430), 60), 60)
    assert mask_containment(whole, inside) > 0.9
    assert [one is whole for one in choose([whole, inside])] == [True]


def test_neighbours_whose_boxes_overlap_are_two_people():
    left = body(figure((300, 300), 400), 400)
    right = body(figure((370, 310), 400, arms_up=True), 400)
    assert not is_duplicate(left, right)
    assert len(choose([left, right])) == 2


def test_small_unsteady_spectators_are_not_people_but_a_clear_child_is():
    players = [body(figure((200 + 300 * k, 300), 400), 400) for k in range(3)]
    spectator = body(figure((340, 120), 180), 180, confidence=0.75, spread=0.03)
    child = body(figure((640, 400), 200), 200, confidence=0.97, spread=0.003)
    chosen = choose([*players, spectator, child])
    assert all(any(player is one for one in chosen) for player in players)
    assert any(child is one for one in chosen)
    assert not any(spectator is one for one in chosen)


def test_tiny_background_people_are_dropped_however_clear():
    near, far = body(figure((300, 300), 500), 500), body(figure((700, 300), 80), 80)
    assert [one is near for one in choose([near, far])] == [True]
    assert len(choose([near, far], PeopleConfig(min_relative_size=0.1))) <= 2


@pytest.mark.parametrize("change", [{"spread": 0.08}, {"confidence": 0.3}])
def test_hallucinated_skeletons_score_low(change):
    xy = figure((300, 300), 400)
    assert body_score(body(xy, 400, **change)) < 0.35 * body_score(body(xy, 400))


def test_a_skeleton_beside_its_mask_scores_low():
    good = body(figure((300, 300), 400), 400)
    beside = body(figure((300, 300), 400), 400, drawn=slice(0, 1))
    assert body_score(beside) < 0.5 * body_score(good)


def test_flags_tell_small_cut_and_hidden_people():
    sure, unsure = np.ones(33), np.full(33, 0.2)
    inside, border = np.array([50, 50, 150, 250]), np.array([0, 50, 150, 250])
    assert detection_flags(300, sure, inside, (400, 400)) == ()
    assert detection_flags(100, sure, inside, (400, 400)) == ("small",)
    assert detection_flags(300, unsure, border, (400, 400)) == ("hidden", "cut")


def test_the_box_stays_inside_the_photo():
    xy = figure((20, 100), 300)
    box = visible_box(xy, np.ones(33), np.zeros((200, 200), np.float32))
    assert (box >= 0).all() and (box <= 200).all() and box[2] > box[0]
