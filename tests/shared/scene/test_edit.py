# SPDX-License-Identifier: Apache-2.0
"""Corrections as text: what goes in comes out, and everything wrong is named."""

import json

import numpy as np
import pytest
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.scene.edit import EDIT_LIMIT, PoseEdit, SceneEdit, SceneEdits

RNG = np.random.default_rng(0)


def pose_edit():
    return PoseEdit(RNG.normal(0, 1, (55, 3)), RNG.normal(0, 3, 3))


def test_every_part_survives():
    pose = pose_edit()
    given = SceneEdits(
        (SceneEdit({3: pose}, (1,), (2,), ((1.5, 2, 30, 40),)), SceneEdit(excluded=(5, 4)))
    )
    read = SceneEdits.from_json(given.to_json())
    assert read.to_json() == given.to_json()
    first, second = read.steps
    np.testing.assert_allclose(first.corrected[3].pose, pose.pose, atol=5e-7)
    np.testing.assert_allclose(first.corrected[3].transl, pose.transl, atol=5e-7)
    assert (first.excluded, first.included, first.boxes) == ((1,), (2,), ((1.5, 2, 30, 40),))
    assert second.excluded == (4, 5)
    assert read.first(1) == SceneEdits((first,)).to_json() and read.first(0) == ""
    assert first.touched(6) == [2, 3, 6]


def test_long_chains_become_one_step_and_too_many_people_are_refused():
    edits = SceneEdits((SceneEdit(boxes=((0, 0, 9, 9),)),))
    last = None
    for turn in range(60):
        last = pose_edit()
        edits = edits.then(SceneEdit({turn % 3: last}))
    edits = edits.then(SceneEdit(excluded=(1,)))
    assert len(edits.to_json()) <= EDIT_LIMIT
    merged = edits.merged().steps[0]
    assert set(merged.corrected) == {0, 2} and merged.excluded == (1,)
    assert merged.boxes == ((0, 0, 9, 9),) and merged.corrected[2] is last
    with pytest.raises(CrowdGaussianError, match="correct fewer people"):
        SceneEdits((SceneEdit({i: pose_edit() for i in range(60)}),)).to_json()


def step(**parts):
    return json.dumps({"edits": [parts]})


POSE = {"pose": [0] * 165, "transl": [0, 0, 0]}


@pytest.mark.parametrize(
    "text, words",
    [
        ("[]", "must hold one JSON object"),
        ("{", "is not JSON"),
        ('{"edits": []}', "at least one step"),
        (step(), "a step that changes something"),
        (step(corrected={"x": POSE}), "under the number of a person"),
        (step(corrected={"1000": POSE}), "under the number of a person"),
        (step(corrected={"1": {**POSE, "pose": [0] * 164}}), "a list of 165 numbers"),
        (step(corrected={"1": {**POSE, "pose": [1e3] * 165}}), "at most 100 radians"),
        (step(corrected={"1": {**POSE, "transl": [0, 0, 1e9]}}), "within 10000 metres"),
        (step(corrected={"1": POSE}).replace("0]", "NaN]"), "not JSON"),
        (step(excluded=[-1]), "a whole number from 0 to 999"),
        (step(excluded=[1], included=[1]), "without person 1 in excluded as well"),
        (step(boxes=[[5, 5, 5, 9]]), "x0 < x1"),
        (step(boxes=[[0, 0, 1e9, 9]]), "x0 < x1"),
    ],
)
def test_what_is_wrong_is_named(text, words):
    with pytest.raises(CrowdGaussianError) as error:
        SceneEdits.from_json(text)
    assert words in str(error.value) and "\n" not in str(error.value)
