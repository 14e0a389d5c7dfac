# SPDX-License-Identifier: Apache-2.0
"""Acceptance on real photos that lie beside the repository; skipped where they are not."""

import numpy as np
import pytest
from crowdgaussian.body.load import load_body
from crowdgaussian.config import Config
from crowdgaussian.photo import load_photo
from crowdgaussian.progress import silent
from crowdgaussian.stages import REGISTRY, load_stage
from running import photo_or_skip

pytestmark = pytest.mark.slow


def test_park_six_people_in_order(park_run):
    people = park_run.report["people"]
    assert [person["state"] for person in people] == ["done"] * 6
    boxes = np.array([person["box"] for person in people])
    centres = (boxes[:, 0] + boxes[:, 2]) / 2
    assert (np.diff(centres) > 0).all(), "people go from left to right"
    in_space = [person["pelvis"][0] / person["distance"] for person in people]
    assert (np.diff(in_space) > 0).all(), "the same order as seen by the camera"


def test_park_six_stand_on_one_floor(park_run):
    people = park_run.report["people"]
    assert all(person["on_ground"] for person in people)
    feet = [person["feet"] for person in people]
    assert max(feet) - min(feet) < 0.03, feet
    assert park_run.report["ground"]["feet_spread"] < 0.03


def test_park_six_quality(park_run):
    for person in park_run.report["people"]:
        where = f"person {person['index']}"
        assert person["iou"] >= 0.88, where
        assert person["psnr_db"] >= 24, where
        assert person["coverage"] >= 0.98, where


def test_park_six_time_and_memory(park_run):
    assert park_run.seconds < 6 * 60
    assert park_run.peak_memory < 6e9


@pytest.mark.parametrize("name, at_least", [("football.jpg", 7), ("dunk.jpg", 3)])
def test_players_are_found_once(name, at_least):
    photo = load_photo(photo_or_skip(name))
    people = load_stage("people", Config(), load_body("open"))
    crowd = people.estimate(photo.pixels, photo.focal_px, silent)
    assert len(crowd.people) >= at_least
    pixels = [person.keypoints.xy[11:] for person in crowd.people]  # [22, 2] each: limbs
    for i, person in enumerate(crowd.people):
        height = person.box[3] - person.box[1]
        assert height > 0.15 * photo.height, "a face in the crowd is no player"
        for j in range(i):
            apart = np.median(np.linalg.norm(pixels[i] - pixels[j], axis=1))
            assert apart > 0.1 * height, f"{j} and {i} are the same person"


def test_registry_names_exist():
    for kind, classes in REGISTRY.items():
        for name in classes:
            assert load_stage(kind, Config(), load_body("open")), name
