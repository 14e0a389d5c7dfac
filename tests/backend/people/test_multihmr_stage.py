# SPDX-License-Identifier: Apache-2.0
"""Multi-HMR's people as bodies of ours: cameras, transfer to the open body, the whole stage."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from _support import multihmr_made_up as made_up
from _support.smplx_made_up import synthetic
from crowdgaussian.body import load_body
from crowdgaussian.core.crop import letterbox
from crowdgaussian.core.progress import silent
from crowdgaussian.people.crowd import single_thread
from crowdgaussian.people.fit.body_points import BodyPoints
from crowdgaussian.people.fit.fitter import Fitter
from crowdgaussian.people.multihmr.network import Humans
from crowdgaussian.people.multihmr.stage import (
    MultiHmr,
    SmplxPeople,
    in_photo,
    known_camera,
    start_bodies,
)
from crowdgaussian.people.types import PeopleConfig
from crowdgaussian.synthetic.sample import load_ground_truth
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.geometry.axes import OPENCV_FROM_SCENE, camera_at_origin
from crowdgaussian_shared.geometry.camera import intrinsics, pixel_rays
from crowdgaussian_shared.geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle

HEAD = 15
FROM_NETWORK = [*range(22), *range(25, 55), 22]


@pytest.fixture(scope="module")
def truth():
    return load_ground_truth()


@pytest.fixture(scope="module")
def body():
    return load_body()


def humans_of(truth) -> Humans:
    """The sample's true people as a perfect Multi-HMR would tell them."""
    viewmat = truth.camera.viewmat
    rows = []
    for person in truth.people:
        rotations = axis_angle_to_matrix(person.pose)[FROM_NETWORK]
        rotations[0] = viewmat[:3, :3] @ rotations[0]
        head = viewmat[:3, :3] @ person.joints[HEAD] + viewmat[:3, 3]
        flat = truth.camera.K @ head
        rows.append((0.9, flat[:2] / flat[2], head[2], head, rotations, np.zeros(10), np.zeros(10)))
    return Humans(*(torch.as_tensor(np.stack(part), dtype=torch.float32) for part in zip(*rows)))


class TrueJoints:
    """Stands for SMPL-X: gives the joints that the people really have."""

    def __init__(self, truth):
        self.truth = truth

    def place(self, humans, K):
        viewmat = self.truth.camera.viewmat
        joints = np.stack(
            [person.joints @ viewmat[:3, :3].T + viewmat[:3, 3] for person in self.truth.people]
        )
        return type("PlacedHumans", (), {"j3d": torch.as_tensor(joints, dtype=torch.float32)})


def stage_with(humans, body, smplx=None, **options):
    """The stage with a network that sees the given people."""
    stage = MultiHmr.__new__(MultiHmr)
    stage.config, stage.body, stage.smplx = PeopleConfig(**options), body, smplx
    stage.points = BodyPoints(body)
    stage.predict = lambda photo, K: humans
    return stage


def test_a_photo_in_a_square_and_back():
    photo = np.zeros((300, 600, 3), np.uint8)
    photo[100:200, 150:450] = 255
    view = letterbox(photo, 224)
    seen = view.pixels.mean(dim=0) > 1.0
    rows, columns = (np.flatnonzero(seen.any(dim=axis)) for axis in (1, 0))
    corner = view.to_photo(np.array([columns[0], rows[0]], float))
    assert np.abs(corner - [150, 100]).max() < 4
    K = intrinsics(500.0, 600, 300)
    point = np.array([0.3, -0.2, 2.0])
    inside, outside = view.camera(K) @ point, K @ point
    assert np.allclose(view.to_photo(inside[:2] / inside[2]), outside[:2] / outside[2])


def test_an_unusual_focal_length_keeps_people_where_they_are_seen(truth):
    humans, K = humans_of(truth), truth.camera.K.copy()
    K[0, 0] *= 2.5
    K[1, 1] *= 2.5
    side = max(truth.camera.width, truth.camera.height)
    used = known_camera(K, side)
    assert np.degrees(2 * np.arctan(side / 2 / used[0, 0])) == pytest.approx(50.0)
    usual = intrinsics(side / 2 / np.tan(np.radians(30)), side, side)
    assert np.allclose(known_camera(usual, side), usual)
    view = letterbox(np.zeros((truth.camera.height, truth.camera.width, 3), np.uint8), 896)
    in_square = replace(
        humans,
        loc=torch.as_tensor(humans.loc.numpy() * view.scale + view.offset, dtype=torch.float32),
    )
    moved = in_photo(in_square, view, used, K)
    flat = moved.transl.numpy() @ K.T
    assert np.abs(flat[:, :2] / flat[:, 2:] - humans.loc.numpy()).max() < 0.01
    assert torch.allclose(moved.distance, humans.distance * float(K[0, 0] / used[0, 0]))
    # Seen along its ray, a body looks as before.
    along = pixel_rays(humans.loc.numpy(), K)
    before = pixel_rays(humans.loc.numpy(), used)
    for k, (new, old) in enumerate(zip(along, before)):
        front_new = new / np.linalg.norm(new) @ moved.rotations[k, 0].double().numpy()
        front_old = old / np.linalg.norm(old) @ humans.rotations[k, 0].double().numpy()
        assert np.abs(front_new - front_old).max() < 1e-5


def test_the_open_body_takes_pose_and_size_from_joints(truth, body):
    humans = humans_of(truth)
    with single_thread():
        start = start_bodies(humans, body, TrueJoints(truth))
    viewmat = truth.camera.viewmat
    true = np.stack([p.joints @ viewmat[:3, :3].T + viewmat[:3, 3] for p in truth.people])
    true = true @ OPENCV_FROM_SCENE
    fitter = Fitter(body, BodyPoints(body), truth.camera.K, camera_at_origin())
    found = fitter.pose(start.bodies).joints.numpy()
    error = np.linalg.norm(found - true, axis=2)[:, :22]
    assert error.mean() < 0.01 and error.max() < 0.04
    average = fitter.pose(start_bodies(humans, body, None).bodies).joints.numpy()
    assert np.abs(average[:, HEAD] - true[:, HEAD]).max() < 1e-4  # the head stays where it is seen


@pytest.mark.parametrize("with_size", [True, False])
def test_the_stage_gives_the_sample_s_people(truth, body, with_size):
    smplx = TrueJoints(truth) if with_size else None
    stage = stage_with(humans_of(truth), body, smplx, ground_steps=30)
    photo = np.zeros((truth.camera.height, truth.camera.width, 3), np.uint8)
    crowd = stage.estimate(photo, truth.camera.K[0, 0], silent)
    assert len(crowd.people) == len(truth.people) and all(crowd.on_ground)
    errors, fingers = [], []
    with torch.no_grad():
        for person, real in zip(crowd.people, truth.people):
            out = body(
                *(
                    torch.as_tensor(np.asarray(v, np.float32))[None]
                    for v in (person.betas, person.pose, person.transl, person.scale)
                )
            )
            joints = out.joints[0].numpy()
            seen = joints @ crowd.camera.viewmat[:3, :3].T
            goal = real.joints @ truth.camera.viewmat[:3, :3].T
            errors.append(np.linalg.norm((seen - seen[0]) - (goal - goal[0]), axis=1)[:22].mean())
            fingers.append(np.abs(person.pose[22:] - real.pose[22:])[[0, *range(3, 33)]].max())
            assert person.person_mask.shape == photo.shape[:2] and person.person_mask.max() > 200
            assert person.reprojection_px < 0.03 * np.ptp(real.joints_px[:, 1])
    shown = np.sum([person.person_mask > 127 for person in crowd.people], axis=0)
    assert (shown > 1).sum() < 0.02 * (shown > 0).sum()  # who is behind is hidden
    assert np.mean(errors) < (0.03 if with_size else 0.06)
    assert max(fingers) < 1e-4


def test_the_whole_stage_runs_on_a_small_network(tmp_path, body):
    path = tmp_path / "multiHMR.pt"
    made_up.write_checkpoint(path, made_up.random_state(made_up.layout(*made_up.SMALL)))
    config = PeopleConfig(multihmr=str(path), multihmr_score=0.0, max_people=3, ground_steps=3)
    photo = np.random.default_rng(0).integers(0, 255, (90, 140, 3), dtype=np.uint8)
    crowd = MultiHmr(config, body).estimate(photo, None, silent)
    assert len(crowd.people) == 3 and crowd.camera.width == 140
    lefts = [person.keypoints.xy[0, 0] for person in crowd.people]
    assert all(np.isfinite(person.pose).all() for person in crowd.people) and len(lefts) == 3
    nobody = replace(config, multihmr_score=1.1)
    with pytest.raises(CrowdGaussianError, match="no person"):
        MultiHmr(nobody, body).estimate(photo, None, silent)


def test_boxes_choose_whose_heads_lie_in_them(truth, body):
    humans = humans_of(truth)
    stage = stage_with(humans, body, boxes="0,0,1600,1067")
    shape = truth.visible.shape[1:]
    assert stage._wanted(humans, shape).tolist() == [0]
    x, y = humans.loc[4].tolist()
    box = f"{x - 20},{y - 20},{x + 20},{y + 200}"
    stage.config = PeopleConfig(boxes=f"{box};0,0,1600,1067")
    assert stage._wanted(humans, shape).tolist() == [0, 4]
    stage.config = PeopleConfig(boxes=f"{box};{box}")
    with pytest.raises(CrowdGaussianError, match="no head in box 2"):
        stage._wanted(humans, shape)


def test_smplx_takes_the_network_s_shape_and_pose_as_they_are(tmp_path, truth):
    pytest.importorskip("smplx", reason="smplx is missing; pip install '.[smplx]'")
    path = tmp_path / "SMPLX_NEUTRAL.npz"
    np.savez(path, **synthetic(np.random.default_rng(0)))
    model, people = load_body("smplx", path), SmplxPeople(path)
    generator = torch.Generator().manual_seed(4)
    humans = replace(humans_of(truth), betas=torch.randn(6, 10, generator=generator))
    start = start_bodies(humans, model, None)
    assert torch.equal(start.bodies.betas, humans.betas)
    pose = torch.cat([torch.zeros(6, 1, 3), start.bodies.body_pose, start.hands], dim=1)
    pose[:, 0] = torch.as_tensor(matrix_to_axis_angle(start.bodies.orientation.double().numpy()))
    rest = model.rest(humans.betas)[1][:, 0]
    posed = model(humans.betas, pose, start.bodies.pelvis - rest)
    goal = people.place(humans, torch.eye(3)).j3d[:, :55].numpy() @ OPENCV_FROM_SCENE
    assert np.abs(posed.joints.detach().numpy() - goal).max() < 1e-4
