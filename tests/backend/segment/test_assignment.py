# SPDX-License-Identifier: Apache-2.0
"""Pixels shared out between drawn people and things whose right answer is known."""

import numpy as np
import pytest
from _support.avatar_scene import person_of
from crowdgaussian.people.types import Keypoints
from crowdgaussian.segment.assignment import agree, share_out
from crowdgaussian.segment.types import BodyLayer
from crowdgaussian_shared.geometry.avatar import BodyParams
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX

SHAPE = (360, 420)
WALL, HAIR, SKIN = (60, 110, 70), (70, 55, 45), (210, 160, 130)
RED, BLUE, GREEN = (190, 40, 40), (50, 60, 190), (90, 160, 40)
PARAMS = BodyParams(
    np.zeros(10, np.float32), np.zeros((55, 3), np.float32), np.zeros(3, np.float32), 1.0
)


def box(x0, y0, x1, y1):
    mask = np.zeros(SHAPE, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


class Drawn:
    """A standing person as boxes: head, trunk, one arm to the right, legs; and their body."""

    def __init__(self, x: int, depth: float = 3.0) -> None:
        self.parts = {
            "head": box(x + 20, 30, x + 60, 80),
            "spine2": box(x, 80, x + 80, 200),
            "left_elbow": box(x + 80, 100, x + 130, 125),
            "left_hip": box(x, 200, x + 80, 330),
        }
        self.whole = np.any(list(self.parts.values()), axis=0)
        part = np.full(SHAPE, -1, np.int8)
        for name, mask in self.parts.items():
            part[mask] = JOINT_INDEX[name]
        values = np.where(self.whole, np.float32(depth), np.float32(np.inf))
        self.layer = BodyLayer(values, part, 300.0)

    def paint(self, photo, shirt):
        photo[self.parts["head"]] = SKIN
        photo[self.parts["spine2"] | self.parts["left_elbow"]] = shirt
        photo[self.parts["left_hip"]] = (40, 40, 60)


@pytest.fixture
def wall():
    return np.full((*SHAPE, 3), WALL, np.uint8)


def noisy(photo):
    rng = np.random.default_rng(0)
    return np.clip(photo + rng.normal(0, 5, photo.shape), 0, 255).astype(np.uint8)


def test_neighbours_of_like_colour_have_one_owner():
    truth = box(100, 60, 300, 300)
    photo = noisy(np.where(truth[..., None], RED, WALL).astype(float))
    rng = np.random.default_rng(1)
    odds = np.where(truth, 1.0, -1.0) + rng.normal(0, 1.5, SHAPE)
    assert iou(odds > 0, truth) < 0.7
    (owner,) = agree(photo, odds[None].astype(np.float32))
    assert iou(owner > 0.5, truth) > 0.98


def test_a_sleeve_that_two_claim_goes_to_whose_colour_it_is(wall):
    left, right = Drawn(40), Drawn(240)
    for one, shirt in ((left, RED), (right, BLUE)):
        one.paint(wall, shirt)
    sleeve = left.parts["left_elbow"]
    claimed = np.where(sleeve, 0.8, right.whole * 0.99)
    people = (person_of(PARAMS, left.whole * 0.99), person_of(PARAMS, claimed))
    first, second = share_out(noisy(wall), people, (left.layer, right.layer))
    assert iou(first > 0.5, left.whole) > 0.95 and iou(second > 0.5, right.whole) > 0.95
    assert not (second > 0.5)[sleeve].any()


def test_a_thing_beside_the_body_stays_out_and_hair_stays_in(wall):
    one = Drawn(150)
    bush, hair = box(60, 240, 150, 330), box(165, 18, 215, 40)
    wall[box(0, 230, 420, 340)] = GREEN  # the bush goes on behind
    one.paint(wall, RED)
    wall[hair & ~one.parts["head"]] = HAIR
    soft = np.where(one.whole | hair, 0.98, np.where(bush, 0.75, 0))
    (found,) = share_out(noisy(wall), (person_of(PARAMS, soft),), (one.layer,))
    assert (found > 0.5)[bush].mean() < 0.05
    assert (found > 0.5)[hair].mean() > 0.9
    assert iou(found > 0.5, one.whole | hair) > 0.95


def test_a_limb_that_was_not_seen_does_not_hold_a_thing(wall):
    one = Drawn(120)
    arm = one.parts["left_elbow"]
    wall[box(0, 90, 420, 135)] = GREEN
    one.paint(wall, RED)
    wall[arm] = GREEN  # the fitted arm lies on a hedge
    soft = np.where(arm, 0.7, one.whole * 0.98)
    shares = []
    for confidence in (0.9, 0.1):
        sure = np.full(33, 0.9, np.float32)
        sure[[13, 15]] = confidence  # elbow and wrist
        places = np.full((33, 2), 160, np.float32)  # so that no limb is drawn
        keypoints = Keypoints(places, sure, np.zeros((33, 3), np.float32))
        person = person_of(PARAMS, soft)
        person = type(person)(**{**vars(person), "keypoints": keypoints})
        (found,) = share_out(noisy(wall), (person,), (one.layer,))
        shares.append(found[arm].mean())
    assert shares[1] < 0.2 and shares[1] <= shares[0]


def test_nobody_in_sight_shares_nothing(wall):
    empty = BodyLayer(np.full(SHAPE, np.inf, np.float32), np.full(SHAPE, -1, np.int8), 1.0)
    (found,) = share_out(wall, (person_of(PARAMS, np.zeros(SHAPE)),), (empty,))
    assert not (found > 0.5).any()


def test_no_people_share_nothing(wall):
    assert list(share_out(wall, (), ())) == []
