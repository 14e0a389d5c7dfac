# SPDX-License-Identifier: Apache-2.0
"""Hands: whose each is, how far fingers bend, and that a known hand is found again."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from _support.people_made_up import body as made_up_body
from _support.smplx_made_up import VERTICES, synthetic
from crowdgaussian.body.load import load_body
from crowdgaussian.people import mediapipe
from crowdgaussian.people.detect.hands import (
    HandClaim,
    HandLook,
    HandNetwork,
    find_hands,
    settle_claims,
    shared_look,
)
from crowdgaussian.people.detect.landmark_net import PhotoPyramid
from crowdgaussian.people.fit.body_points import BodyPoints, HandAngles, HandPoints
from crowdgaussian.people.fit.fitter import Bodies, Fitter
from crowdgaussian.people.fit.objective import FINGER_LIMITS, arm_limits, relaxed_hands
from crowdgaussian.people.fit.schedules import fit_hands
from crowdgaussian.people.types import PeopleConfig
from crowdgaussian.synthetic.sample import load_ground_truth, sample_photo
from crowdgaussian.weights import WeightFile
from crowdgaussian_shared.errors import MissingFileError
from crowdgaussian_shared.geometry.axes import OPENCV_FROM_SCENE, camera_at_origin
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX
from PIL import Image

# A flat left hand, 100 long: wrist, thumb, index, middle, ring and little finger.
HAND = np.array(
    [[0, 0, 0]]
    + [[25 * k, 12 * k, 0] for k in (0.6, 1.2, 1.7, 2.1)]
    + [[50 + 12 * k, 15, 0] for k in range(4)]
    + [[55 + 15 * k, 0, 0] for k in range(4)]
    + [[50 + 14 * k, -12, 0] for k in range(4)]
    + [[45 + 11 * k, -24, 0] for k in range(4)],
    float,
)
NETWORK_ORDER = [5, 6, 7, 8, 9, 10, 11, 12, 17, 18, 19, 20, 13, 14, 15, 16, 1, 2, 3, 4]
K = np.array([[1500.0, 0, 600], [0, 1500, 400], [0, 0, 1]])


def claim(owner, right, place=(0, 0), handed=0.5, wrist=0.9, reach=0.8):
    look = HandLook(HAND + [*place, 0], handed)
    return HandClaim(owner, right, look, wrist, reach)


def test_a_claimed_hand_goes_to_the_surer_wrist_whose_handedness_and_forearm_fit():
    sure, unsure = claim(0, False, wrist=0.9), claim(1, False, (9, 4), wrist=0.6)
    assert settle_claims([unsure, sure]) == [sure]
    left, right = claim(0, False, handed=0.95), claim(1, True, (9, 4), handed=0.95, wrist=0.7)
    assert settle_claims([left, right]) == [right]
    near, far = claim(0, False, wrist=0.7), claim(1, False, (9, 4), wrist=0.9, reach=1.4)
    assert settle_claims([far, near]) == [near]


def test_both_wrists_of_one_person_on_one_hand_are_settled_by_handedness():
    left, right = claim(2, False, handed=0.9), claim(2, True, (0, 6), handed=0.9)
    assert settle_claims([left, right]) == [right]


def test_hands_beside_each_other_stay_and_a_worthless_claim_goes():
    left, right = claim(0, False, handed=0.1), claim(0, True, (0, 80), handed=0.9)
    kept = settle_claims([left, right])
    assert len(kept) == 2 and left in kept and right in kept
    assert settle_claims([claim(0, False, handed=1.0)]) == []


def test_half_of_the_looks_have_to_agree():
    looks = [HandLook(HAND + [shift, 0, 0], 0.8) for shift in (0, 2, 4)]
    shared = shared_look([*looks, None, None, None])
    assert np.allclose(shared.xyz, HAND + [2, 0, 0]) and shared.right == pytest.approx(0.8)
    assert shared_look([*looks, None, None, None, None]) is None
    elsewhere = [HandLook(HAND + [0, 60 * k, 0], 0.5) for k in range(1, 4)]
    assert shared_look([looks[0], *elsewhere]) is None
    assert shared_look([None] * 6) is None


@pytest.fixture(scope="module")
def photo():
    return np.asarray(Image.open(sample_photo()).convert("RGB"))


def true_body(person, wrists=None):
    """Body landmarks with the true arms; `wrists` puts the left arm's end elsewhere."""
    xy = np.tile(person.joints_px[0], (33, 1))
    parts = {11: "shoulder", 13: "elbow", 15: "wrist", 17: "pinky1", 19: "index1", 23: "hip"}
    for landmark, part in parts.items():
        for k, side in enumerate(("left", "right")):
            xy[landmark + k] = person.joints_px[JOINT_INDEX[f"{side}_{part}"]]
    if wrists is not None:
        xy[[15, 17, 19]] = wrists
    world = np.column_stack([xy / 400, np.zeros(33)])
    return replace(made_up_body(xy, 700.0), world=world)


def test_every_visible_hand_of_the_sample_is_seen_and_a_stranger_gets_none(photo):
    people = {person.name: person for person in load_ground_truth().people}
    dancer = people["dancer"]
    stolen = dancer.joints_px[[JOINT_INDEX[f"right_{p}"] for p in ("wrist", "pinky1", "index1")]]
    names = ["dancer", "child", "student", "father"]
    bodies = [true_body(people[name], stolen if name == "father" else None) for name in names]
    found = find_hands(HandNetwork(), PhotoPyramid(photo), bodies)
    assert found[3][0] is None
    for name, pair in zip(names[:3], found):
        for hand, first in zip(pair, (25, 40)):
            true = people[name].joints_px[first : first + 15].reshape(5, 3, 2)
            seen = hand[NETWORK_ORDER].reshape(5, 4, 3)[:, :3, :2]
            assert np.linalg.norm(seen - true, axis=2).mean() < 7


def test_a_missing_hand_network_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(WeightFile, "path", lambda self: tmp_path / self.file)
    with pytest.raises(MissingFileError, match="hand_landmark_full.tflite .* is missing; run"):
        HandNetwork()


def test_hands_are_not_looked_for_when_that_is_off(photo, monkeypatch):
    def refuse():
        raise AssertionError("the hand network was loaded")

    monkeypatch.setattr(mediapipe, "HandNetwork", refuse)
    child = next(p for p in load_ground_truth().people if p.name == "child")
    low, high = child.joints_px.min(axis=0) - 20, child.joints_px.max(axis=0) + 20
    box = ",".join(f"{value:.0f}" for value in (*low, *high))
    config = PeopleConfig(boxes=box, landmarks="full", hands=False)
    (found,) = mediapipe.detect_people(photo, config).people
    assert found.hands == (None, None)


@pytest.fixture(scope="module", params=["open", "smplx"])
def model(request, tmp_path_factory):
    if request.param == "open":
        return load_body("open")
    file = tmp_path_factory.mktemp("smplx") / "SMPLX_NEUTRAL.npz"
    np.savez(file, **human_smplx(np.random.default_rng(3)))
    return load_body("smplx", file)


def human_smplx(rng):
    """A made-up SMPL-X file whose joints and skin lie where a human's do."""
    data = synthetic(rng)
    joints = load_body("open").joint_template.numpy()
    part = np.concatenate([np.arange(55), rng.integers(0, 55, VERTICES - 55)])
    off = 0.015 * rng.standard_normal((VERTICES, 3))
    off[:55] = 0  # the vertices by which the joints are told
    data["v_template"] = (joints[part] + off).astype(np.float32)
    data["J_regressor"] = np.eye(55, VERTICES, dtype=np.float32)
    data["weights"] = np.eye(55, dtype=np.float32)[part]
    return data


@pytest.fixture(scope="module")
def fitter(model):
    return Fitter(model, BodyPoints(model), K, camera_at_origin())


def two_people(model, elbow=(0.0, 0.0, 0.0)):
    """Two who stand eight metres away, arms out, a little turned."""
    pose = torch.zeros(2, 21, 3)
    pose[:, [17, 18]] = torch.tensor(elbow)
    turn = torch.stack([torch.eye(3), torch.eye(3)])
    place = torch.tensor([[-0.7, 0.1, -8.0], [0.8, -0.1, -8.5]])
    return Bodies(turn, pose, place, torch.zeros(2, model.num_betas), torch.ones(2))


def bent_hands(fitter, bodies, angles):
    """Points [4, 16 + 5, 3] of all four hands in the camera's axes: wrists, joints, tips."""
    person, right = torch.tensor([0, 0, 1, 1]), torch.tensor([False, True] * 2)
    rest = fitter.points.rest_joints(bodies.betas, bodies.scale)[person]
    points = HandPoints(fitter.body, rest, right)
    posed = fitter.pose(bodies)
    elbow = posed.rotations[person, points.joints[:, 0]]
    wrist = posed.joints[person, points.joints[:, 1], None]
    around = points(elbow, angles).flatten(1, 2)
    camera = torch.as_tensor(OPENCV_FROM_SCENE, dtype=torch.float32)
    return points, torch.cat([wrist, wrist + around], dim=1) @ camera.T


def landmarks_of(points):
    """What a network without error says of points [H, 21, 3] in the camera's axes."""
    xy = (points @ torch.tensor(K, dtype=torch.float32).T)[..., :2] / points[..., 2:]
    depth = (points[..., 2:] - points[:, :1, 2:]) * K[0, 0] / points[:, :1, 2:]
    landmarks = torch.zeros(len(points), 21, 3)
    landmarks[:, [0, *NETWORK_ORDER]] = torch.cat([xy, depth], dim=2)
    seen = landmarks.numpy()
    return [(seen[0], seen[1]), (seen[2], seen[3])]


def known_angles(seed=0):
    """Hands half way between rest and somewhere within the limits; wrists turned."""
    rng = torch.Generator().manual_seed(seed)
    low, high = FINGER_LIMITS.unbind(dim=-1)
    within = low + (high - low) * (0.25 + 0.5 * torch.rand(4, 15, 3, generator=rng))
    wrist = (torch.rand(4, 3, generator=rng) - 0.5) * torch.tensor([0.5, 0.5, 0.9])
    return HandAngles(torch.tensor([0.4, -0.3, 0.2, -0.5]), wrist, within)


def test_the_points_of_a_hand_lie_where_the_body_model_has_them(model, fitter):
    bodies, angles = two_people(model), known_angles()
    points, mine = bent_hands(fitter, bodies, angles)
    twist, fingers = points.rotations(angles)
    pose = torch.cat([torch.zeros(2, 1, 3), bodies.body_pose, relaxed_hands().repeat(2, 1, 1)], 1)
    forearm = points.forearm * angles.twist[:, None]  # elbows are straight
    for hand, (person, ids) in enumerate(zip((0, 0, 1, 1), points.joints)):
        pose[person, ids[0]], pose[person, ids[1]] = forearm[hand], angles.wrist[hand]
        pose[person, ids[2:]] = fingers[hand]
    rest = fitter.points.rest_joints(bodies.betas, bodies.scale)
    with torch.no_grad():
        joints = model(bodies.betas, pose, bodies.pelvis - rest[:, 0], bodies.scale).joints
    joints = joints @ torch.as_tensor(OPENCV_FROM_SCENE, dtype=torch.float32).T
    joints_of_mine = mine[:, 1:].unflatten(1, (5, 4))[:, :, :3].flatten(1, 2)
    for hand, (person, ids) in enumerate(zip((0, 0, 1, 1), points.joints)):
        assert torch.allclose(joints[person, ids[1]], mine[hand, 0], atol=1e-4)
        assert torch.allclose(joints[person, ids[2:]], joints_of_mine[hand], atol=1e-4)
    assert torch.allclose(points.twist_of(forearm), angles.twist, atol=1e-5)


def fitted_points(fitter, bodies, found):
    """The hands after the fit, as bent_hands."""
    pose, rest = fit_hands(fitter, bodies, found)
    fitted = replace(bodies, body_pose=pose)
    person, right = torch.tensor([0, 0, 1, 1]), torch.tensor([False, True] * 2)
    joints = fitter.points.rest_joints(bodies.betas, bodies.scale)[person]
    points = HandPoints(fitter.body, joints, right)
    wrist = pose[person, points.joints[:, 1] - 1]
    fingers = rest[person[:, None], points.joints[:, 2:] - 22]
    angles = points.angles(wrist, fingers)
    return points, angles, pose, bent_hands(fitter, fitted, angles)[1]


def test_a_known_hand_is_found_again_on_both_bodies(model, fitter):
    bodies = two_people(model)
    _, true = bent_hands(fitter, bodies, known_angles())
    at_rest = fitted_points(fitter, bodies, [(None, None)] * 2)[3]
    fitted = fitted_points(fitter, bodies, landmarks_of(true))[3]
    length = (true[:, 5] - true[:, 0]).norm(dim=1).mean()  # to the middle knuckle
    before, after = ((one - true)[:, 1:].norm(dim=2).mean() / length for one in (at_rest, fitted))
    assert before > 0.4
    assert after < 0.13  # the usual hand holds back what is left


def test_a_hand_that_was_not_seen_is_at_rest(model, fitter):
    bodies = two_people(model)
    seen = landmarks_of(bent_hands(fitter, bodies, known_angles())[1])
    pose, rest = fit_hands(fitter, bodies, [(None, None), (None, seen[1][1])])
    left, right = slice(3, 18), slice(18, 33)  # after jaw and eyes
    assert torch.equal(rest[0], relaxed_hands()) and torch.equal(pose[0], bodies.body_pose[0])
    assert torch.equal(rest[1, left], relaxed_hands()[left])
    assert not torch.equal(rest[1, right], relaxed_hands()[right])
    moved = (pose[1] != bodies.body_pose[1]).any(dim=1)
    assert set(torch.nonzero(moved)[:, 0].tolist()) <= {18, 20}  # right elbow and wrist


@pytest.mark.parametrize("elbow", [(0.0, 0.0, 0.0), (0.9, -1.2, 0.1)])
def test_impossible_hands_bend_no_joint_beyond_its_limits(model, fitter, elbow):
    bodies = two_people(model, elbow)
    strange = HandAngles(
        torch.full((4,), 2.5), torch.full((4, 3), -1.4), torch.full((4, 15, 3), -1.2)
    )
    found = landmarks_of(bent_hands(fitter, bodies, strange)[1])
    points, angles, pose, _ = fitted_points(fitter, bodies, found)
    low, high = FINGER_LIMITS.unbind(dim=-1)
    assert ((angles.fingers >= low - 1e-4) & (angles.fingers <= high + 1e-4)).all()
    assert (angles.fingers - low).abs().min(dim=0).values.min() < 1e-4  # one is at its end
    right = torch.tensor([False, True] * 2)
    limits = arm_limits(right)
    assert (
        (angles.wrist >= limits[:, 1:, 0] - 1e-5) & (angles.wrist <= limits[:, 1:, 1] + 1e-5)
    ).all()
    twist = points.twist_of(pose[torch.tensor([0, 0, 1, 1]), points.joints[:, 0] - 1])
    assert ((twist >= limits[:, 0, 0] - 1e-4) & (twist <= limits[:, 0, 1] + 1e-4)).all()
