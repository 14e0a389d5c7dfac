# SPDX-License-Identifier: Apache-2.0
"""Cameras, priors, first guesses and the fit itself, on bodies whose pose is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from _support.people_made_up import figure
from crowdgaussian.body import load_body
from crowdgaussian.core.rotations import axis_angle_to_matrix
from crowdgaussian.people.detect.detections import Detection
from crowdgaussian.people.fit.body_points import BodyPoints, pose_matrices
from crowdgaussian.people.fit.fitter import Bodies, Fitter
from crowdgaussian.people.fit.init import bend_limb, swing, torso_frame
from crowdgaussian.people.fit.objective import limit_energy, pose_energy, relaxed_hands, usual_pose
from crowdgaussian.people.fit.schedules import fit_in_camera
from crowdgaussian.people.fit.targets import make_targets, straightness
from crowdgaussian.people.ground.placement import (
    lowest_skin,
    overlaps,
    push_apart,
    put_on_ground,
    sphere_centers,
    sphere_radii,
    touch_down,
)
from crowdgaussian.people.types import Keypoints, PeopleConfig
from crowdgaussian.splat.cameras import project
from crowdgaussian_shared.geometry.axes import OPENCV_FROM_SCENE, camera_at_origin, scene_viewmat
from crowdgaussian_shared.geometry.camera import (
    focal_or_default,
    intrinsics,
    pixel_rays,
    turn_to_ray,
)
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX, mirror_index

K = intrinsics(1000.0, 1200, 800)


@pytest.fixture(scope="module")
def model():
    return load_body()


@pytest.fixture(scope="module")
def points(model):
    return BodyPoints(model)


def test_focal_comes_from_the_photo_or_the_stated_default():
    assert focal_or_default(1234.0, 400, 300, 55.0) == 1234.0
    assert focal_or_default(None, 300, 400, 90.0) == pytest.approx(200.0)


def test_rays_are_the_inverse_of_projection():
    scene = np.array([[0.3, -0.2, -4.0], [-1.0, 0.5, -7.0]])
    pixels = project(torch.tensor(scene), torch.tensor(K), torch.tensor(camera_at_origin()))
    depth = -scene[:, 2:]
    assert np.allclose(pixel_rays(pixels.numpy(), K) * depth @ OPENCV_FROM_SCENE, scene)


def test_turning_to_a_ray_moves_the_optical_axis_there():
    ray = np.array([0.4, -0.2, 1.0])
    turn = turn_to_ray(ray)
    assert np.allclose(turn @ [0, 0, 1], ray / np.linalg.norm(ray))
    assert np.allclose(turn @ turn.T, np.eye(3)) and np.linalg.det(turn) > 0


def test_the_prior_is_the_same_for_left_and_right():
    other = torch.as_tensor(mirror_index()[1:22] - 1)
    pose = torch.randn(5, 21, 3, generator=torch.Generator().manual_seed(1))
    mirrored = pose[:, other] * torch.tensor([1.0, -1.0, -1.0])
    assert torch.allclose(pose_energy(pose), pose_energy(mirrored), rtol=1e-5)
    assert torch.allclose(limit_energy(pose), limit_energy(mirrored), rtol=1e-5)


@pytest.mark.parametrize(
    "joint, bend",
    [
        ("left_knee", (1.2, 0, 0)),
        ("right_knee", (1.2, 0, 0)),
        ("left_elbow", (0, -1.5, 0)),
        ("right_elbow", (0, 1.5, 0)),
    ],
)
def test_knees_and_elbows_bend_one_way_only(joint, bend):
    natural, broken = usual_pose()[None].clone(), usual_pose()[None].clone()
    natural[0, JOINT_INDEX[joint] - 1] = torch.tensor(bend, dtype=torch.float32)
    broken[0, JOINT_INDEX[joint] - 1] = -torch.tensor(bend, dtype=torch.float32)
    assert limit_energy(natural) == 0.0
    assert limit_energy(broken) > 1.0


def test_relaxed_fingers_curl_towards_the_palm(model):
    pose = torch.zeros(1, 55, 3)
    flat = model(torch.zeros(1, model.num_betas), pose, torch.zeros(1, 3)).joints[0]
    pose[0, 22:] = relaxed_hands()
    curled = model(torch.zeros(1, model.num_betas), pose, torch.zeros(1, 3)).joints[0]
    for side in ("left", "right"):
        tip = JOINT_INDEX[f"{side}_middle3"]
        assert curled[tip, 1] < flat[tip, 1] - 0.01  # palms look down in the T-pose


def test_bend_limb_points_both_bones_as_seen():
    bones = np.array([0.0, -0.4, 0.0]), np.array([0.0, -0.4, 0.0])
    seen = np.array([0.1, -0.3, 0.25]), np.array([0.0, -0.4, -0.1])
    upper, lower = bend_limb(bones, seen, -1.0)
    for turn, bone, want in ((upper, bones[0], seen[0]), (upper @ lower, bones[1], seen[1])):
        assert np.allclose(turn @ bone / 0.4, want / np.linalg.norm(want), atol=1e-6)
    hinge = lower - lower.T
    assert abs(hinge[1, 0]) < 1e-6 and abs(hinge[0, 2]) < 1e-6 and hinge[2, 1] > 0


def test_swing_handles_opposite_directions():
    turn = swing(np.array([1.0, 0, 0]), np.array([-1.0, 0, 0]))
    assert np.allclose(turn @ [1, 0, 0], [-1, 0, 0]) and np.linalg.det(turn) > 0


def test_points_are_those_of_the_whole_body(model, points):
    generator = torch.Generator().manual_seed(2)
    betas = torch.randn(2, model.num_betas, generator=generator)
    pose = 0.3 * torch.randn(2, 55, 3, generator=generator)
    scale = torch.tensor([0.9, 1.1])
    whole = model(betas, pose, torch.zeros(2, 3), scale)
    posed = points(betas, axis_angle_to_matrix(pose), whole.joints[:, 0], scale)
    assert torch.allclose(posed.landmarks, model.landmarks(whole), atol=1e-5)
    lowest = whole.vertices[:, points.ids[-posed.soles.shape[1] :]]
    assert torch.allclose(posed.soles, lowest, atol=1e-5)


def standing_people(model, points, count, seed):
    """People on a floor 1.5 m below a level camera, and the landmarks a perfect network gives.

    Returns joints [P, 55, 3] in the camera's scene axes and detections.
    """
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, 21, 3, generator=generator)
    limbs = usual_pose() + noise * 0.22
    limbs[:, [3, 4], 0] = limbs[:, [3, 4], 0].abs()
    turn = torch.zeros(count, 3)
    turn[:, 1] = torch.linspace(-1.2, 1.2, count)
    rotations = pose_matrices(
        axis_angle_to_matrix(turn), limbs, axis_angle_to_matrix(relaxed_hands())
    )
    betas = 0.3 * torch.randn(count, model.num_betas, generator=generator)
    pelvis = torch.stack(
        [
            torch.linspace(-1.6, 1.6, count),
            torch.zeros(count),
            -4.0 - torch.rand(count, generator=generator),
        ],
        dim=1,
    )
    ones = torch.ones(count)
    drop = points(betas, rotations, pelvis, ones).soles[..., 1].amin(dim=1)
    pelvis[:, 1] = -1.5 - drop
    posed = points(betas, rotations, pelvis, ones)
    camera = torch.tensor(K).float(), torch.tensor(camera_at_origin()).float()
    pixels = project(posed.landmarks, *camera).numpy()
    hips = posed.landmarks[:, [23, 24]].mean(dim=1, keepdim=True)
    world = (posed.landmarks - hips).numpy() @ OPENCV_FROM_SCENE.T
    return posed.joints.numpy(), [perfect_detection(*one) for one in zip(pixels, world)]


def perfect_detection(xy, metric):
    """What a network without error says of landmarks [33, 2] and [33, 3]."""
    crop = turn_to_ray(pixel_rays(xy[[11, 12, 23, 24]].mean(axis=0), K))
    return Detection(
        Keypoints(xy, np.full(33, 0.95, np.float32), metric @ crop),
        np.array([0, 0, 9, 9]),
        0.9,
        np.zeros((800, 1200), np.uint8),
        float(np.ptp(xy[:, 1])),
        (),
    )


def test_the_fit_finds_known_people_and_their_floor(model, points):
    true, found = standing_people(model, points, 4, seed=7)
    config = PeopleConfig(pose_steps=90, ground_steps=40, use_silhouette=False)
    targets = make_targets(found, K)
    fitter = Fitter(model, points, K, camera_at_origin())
    bodies = fit_in_camera(fitter, found, targets, K, config)
    placed = put_on_ground(fitter, bodies, found, targets, (800, 1200), config)
    scene = Fitter(model, points, K, placed.viewmat)
    joints = scene.pose(placed.bodies).joints.numpy()
    seen = joints @ placed.viewmat[:3, :3].T @ OPENCV_FROM_SCENE
    error = (seen - seen[:, :1]) - (true - true[:, :1])
    assert np.linalg.norm(error[:, :22], axis=2).mean() < 0.06
    assert placed.on_ground.all()
    lowest = scene.vertices(placed.bodies)[..., 1].amin(dim=1)
    assert lowest.abs().max() < 1e-3
    assert (np.argsort(joints[:, 0, 2]) == np.argsort(true[:, 0, 2])).all()


def test_people_inside_each_other_are_pushed_apart_along_the_floor(model, points):
    betas, ones = torch.zeros(2, model.num_betas), torch.ones(2)
    rotations = pose_matrices(
        torch.eye(3).expand(2, 3, 3),
        usual_pose().expand(2, 21, 3),
        axis_angle_to_matrix(relaxed_hands()),
    )
    pelvis = torch.tensor([[0.0, 0.95, -4.0], [0.12, 0.95, -4.1]])
    joints = points(betas, rotations, pelvis, ones).joints
    radii = sphere_radii(model, betas, ones)
    moves = push_apart(joints.numpy(), radii.numpy(), np.array([0.0, 1.6, 0.0]))
    moved = joints + torch.as_tensor(moves, dtype=torch.float32)[:, None]
    before = overlaps(sphere_centers(joints), radii).amax()
    after = overlaps(sphere_centers(moved), radii).amax()
    assert before > 0.03 and after < 0.005
    assert (moves[:, 1] == 0).all() and np.abs(moves).max() < 0.35
    far = torch.tensor([[0.0, 0.95, -4.0], [2.0, 0.95, -4.0]])
    apart = points(betas, rotations, far, ones).joints.numpy()
    assert (push_apart(apart, radii.numpy(), np.array([0.0, 1.6, 0.0])) == 0).all()


def test_the_trunk_of_somebody_facing_the_camera_is_the_identity():
    world = np.zeros((33, 3))
    world[[11, 12, 23, 24]] = [[0.2, 0.5, 0], [-0.2, 0.5, 0], [0.1, 0, 0], [-0.1, 0, 0]]
    assert np.allclose(torso_frame(world), np.eye(3))


def test_the_outline_of_somebody_bent_says_little_of_their_width():
    upright = figure((300, 300), 400)
    bent = upright.copy()
    bent[:23] = (upright[:23] - upright[23]) @ [[0.2, 1.0], [-1.0, 0.2]] + upright[23]
    assert straightness(upright) > 0.97 and straightness(bent) < 0.88


# Touching down

CAMERA_HEIGHT = 1.6


@pytest.mark.parametrize(
    ("lift", "stands", "low"),
    [
        (0.1, True, 0.0),  # comes nearer and is smaller
        (-0.1, True, 0.0),
        (0.7, False, 0.7),  # would be a dwarf: floats, at its own size
        (-0.6, False, -0.6),  # would be a giant
    ],
)
def test_nobody_becomes_a_giant_or_a_dwarf_to_touch_the_floor(model, points, lift, stands, low):
    fitter = Fitter(model, points, K, scene_viewmat(CAMERA_HEIGHT, 0.0, 0.0))
    standing = Bodies(
        orientation=torch.eye(3)[None],
        body_pose=usual_pose()[None],
        pelvis=torch.tensor([[0.0, 1.0, -4.0]]),
        betas=torch.zeros(1, model.num_betas),
        scale=torch.ones(1),
    )
    feet = lowest_skin(fitter, standing)
    lifted = replace(standing, pelvis=standing.pelvis + torch.tensor([0.0, lift - feet.item(), 0]))
    before = fitter.pose(lifted).landmarks
    bodies, on_ground = touch_down(
        fitter, lifted, (np.array([True]), np.array([True])), CAMERA_HEIGHT
    )
    assert on_ground[0] == stands
    assert lowest_skin(fitter, bodies).item() == pytest.approx(low, abs=1e-3)
    assert torch.allclose(
        project(fitter.pose(bodies).landmarks, *fitter.camera),
        project(before, *fitter.camera),
        atol=0.05,
    )  # the same picture
