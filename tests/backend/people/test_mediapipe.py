# SPDX-License-Identifier: Apache-2.0
"""Masks seen again with the others painted over, on drawn cases whose answer is known."""

from dataclasses import replace

import numpy as np
import pytest
from _support.avatar_scene import crowd_of, paint, person_of
from crowdgaussian.body import load_body
from crowdgaussian.body.model import pose_body
from crowdgaussian.people.detect.landmark_net import PATCH, PatchPrediction, Roi, patch_to_photo
from crowdgaussian.people.detect.tta import MASK_SIDE, Body
from crowdgaussian.people.mediapipe import mask_alone, sure_pixels
from crowdgaussian.splat.normals import render_mesh_depth

GREY, RED, BLUE = (120, 120, 120), (200, 30, 30), (30, 30, 200)
SIDE = 300


class EveryColour:
    """A network that takes whatever is not grey for the body, its middle for every landmark."""

    def __init__(self, moved: float = 0.0) -> None:
        self.moved = moved  # patch pixels by which the landmarks are beside the red

    def predict(self, patch: np.ndarray) -> PatchPrediction:
        values = patch.astype(int)
        red = values[..., 0] - values[..., 2] > 100
        middle = np.argwhere(red).mean(axis=0)[::-1] + 0.5 + self.moved
        return PatchPrediction(
            xy=np.tile(middle, (33, 1)),
            confidence=np.full(33, 0.9),
            world=np.tile([[0.1, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.1, 0.0]], (11, 1)),
            hip=middle,
            crown=middle - [0, 80],
            mask=(np.ptp(values, axis=2) > 60).astype(np.float32),
        )


@pytest.fixture
def two_squares():
    """A red square, whose body was seen with the blue one beside it as a limb."""
    photo = np.full((SIDE, SIDE, 3), GREY, np.uint8)
    red, blue = np.zeros((2, SIDE, SIDE), bool)
    red[100:200, 100:180] = True
    blue[110:160, 190:230] = True
    photo[red], photo[blue] = RED, BLUE
    roi = Roi(np.array([140.0, 150.0]), 280.0)
    body = Body(
        xy=np.tile([140.0, 150.0], (33, 1)),
        confidence=np.ones(33),
        world=np.zeros((33, 3)),
        spread=np.zeros(33),
        mask=np.ones((MASK_SIDE, MASK_SIDE), np.float32),
        mask_to_photo=patch_to_photo(roi, side=MASK_SIDE),
        roi=roi,
        agreeing=1.0,
    )
    return photo, body, red, blue


def test_what_is_painted_out_is_nobodys_limb(two_squares):
    photo, body, red, blue = two_squares
    mask = mask_alone(EveryColour(), photo, body, blue)
    assert mask.dtype == np.uint8 and mask.shape == photo.shape[:2]
    found = mask > 127
    assert (found & red).sum() / (found | red).sum() > 0.95
    assert not (found & blue).any()


def test_a_mask_stays_where_nobody_is_near(two_squares):
    photo, body, _, blue = two_squares
    assert mask_alone(EveryColour(), photo, body, blue & False) is None


def test_a_mask_stays_where_somebody_else_is_seen(two_squares):
    photo, body, _, blue = two_squares
    assert mask_alone(EveryColour(moved=0.2 * PATCH), photo, body, blue) is None


def test_sure_pixels_are_of_the_nearer_body_and_not_of_a_thing_beside_it():
    model = load_body()
    scene = paint(model, shirt=0.0, hair=0.0)
    behind = replace(scene.parameters, transl=scene.parameters.transl + np.float32([0.2, 0, -0.8]))
    posed = pose_body(model, behind)
    points = posed.pose_points(posed.rest).astype(np.float32)
    whole = np.asarray(render_mesh_depth(points, posed.faces, scene.camera)[1]) >= 0
    net = np.zeros_like(whole)
    net[-30:, :40] = True  # a thing that the detector takes for the nearer one
    people = (person_of(scene.parameters, scene.mask | net), person_of(behind, whole * 0.9))
    crowd = replace(crowd_of(scene), people=people, on_ground=(True, True))
    owner = sure_pixels(crowd, [200.0, 160.0], model)
    both = scene.mask & whole
    assert both.sum() > 300 and not (owner[both] == 1).any()
    assert not (owner[net & ~scene.mask] >= 0).any()
    assert (owner == 0).sum() > 0.6 * scene.mask.sum()
    assert ((owner == 1) & whole).sum() == (owner == 1).sum() > 0
