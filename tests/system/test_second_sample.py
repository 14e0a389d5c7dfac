# SPDX-License-Identifier: Apache-2.0
"""The people stage on the second sample: two from behind, one in profile, one a third hidden.

Of all thresholds only choice._SEEN_BETTER was chosen with it in sight. Bounds are what was
measured, and room for another processor's rounding; whoever is turned round, swapped or put beside
themselves is far over them.
"""

import numpy as np
import pytest
from _support.running import SECOND_SAMPLE
from crowdgaussian.body import load_body
from crowdgaussian.core.landmarks import ARMS, LEGS, Landmark
from crowdgaussian.people.mediapipe import KeypointFit
from crowdgaussian.people.types import PeopleConfig
from crowdgaussian.synthetic.sample import load_ground_truth
from crowdgaussian_shared.geometry.rotations import axis_angle_to_matrix
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX
from PIL import Image

pytestmark = pytest.mark.slow
LIMBS = np.array([*ARMS, *LEGS])  # landmarks that are joints
LIMB_JOINTS = [JOINT_INDEX[Landmark(k).joint] for k in LIMBS]
REACH = 0.15  # of the height: mean distance of somebody's limbs to those of their landmarks
BACKS = {"father", "runner"}


@pytest.fixture(scope="module")
def truth():
    return load_ground_truth(SECOND_SAMPLE)


@pytest.fixture(scope="module")
def crowd(truth):
    photo = np.asarray(Image.open(SECOND_SAMPLE / "sample.jpg").convert("RGB"))
    focal = float(truth.camera.K[0, 0])
    return KeypointFit(PeopleConfig(), load_body()).estimate(photo, focal, lambda progress: None)


def height_px(person) -> float:
    return float(np.ptp(person.joints_px[:, 1]))


@pytest.fixture(scope="module")
def apart(truth, crowd):
    """Mean distance of limbs in the photo, in heights.  # [found, true]"""
    true = np.stack([person.joints_px[LIMB_JOINTS] for person in truth.people])
    found = np.stack([person.keypoints.xy[LIMBS] for person in crowd.people])
    distance = np.linalg.norm(found[:, None] - true[None], axis=-1).mean(axis=-1)
    return distance / [height_px(person) for person in truth.people]


def facing(params) -> float:
    """Where a body's hips look: degrees about the vertical, 0 to the camera's plane."""
    ahead = axis_angle_to_matrix(np.asarray(params.pose[0], np.float64)) @ [0.0, 0.0, 1.0]
    return float(np.degrees(np.arctan2(ahead[0], ahead[2])))


def turned(a: float, b: float) -> float:
    return abs((a - b + 180) % 360 - 180)


def test_the_picture_is_the_hard_one_it_should_be(truth):
    looks = {person.name: facing(person.params) for person in truth.people}
    assert {name for name, angle in looks.items() if turned(angle, 180) < 20} == BACKS
    assert sum(turned(abs(angle), 90) < 15 for angle in looks.values()) == 1
    hidden = [1 - person.visible_fraction for person in truth.people]
    assert sum(0.25 < share < 0.45 for share in hidden) == 1
    size = sum(path.stat().st_size for path in SECOND_SAMPLE.iterdir())
    assert size < 250_000


def test_everybody_is_found_once_and_nobody_else(truth, apart):
    print("limbs off, % of the height:", np.round(apart.min(axis=0) * 100, 1))
    names = [person.name for person in truth.people]
    times = dict(zip(names, (apart < REACH).sum(axis=0).tolist(), strict=True))
    assert times == dict.fromkeys(names, 1)
    assert len(apart) == len(names)


def test_limbs_lie_where_they_are_in_the_photo(truth, apart):
    """Also that left is left: from behind a swap puts every limb on the other side."""
    errors = dict(zip((p.name for p in truth.people), apart.min(axis=0), strict=True))
    assert max(errors.values()) < 0.06, errors


def test_who_is_seen_from_behind_faces_away(truth, crowd, apart):
    errors = {}
    for true, mine in zip(truth.people, apart.argmin(axis=0), strict=True):
        errors[true.name] = turned(facing(true.params), facing(crowd.people[mine].params))
    print("facing off, degrees:", {name: round(error) for name, error in errors.items()})
    assert max(errors.values()) < 35, errors
