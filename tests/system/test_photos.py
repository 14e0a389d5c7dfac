# SPDX-License-Identifier: Apache-2.0
"""The whole job on a real photo that lies beside the repository; skipped where it does not.

Finding people in the other photos: tests/backend/test_people_photos.py.
"""

from importlib import import_module

import numpy as np
import pytest
from crowdgaussian.body.load import load_body
from crowdgaussian.pipeline.config import Config
from crowdgaussian.pipeline.stages import STAGES, load_stage

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


def test_registry_names_exist():
    for spec in STAGES:
        for place in filter(None, (spec.build, spec.files)):
            module, name = place.split(":")
            assert callable(getattr(import_module(module, "crowdgaussian"), name)), spec
        assert spec.help and (not spec.config_field or hasattr(Config(), spec.config_field))
    for kind in ("people", "segment", "avatar"):
        assert load_stage(kind, Config(), load_body("open")), kind
