# SPDX-License-Identifier: Apache-2.0
"""The people stage on real photos, which lie beside the repository and are never copied into it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from crowdgaussian.body import load_body
from crowdgaussian.people.config import PeopleConfig
from crowdgaussian.people.detect.detections import detect_people
from crowdgaussian.people.mediapipe import KeypointFit
from crowdgaussian_shared.errors import CrowdGaussianError
from PIL import Image

PHOTOS = Path(__file__).resolve().parents[4] / "shared" / "photos"


def photo(name: str) -> np.ndarray:
    path = PHOTOS / name
    if not path.exists():
        pytest.skip(f"the test photo {name} is not beside the repository")
    return np.asarray(Image.open(path).convert("RGB"))


def trunks(people, width: int) -> np.ndarray:
    """Middle of each trunk in a photo 1280 px wide.  # [P, 2]"""
    xy = np.stack([person.keypoints.xy for person in people])
    return xy[:, [11, 12, 23, 24]].mean(axis=1) * 1280 / width


def found_at(places: np.ndarray, expected: list, reach: float = 45.0) -> np.ndarray:
    """How many people were found at each expected place.  # [E]"""
    apart = np.linalg.norm(np.array(expected)[:, None] - places[None], axis=2)
    return (apart < reach).sum(axis=1)


def vertices(crowd, body) -> np.ndarray:
    def stack(name):
        values = [getattr(person, name) for person in crowd.people]
        return torch.as_tensor(np.stack(values), dtype=torch.float32)

    with torch.no_grad():
        return body(stack("betas"), stack("pose"), stack("transl"), stack("scale")).vertices.numpy()


@pytest.fixture(scope="module")
def body():
    return load_body()


@pytest.fixture(scope="module")
def park(body):
    pixels = photo("park_six.jpg")
    reports = []
    crowd = KeypointFit(PeopleConfig(), body).estimate(pixels, None, reports.append)
    return pixels, crowd, reports


def test_six_people_in_the_park(park):
    _, crowd, reports = park
    places = trunks(crowd.people, 2250)
    expected = [(207, 345), (318, 358), (440, 330), (654, 305), (880, 370), (1022, 325)]
    assert len(crowd.people) == 6
    assert (found_at(places, expected) == 1).all()
    assert (np.diff(places[:, 0]) > 0).all()
    fractions = [report.fraction for report in reports]
    assert fractions == sorted(fractions) and all(r.stage == "people" for r in reports)


def test_the_park_people_stand_on_one_floor_in_the_right_order(park, body):
    _, crowd, _ = park
    posed = vertices(crowd, body)
    assert all(crowd.on_ground)
    assert np.ptp(posed[..., 1].min(axis=1)) < 0.03
    depth = -np.array([person.transl[2] for person in crowd.people])
    assert depth.argmin() == 3  # the man in the middle is nearest
    assert depth[5] < depth[4] and depth[0] < min(depth[1], depth[2])
    height = -(crowd.camera.viewmat[:3, :3].T @ crowd.camera.viewmat[:3, 3])[1]
    assert 0.6 < height < 2.2


def test_the_heavy_man_is_heavy_and_landmarks_fit(park, body):
    _, crowd, _ = park
    rest, joints = body.rest(torch.as_tensor(np.stack([p.betas for p in crowd.people])))
    near = (rest[..., 1] - joints[:, 3:4, 1]).abs() < 0.04
    trunk = torch.isin(body.parts, torch.tensor([0, 3, 6, 9]))
    girth = [float(np.ptp(v[n & trunk, 0])) for v, n in zip(rest.numpy(), near)]
    assert int(np.argmax(girth)) == 1 and girth[1] > 1.1 * np.median(girth)
    heights = [np.ptp(p.keypoints.xy[:, 1]) for p in crowd.people]
    assert all(p.reprojection_px < 0.03 * h for p, h in zip(crowd.people, heights))


def test_footballers_but_no_spectators():
    people = detect_people(photo("football.jpg"), PeopleConfig())
    expected = [(110, 480), (380, 590), (483, 335), (632, 365), (782, 500), (948, 520), (1130, 505)]
    counts = found_at(trunks(people, 800), expected, 60.0)
    assert (counts == 1).all()
    assert len(people) <= 8  # an eighth stands half hidden behind another


def test_dunk_players_but_no_spectators():
    people = detect_people(photo("dunk.jpg"), PeopleConfig())
    places = trunks(people, 799)
    assert (found_at(places, [(475, 330), (465, 690), (905, 630)], 60.0) == 1).all()
    known = [(475, 330), (465, 690), (905, 630), (265, 650), (560, 640), (1140, 640)]
    assert found_at(places, known, 70.0).sum() == len(people) <= 6


def test_nobody_in_the_photo_is_told_in_one_sentence():
    blank = np.full((300, 400, 3), 120, np.uint8)
    with pytest.raises(CrowdGaussianError, match="No person was found"):
        detect_people(blank, PeopleConfig())
