# SPDX-License-Identifier: Apache-2.0
"""Boxes that a user draws around people, with the bundled landmark network."""

import numpy as np
import pytest
from crowdgaussian.body import load_body
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


def test_a_box_with_nobody_in_it_is_told(photo):
    with pytest.raises(CrowdGaussianError, match="box 1 of people.boxes"):
        detect_people(photo, PeopleConfig(boxes="2,2,60,60"))
