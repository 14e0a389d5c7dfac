# SPDX-License-Identifier: Apache-2.0
"""The whole masks stage on painted people."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from _support.avatar_scene import crowd_of, paint, person_of
from crowdgaussian.body import load_body
from crowdgaussian.body.model import pose_body
from crowdgaussian.core.progress import silent
from crowdgaussian.segment.silhouettes import SilhouetteSegmenter
from crowdgaussian.segment.types import SegmentConfig
from crowdgaussian.splat.normals import render_mesh_depth


@pytest.fixture(scope="module")
def body():
    return load_body()


def blurred(mask):
    return cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 2.5)


def test_one_person_is_found_sharply(body):
    scene = paint(body)
    person = person_of(scene.parameters, blurred(scene.mask))
    crowd = replace(crowd_of(scene), people=(person,))
    (mask,) = SilhouetteSegmenter(SegmentConfig(), body).segment(scene.photo, crowd, silent)
    overlap = (mask.visible & scene.mask).sum() / (mask.visible | scene.mask).sum()
    assert overlap > 0.93
    assert mask.occlusion < 0.05 and (mask.visible <= mask.amodal).all()


def test_the_nearer_of_two_hides_the_other(body):
    scene = paint(body, width=320, shirt=0.0, hair=0.0)
    behind = replace(scene.parameters, transl=scene.parameters.transl + np.float32([0.25, 0, -0.8]))
    posed = pose_body(body, behind)
    _, face = render_mesh_depth(
        posed.pose_points(posed.rest).astype(np.float32), posed.faces, scene.camera
    )
    whole = np.asarray(face) >= 0
    photo = scene.photo.copy()
    photo[whole & ~scene.mask] = (230, 220, 40)
    people = (person_of(scene.parameters, blurred(scene.mask)), person_of(behind, blurred(whole)))
    crowd = replace(crowd_of(scene), people=people, on_ground=(True, True))
    near, far = SilhouetteSegmenter(SegmentConfig(), body).segment(photo, crowd, silent)
    hidden = 1 - (whole & ~scene.mask).sum() / whole.sum()
    assert not (near.visible & far.visible).any()
    assert (near.visible & scene.mask).sum() / (near.visible | scene.mask).sum() > 0.93
    assert hidden > 0.2 and abs(far.occlusion - hidden) < 0.1
    assert near.occlusion < 0.05
