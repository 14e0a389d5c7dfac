# SPDX-License-Identifier: Apache-2.0
"""The usual colour of a garment, which does not know of prints."""

import numpy as np
import pytest
from crowdgaussian.avatar.color_completion import ObservedColors, fill_colours
from crowdgaussian.avatar.color_statistics import color_prior, limb_places
from crowdgaussian.avatar.gaussians import bind
from crowdgaussian.body import load_body
from crowdgaussian.body.model import pose_body
from crowdgaussian.body.parts import HEAD, LEG, TORSO, find_regions, sample_surface
from crowdgaussian_shared.geometry.avatar import BodyParams

SHIRT, JEANS, SKIN = np.array([[0.1, 0.3, 0.4], [0.2, 0.2, 0.6], [0.7, 0.5, 0.4]])


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


def test_a_borrowed_print_is_held_to_the_garment(dressed):
    cloud, limbs, colours, seen, printed = dressed
    held = color_prior(cloud, colours, seen > 0.5, limbs).clamp_to_prior(colours)
    assert np.abs(colours[printed] - SHIRT).max() > 0.3
    assert np.abs(held[printed] - SHIRT).max() < 0.1
    assert np.allclose(held[cloud.group == HEAD], colours[cloud.group == HEAD])


def test_an_unseen_head_is_skin_not_shirt(dressed):
    cloud, limbs, colours, seen, _ = dressed
    hidden = np.where(cloud.group == HEAD, 0.0, seen)
    filled = fill_colours(cloud, ObservedColors(colours, hidden), limbs)
    skull = (cloud.group == HEAD) & (cloud.scalp > 0.5)
    assert np.abs(filled[skull] - SKIN).max() < 0.1
