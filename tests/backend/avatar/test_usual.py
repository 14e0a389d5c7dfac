# SPDX-License-Identifier: Apache-2.0
"""The usual colour of a garment, which does not know of prints."""

import numpy as np
import pytest
from crowdgaussian.avatar.color_completion import ObservedColors, bent_head, fill_colours
from crowdgaussian.avatar.color_statistics import cast_by_occluder, color_prior, limb_places
from crowdgaussian.avatar.gaussians import bind
from crowdgaussian.body import load_body
from crowdgaussian.body.model import pose_body
from crowdgaussian.body.parts import HEAD, LEG, TORSO, find_regions, sample_surface
from crowdgaussian_shared.geometry.avatar import MATERIALS, BodyParams

SHIRT, JEANS, SKIN, HAIR = np.array(
    [[0.1, 0.3, 0.4], [0.2, 0.2, 0.6], [0.7, 0.5, 0.4], [0.15, 0.1, 0.08]]
)


@pytest.fixture(scope="module")
def dressed():
    """A cloud at rest seen from the front, with a hand's print on the shirt."""
    body = load_body()
    zeros = np.zeros(body.num_betas, np.float32), np.zeros((55, 3), np.float32)
    posed = pose_body(body, BodyParams(*zeros, np.zeros(3, np.float32), 1.0))
    regions = find_regions(body, posed)
    points = sample_surface(posed.rest, posed.faces, np.ones(len(posed.faces)), 6000, 1)
    cloud = bind(points, posed.rest, posed, regions, np.asarray(body.mirror_vertices, np.int64))
    limbs = limb_places(cloud, posed.joints, np.broadcast_to([0.0, 0, 1], (len(cloud), 3)))
    colours = np.broadcast_to(SKIN, (len(cloud), 3)).copy()
    colours[cloud.group == TORSO] = SHIRT
    colours[cloud.group == LEG] = JEANS
    chest = cloud.means[(cloud.group == TORSO) & (cloud.normals[:, 2] > 0.7)].mean(0)
    near = np.linalg.norm(cloud.means - chest, axis=1) < 0.06
    printed = near & (cloud.group == TORSO)
    colours[printed] = SKIN
    return cloud, limbs, colours, (cloud.normals[:, 2] > 0.2).astype(float), printed


def test_a_print_does_not_change_the_usual_colour(dressed):
    cloud, limbs, colours, seen, printed = dressed
    assert printed.sum() > 20
    prior = color_prior(cloud, colours, seen > 0.5, limbs)
    middle = (cloud.group == TORSO) & (np.abs(prior.colour - SHIRT).max(1) < 0.05)
    assert prior.known[printed].all()
    assert middle[printed].all()


def test_no_print_on_the_back(dressed):
    cloud, limbs, colours, seen, _ = dressed
    filled = fill_colours(cloud, ObservedColors(colours, seen), limbs, np.zeros(len(cloud), int))
    back = (cloud.group == TORSO) & (cloud.normals[:, 2] < -0.5)
    assert (np.abs(filled[back] - SHIRT).max(1) < 0.1).mean() > 0.9  # the rest is at its edges


def test_an_open_jacket_is_closed_behind(dressed):
    """The back asks the flanks, not the middle of the front, where the shirt shows."""
    cloud, limbs, colours, seen, _ = dressed
    worn = colours.copy()
    trunk = cloud.group == TORSO
    worn[trunk] = np.where(np.abs(cloud.means[trunk, :1]) < 0.05, SKIN, SHIRT)
    filled = fill_colours(cloud, ObservedColors(worn, seen), limbs, np.zeros(len(cloud), int))
    back = trunk & (cloud.normals[:, 2] < -0.7) & (np.abs(cloud.means[:, 1] - 0.1) < 0.2)
    far = np.abs(filled[back] - SHIRT).max(1)
    assert (far < 0.1).mean() > 0.95


def test_a_hem_goes_round_as_a_line(dressed):
    """Shirt over jeans: behind too each place is one of both, not a mixture."""
    cloud, limbs, colours, seen, printed = dressed
    trunk, hem = cloud.group == TORSO, 0.0
    worn = np.where(printed[:, None], SHIRT, colours)
    worn[trunk] = np.where(cloud.means[trunk, 1:2] > hem, SHIRT, JEANS)
    filled = fill_colours(cloud, ObservedColors(worn, seen), limbs, np.zeros(len(cloud), int))
    back = trunk & (cloud.normals[:, 2] < -0.5)
    for beside, wanted in ((0.03, SHIRT), (-0.03, JEANS)):
        strip = back & (np.abs(cloud.means[:, 1] - hem - 2 * beside) < abs(beside))
        assert strip.sum() > 20
        assert (np.abs(filled[strip] - wanted).max(1) < 0.1).mean() > 0.9


def test_a_face_turned_away_is_plain_skin_under_the_hair(dressed):
    cloud, limbs, colours, _, _ = dressed
    looks, seen = colours.copy(), (cloud.normals[:, 2] < -0.2).astype(float)
    looks[(cloud.group == HEAD) & (cloud.scalp > 0.3)] = HAIR
    filled = fill_colours(cloud, ObservedColors(looks, seen), limbs, np.zeros(len(cloud), int))
    face = cloud.face > 0.9
    assert np.abs(filled[face].mean(0) - SKIN).max() < 0.05
    assert (np.abs(filled[face] - SKIN).max(1) < 0.15).mean() > 0.9


def test_an_unseen_head_is_skin_not_shirt(dressed):
    cloud, limbs, colours, seen, _ = dressed
    hidden = np.where(cloud.group == HEAD, 0.0, seen)
    filled = fill_colours(cloud, ObservedColors(colours, hidden), limbs, np.zeros(len(cloud), int))
    skull = (cloud.group == HEAD) & (cloud.scalp > 0.5)
    assert np.abs(filled[skull] - SKIN).max() < 0.1


WHITE = np.array([0.9, 0.9, 0.88])


@pytest.mark.parametrize(
    "shirt, neck, hooded", [(WHITE, WHITE, 1), (WHITE, SKIN, 0), (HAIR, HAIR, 0)]
)
def test_a_shirt_before_a_bent_head_is_no_hood(dressed, shirt, neck, hooded):
    """White hair above a bare neck stays, and so does black hair above a black shirt."""
    cloud, limbs, colours, _, _ = dressed
    seen = (cloud.normals[:, 2] < -0.2).astype(float)
    head, skull = cloud.group == HEAD, (cloud.group == HEAD) & (cloud.scalp > 0.5)
    looks = np.where((cloud.group == TORSO)[:, None], shirt, colours)
    looks[head], looks[skull] = neck, shirt
    wrong = cast_by_occluder(cloud, cloud.means, looks, seen)
    assert (wrong & head).sum() == hooded * head.sum()
    trusted = ObservedColors(looks, np.where(wrong, 0.0, seen))
    material = np.where(skull, MATERIALS.index("hair"), 0)
    filled = fill_colours(cloud, trusted, limbs, material)
    filled = bent_head(filled, cloud, wrong, material)
    wanted = HAIR if hooded else shirt
    assert np.abs(np.median(filled[skull], axis=0) - wanted).max() < 0.05
