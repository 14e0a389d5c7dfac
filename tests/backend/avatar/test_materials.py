# SPDX-License-Identifier: Apache-2.0
"""What each Gaussian shows, on made-up people whose clothes are known."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from crowdgaussian.avatar.color_statistics import limb_places, palette_of
from crowdgaussian.avatar.gaussians import bind
from crowdgaussian.avatar.materials import (
    HAIR,
    LOWER,
    SHOES,
    SKIN,
    UPPER,
    find_materials,
)
from crowdgaussian.avatar.visibility import closed_legs
from crowdgaussian.body import load_body
from crowdgaussian.body.model import pose_body
from crowdgaussian.body.parts import ARM, FOOT, HEAD, LEG, TORSO, find_regions, sample_surface
from crowdgaussian.core.optim import best_path
from crowdgaussian_shared.geometry.avatar import BodyParams
from crowdgaussian_shared.geometry.camera import Camera
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX

COLOURS = {
    SKIN: (0.78, 0.58, 0.47),
    HAIR: (0.22, 0.13, 0.08),
    UPPER: (0.75, 0.15, 0.15),
    LOWER: (0.2, 0.25, 0.5),
    SHOES: (0.92, 0.92, 0.9),
}
FRONT, BACK = 0.2, -0.2  # of the normals' z, seen from the front and from nowhere


class Figure:
    """A body at rest and a view of it from the front."""

    def __init__(self) -> None:
        body = load_body()
        zeros = np.zeros(body.num_betas, np.float32), np.zeros((55, 3), np.float32)
        self.posed = posed = pose_body(body, BodyParams(*zeros, np.zeros(3, np.float32), 1.0))
        points = sample_surface(posed.rest, posed.faces, np.ones(len(posed.faces)), 6000, 1)
        mirror = np.asarray(body.mirror_vertices, np.int64)
        self.cloud = bind(points, posed.rest, posed, find_regions(body, posed), mirror)
        self.front = np.broadcast_to([0.0, 0, 1], (len(self.cloud), 3))
        self.joint = {name: posed.joints[k] for name, k in JOINT_INDEX.items()}

    def worn(self, sleeve: float, hem: float) -> np.ndarray:
        """The labels of a shirt with sleeves, and trousers; metres from shoulder and ankle."""
        cloud, joint = self.cloud, self.joint
        label = np.full(len(cloud), SKIN)
        label[cloud.scalp > 0.5] = HAIR
        label[cloud.group == TORSO] = UPPER
        reach = np.abs(cloud.means[:, 0]) - joint["left_shoulder"][0]
        label[(cloud.group == ARM) & (reach < sleeve)] = UPPER
        below = np.isin(cloud.group, (TORSO, LEG)) & (cloud.means[:, 1] < joint["left_hip"][1])
        label[below] = LOWER
        bare = (cloud.group == LEG) & (cloud.means[:, 1] < joint["left_ankle"][1] + hem)
        label[bare] = SKIN
        label[cloud.group == FOOT] = SHOES
        return label

    def found(self, label: np.ndarray, seen: np.ndarray, closed: bool = False) -> np.ndarray:
        """The labels found in noisy colours of these."""
        shade = np.random.default_rng(0).uniform(0.8, 1.1, (len(label), 1))
        colours = np.array([COLOURS[k] for k in label]) * shade
        limbs = limb_places(self.cloud, self.posed.joints, self.front)
        view = self.view(closed)
        return find_materials(self.cloud, self.posed, colours, seen, limbs, view).label

    def view(self, closed: bool) -> SimpleNamespace:
        """A camera before the body; everything between the legs is the person's, or nothing."""
        K = np.array([[300.0, 0, 150], [0, 300, 150], [0, 0, 1]])
        viewmat = np.diag([1.0, -1, -1, 1])
        viewmat[2, 3] = 3
        return SimpleNamespace(
            camera=Camera(K, viewmat, 300, 300), visible=np.full((300, 300), closed)
        )


@pytest.fixture(scope="module")
def figure() -> Figure:
    return Figure()


def seen_from_the_front(figure: Figure) -> np.ndarray:
    return (figure.cloud.normals[:, 2] > FRONT).astype(float)


def right(found: np.ndarray, label: np.ndarray, where: np.ndarray) -> float:
    return float((found == label)[where].mean())


@pytest.mark.parametrize("sleeve, hem", [(0.12, 0.0), (0.6, 0.0), (0.2, 0.5)])
def test_front_and_back_of_shirt_and_trousers(figure, sleeve, hem):
    label = figure.worn(sleeve, hem)
    found = figure.found(label, seen_from_the_front(figure))
    facing = figure.cloud.normals[:, 2]
    assert right(found, label, facing > FRONT) > 0.96
    assert right(found, label, facing < BACK) > 0.9
    assert all(right(found, label, label == k) > 0.85 for k in (SKIN, HAIR, UPPER, LOWER, SHOES))


def test_hidden_legs_are_trousers_and_shoes(figure):
    label = figure.worn(0.2, 0.0)
    hidden = np.isin(figure.cloud.group, (LEG, FOOT))
    found = figure.found(label, np.where(hidden, 0.0, seen_from_the_front(figure)))
    assert right(found, label, figure.cloud.group == LEG) > 0.85
    assert right(found, label, figure.cloud.group == FOOT) > 0.9


def test_a_dress_is_one_garment(figure):
    label = figure.worn(0.1, 0.5)
    dress = np.where(label == LOWER, UPPER, label)
    found = figure.found(dress, seen_from_the_front(figure), closed=True)
    assert (found == LOWER).sum() == 0
    assert right(found, dress, np.full(len(dress), True)) > 0.93


def test_hair_over_the_shoulders_hangs_behind_too(figure):
    label, cloud = figure.worn(0.2, 0.0), figure.cloud
    down = figure.joint["neck"][1] - 0.15
    falls = (cloud.means[:, 1] > down) & (np.abs(cloud.means[:, 0]) > 0.05)
    falls &= (np.abs(cloud.means[:, 0]) < 0.14) & np.isin(cloud.group, (TORSO, HEAD))
    label[falls & (cloud.face < 0.5)] = HAIR
    found = figure.found(label, seen_from_the_front(figure))
    chest = falls & (cloud.group == TORSO) & (cloud.normals[:, 2] > FRONT)
    back = falls & (cloud.group == TORSO) & (cloud.normals[:, 2] < -0.6)
    assert (found[chest] == HAIR).mean() > 0.8
    assert (found[back] == HAIR).mean() > 0.5
    plain = figure.worn(0.2, 0.0)
    assert (figure.found(plain, seen_from_the_front(figure))[back] == UPPER).all()


def test_confidence_follows_the_eye(figure):
    label, seen = figure.worn(0.2, 0.0), seen_from_the_front(figure)
    limbs = limb_places(figure.cloud, figure.posed.joints, figure.front)
    colours = np.array([COLOURS[k] for k in label])
    told = find_materials(figure.cloud, figure.posed, colours, seen, limbs, figure.view(False))
    assert told.label.dtype == np.uint8 and told.confidence.dtype == np.float32
    assert told.confidence.min() >= 0 and told.confidence.max() <= 1
    chest = figure.cloud.group == TORSO
    front, back = (told.confidence[chest & (seen == k)].mean() for k in (1, 0))
    assert front > 0.85 and back < 0.6


def test_closed_legs_need_spread_legs(figure):
    assert np.isnan(list(closed_legs(figure.posed, figure.view(True)).values())).all()
    posed, apart = figure.posed, np.eye(4)
    apart[0, 3] = 0.3
    moved = posed.transforms.copy()
    for name in ("left_hip", "left_knee", "left_ankle"):
        moved[JOINT_INDEX[name]] = apart @ moved[JOINT_INDEX[name]]
    spread = replace(posed, transforms=moved)
    for closed in (True, False):
        assert closed_legs(spread, figure.view(closed)) == {True: closed, False: closed}


def test_nobody_seen_is_labelled_by_place(figure):
    label = figure.worn(0.2, 0.0)
    found = figure.found(label, np.zeros(len(label)))
    assert right(found, label, figure.cloud.group == LEG) > 0.9
    assert right(found, label, figure.cloud.group == HEAD) > 0.8


def test_a_palette_knows_shade_from_hue():
    red = np.array([[50.0, 40, 20]]) * np.random.default_rng(0).uniform(0.7, 1.2, (200, 1))
    palette = palette_of(red)
    same, darker, green = palette.log_density(np.array([[50.0, 40, 20], [40, 32, 16], [50, 0, 30]]))
    assert same - darker < 1.5 and same - green > 5


def test_best_path_leaves_states_out_and_never_goes_back():
    gains = np.array([[1.0, 0, 0], [1, 0, 0], [0, 0, 1], [1, 0, 0.9], [0, 0, 1]])
    assert best_path(gains, 0.5).tolist() == [0, 0, 2, 2, 2]
    assert best_path(gains, 9.0).tolist() == [0] * 5


def test_shirt_and_trousers_of_one_cloth_are_two(figure):
    label = figure.worn(0.2, 0.0)
    seen = seen_from_the_front(figure)
    shade = np.random.default_rng(0).uniform(0.8, 1.1, (len(label), 1))
    worn = np.where(label == LOWER, UPPER, label)
    colours = np.array([COLOURS[k] for k in worn]) * shade
    limbs = limb_places(figure.cloud, figure.posed.joints, figure.front)
    view = figure.view(False)
    found = find_materials(figure.cloud, figure.posed, colours, seen, limbs, view).label
    legs = (figure.cloud.group == LEG) & (seen > 0.5)
    assert (found[legs] == LOWER).mean() > 0.85
    assert (found[(figure.cloud.group == TORSO) & (seen > 0.5)] == UPPER).mean() > 0.7
