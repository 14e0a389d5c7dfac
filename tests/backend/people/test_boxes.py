# SPDX-License-Identifier: Apache-2.0
"""Boxes that a user draws around people, and people cut by the photo's border."""

import numpy as np
import pytest
from crowdgaussian.body import load_body
from crowdgaussian.core.progress import silent
from crowdgaussian.people.mediapipe import KeypointFit, detect_people
from crowdgaussian.people.types import PeopleConfig
from crowdgaussian.synthetic.sample import load_ground_truth, sample_photo
from crowdgaussian_shared.errors import CrowdGaussianError
from PIL import Image


@pytest.fixture(scope="module")
def photo():
    return np.asarray(Image.open(sample_photo()).convert("RGB"))


def test_exactly_the_people_in_the_boxes_are_found(photo):
    truth = load_ground_truth()
    wanted = [truth.people[k].joints_px for k in (0, 4)]
    boxes = ";".join(
        ",".join(str(v) for v in (*(xy.min(0) - 15), *(xy.max(0) + 15))) for xy in wanted
    )
    reports = []
    config = PeopleConfig(boxes=boxes, pose_steps=5, ground_steps=5)  # for the way, not the poses
    found = KeypointFit(config, load_body()).estimate(photo, None, reports.append).people
    assert len(found) == 2
    fractions = [report.fraction for report in reports]
    assert fractions == sorted(fractions) and all(r.stage == "people" for r in reports)
    middles = sorted(xy[[16, 17, 1, 2]].mean(axis=0).tolist() for xy in wanted)
    for person, middle in zip(found, middles):
        trunk = person.keypoints.xy[[11, 12, 23, 24]].mean(axis=0)
        assert np.linalg.norm(trunk - middle) < 40


def test_half_a_person_at_the_photo_s_side_is_found_by_a_box(photo):
    """The photo's side cuts whoever stands on the left just beside the middle of the trunk."""
    people = load_ground_truth().people
    joints = min((person.joints_px for person in people), key=lambda xy: xy[:, 0].mean())
    middle = joints[[16, 17, 1, 2]].mean(axis=0)
    cut = int(middle[0]) - 30  # pixels; of 1600, and the trunk is some 100 wide
    right, top, bottom = joints[:, 0].max() - cut, joints[:, 1].min() - 40, joints[:, 1].max() + 15
    config = PeopleConfig(boxes=f"0,{top:.0f},{right:.0f},{bottom:.0f}")
    (found,) = detect_people(np.ascontiguousarray(photo[:, cut:]), config).people
    trunk = found.keypoints.xy[[11, 12, 23, 24]].mean(axis=0)
    assert np.linalg.norm(trunk - (middle - (cut, 0))) < 40


def test_a_box_with_nobody_in_it_is_told(photo):
    with pytest.raises(CrowdGaussianError, match="box 1 of people.boxes"):
        detect_people(photo, PeopleConfig(boxes="2,2,60,60"))


def test_people_whose_legs_are_out_of_the_photo_are_found_and_nobody_else(photo):
    """The sample from above the heads to the hips; a ghost and adults of 0.9 m once stood there."""
    people, corner = load_ground_truth().people, np.array([150, 220])  # x, y; pixels of 1600 x 1067
    crop = np.ascontiguousarray(photo[corner[1] : 640, corner[0] : 1500])
    body = load_body()
    crowd = KeypointFit(PeopleConfig(hands=False), body).estimate(crop, None, silent)
    noses = np.array([one.keypoints.xy[0] for one in crowd.people]) + corner
    heads = np.array([person.joints_px[15] for person in people])
    assert len(noses) == len(heads) == 6  # both from left to right
    assert (np.linalg.norm(noses - heads, axis=1) < 60).all()
    statures = np.array([body.height(one.params) for one in crowd.people])
    adults = [person.name != "child" for person in people]
    assert (statures[adults] > 1.25).all() and (statures < 2.1).all()
