# SPDX-License-Identifier: Apache-2.0
"""RT-DETR and ViTPose as keypoint source: plumbing with random weights, truth with drawn ones."""

import numpy as np
import pytest
import torch
from _support.vitpose_made_up import save_vitpose, true_people
from crowdgaussian.body import load_body
from crowdgaussian.core.landmarks import to_landmarks
from crowdgaussian.core.progress import silent
from crowdgaussian.people.crowd import single_thread
from crowdgaussian.people.detect.search import choose_boxes, overlap, read_boxes
from crowdgaussian.people.fit.body_points import BodyPoints
from crowdgaussian.people.fit.init import DEPTH_HYPOTHESES, Lengths, body_size, lift
from crowdgaussian.people.ground.support import feet_seen
from crowdgaussian.people.types import PeopleConfig
from crowdgaussian.people.vitpose import (
    KeypointNetwork,
    PersonDetector,
    VitPoseFit,
)
from crowdgaussian.synthetic.sample import load_ground_truth
from crowdgaussian_shared.errors import CrowdGaussianError
from transformers import (
    RTDetrConfig,
    RTDetrForObjectDetection,
    RTDetrImageProcessorPil,
    RTDetrResNetConfig,
)

SHAPE = (300, 400)


def save_detector(folder):
    torch.manual_seed(0)
    resnet = RTDetrResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16, 24, 32],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    model = RTDetrForObjectDetection(
        RTDetrConfig(
            backbone_config=resnet,
            encoder_in_channels=[16, 24, 32],
            encoder_hidden_dim=32,
            encoder_ffn_dim=32,
            encoder_attention_heads=2,
            d_model=32,
            num_queries=20,
            decoder_in_channels=[32, 32, 32],
            decoder_ffn_dim=32,
            decoder_layers=2,
            decoder_attention_heads=2,
            num_labels=3,
            num_denoising=0,
            anchor_image_size=None,
            id2label={0: "cat", 1: "Person", 2: "dog"},
            label2id={"cat": 0, "Person": 1, "dog": 2},
        )
    )
    model.save_pretrained(folder)
    RTDetrImageProcessorPil(size={"height": 160, "width": 160}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def vitpose(tmp_path_factory):
    return save_vitpose(tmp_path_factory.mktemp("vitpose"))


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    return save_detector(tmp_path_factory.mktemp("rtdetr"))


@pytest.fixture(scope="module")
def body():
    return load_body()


@pytest.fixture(scope="module")
def truth():
    return load_ground_truth()


def noise(seed=0):
    return np.random.default_rng(seed).integers(0, 255, (*SHAPE, 3), dtype=np.uint8)


@pytest.mark.parametrize("keypoints, experts", [(17, 1), (133, 1), (17, 6)])
def test_keypoints_of_many_boxes(keypoints, experts, tmp_path):
    network = KeypointNetwork(save_vitpose(tmp_path, keypoints, experts))
    boxes = np.stack([[10.0 + 5 * k, 20, 90 + 5 * k, 250] for k in range(18)])
    xy, scores = network.keypoints(noise(), boxes)
    assert xy.shape == (18, keypoints, 2) and scores.shape == (18, keypoints)
    assert np.isfinite(xy).all()
    alone, _ = network.keypoints(noise(), boxes[17:])
    assert np.abs(alone[0] - xy[17]).max() < 0.01


def test_a_drawn_heat_lands_where_it_is_in_the_photo(vitpose):
    network = KeypointNetwork(vitpose)
    dots = np.array([[120.5, 80.2], [160.1, 200.7], [100.9, 240.4]])
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]] + 0.5
    spots = [np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 60) for x, y in dots]
    photo = (255 * np.stack(spots, axis=-1)).astype(np.uint8)

    def see(pixel_values, **_):
        """Heat is what is bright in the crop, one colour a keypoint, on the grid of training."""
        bright = pixel_values * torch.tensor(network.processor.image_std)[:, None, None]
        bright = bright + torch.tensor(network.processor.image_mean)[:, None, None]
        small = torch.nn.functional.interpolate(
            bright, (64, 48), mode="bilinear", align_corners=True
        )
        return type("Out", (), {"heatmaps": small.repeat(1, 6, 1, 1)[:, :17]})

    see.config = network.model.config
    network.model = see
    box = np.array([[70.0, 40, 210, 280]])
    xy, scores = network.keypoints(photo, box)
    assert np.abs(xy[0, :3] - dots).max() < 0.05
    assert scores.min() > 0.7


def test_the_detector_gives_people_only_inside_the_photo(detector):
    network = PersonDetector(detector)
    assert network.person == 1
    network.processor.post_process_object_detection = lambda out, **_: [
        {
            "labels": torch.tensor([1, 0, 1]),
            "scores": torch.tensor([0.9, 0.8, 0.3]),
            "boxes": torch.tensor([[-5.0, 10, 50, 350], [0, 0, 9, 9], [20, 30, 60, 70]]),
        }
    ]
    boxes, scores = network.boxes(noise())
    assert np.allclose(boxes, [[0, 10, 50, 300], [20, 30, 60, 70]])
    assert np.allclose(scores, [0.9, 0.3])


def test_boxes_of_the_user():
    boxes = read_boxes("10,20,110,220; -5,0,50.5,400;", SHAPE)
    assert np.allclose(boxes, [[10, 20, 110, 220], [0, 0, 50.5, 300]])
    for wrong in ("1,2,3", "a,b,c,d", "1,2,3,4,5;6,7,8"):
        with pytest.raises(CrowdGaussianError, match="no list of boxes"):
            read_boxes(wrong, SHAPE)
    for outside in ("50,50,20,90", "500,10,600,90", "0,0,nan,50"):
        with pytest.raises(CrowdGaussianError, match="Box 1 .* inside the photo"):
            read_boxes(outside, SHAPE)


def test_doubles_and_background_are_left_out():
    boxes = np.array(
        [
            [0, 0, 100, 300],
            [2, 3, 101, 299],
            [200, 0, 300, 290],
            [310, 0, 320, 30],
            [320, 0, 390, 250],
        ],
        float,
    )
    scores = np.array([0.8, 0.9, 0.7, 0.9, 0.2])
    assert overlap(boxes[0], boxes[1]) > 0.9 and overlap(boxes[0], boxes[2]) == 0
    assert choose_boxes(boxes, scores, PeopleConfig()).tolist() == [1, 2]
    assert choose_boxes(boxes, scores, PeopleConfig(max_people=1)).tolist() == [1]
    assert not len(choose_boxes(boxes, scores * 0, PeopleConfig()))


def test_layouts_name_the_same_places():
    xy = np.random.default_rng(0).uniform(0, 99, (133, 2))
    scores = np.linspace(0.2, 0.9, 133)
    small, sure = to_landmarks(xy[:17], scores[:17])
    assert np.allclose(
        small[[0, 2, 5, 7, 8, 11, 16, 23, 28]], xy[[0, 1, 2, 3, 4, 5, 10, 11, 16]], atol=1e-5
    )
    assert (sure > 0).sum() == 17 and (sure[[1, 9, 17, 22, 29, 32]] == 0).all()
    assert np.allclose(small[29], small[27]) and np.allclose(small[20], small[16])
    whole, all_sure = to_landmarks(xy, scores)
    assert (all_sure > 0).all() and np.allclose(whole[sure > 0], small[sure > 0])
    # heels, big toes, eye and mouth corners, knuckles
    assert np.allclose(whole[[29, 30]], xy[[19, 22]], atol=1e-5)
    assert np.allclose(whole[31], 0.8 * xy[17] + 0.2 * xy[18], atol=1e-4)
    assert np.allclose(whole[[3, 6, 9, 10]], xy[[68, 59, 77, 71]], atol=1e-5)
    assert np.allclose(whole[[17, 18, 19, 20]], xy[[108, 129, 96, 117]], atol=1e-5)
    with pytest.raises(CrowdGaussianError, match="20 keypoints"):
        to_landmarks(xy[:20], scores[:20])


def stage_for(body, **options):
    stage = VitPoseFit.__new__(VitPoseFit)
    stage.config, stage.body, stage.points = PeopleConfig(**options), body, BodyPoints(body)
    stage.lengths = Lengths.of(body.joint_template.numpy())
    return stage


def test_landmarks_alone_give_the_sample_s_bodies(truth, body):
    found = true_people(truth, body)
    stage = stage_for(body, pose_steps=80, ground_steps=30)
    with single_thread():
        crowd = stage.fit(found, truth.camera.K, truth.visible.shape[1:], "option")
    errors, order = [], []
    for person, real in zip(crowd.people, truth.people):
        with torch.no_grad():
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
        order.append((crowd.camera.viewmat @ np.append(joints[0], 1))[2] / real.depth)
        assert person.reprojection_px < 0.015 * np.ptp(real.joints_px[:, 1])
    assert np.mean(errors) < 0.085 and max(errors) < 0.17
    assert np.abs(np.array(order) - 1).mean() < 0.06
    assert all(crowd.on_ground)


def test_a_lifted_body_faces_where_it_faces(truth, body):
    lengths = Lengths.of(body.joint_template.numpy())
    for person, real in zip(true_people(truth, body), truth.people):
        views = [lift(person, lengths, reading).keypoints.world for reading in DEPTH_HYPOTHESES]
        across = np.array([view[11] - view[12] for view in views])
        goal = truth.camera.viewmat[:3, :3] @ (real.joints[16] - real.joints[17])
        cosine = across @ goal / np.linalg.norm(across, axis=1) / np.linalg.norm(goal)
        assert cosine.max() > 0.9, real.name
        upright = np.ptp(real.joints_px[:, 1])
        assert 0.8 < person.size / upright < 1.6


def test_half_a_body_still_tells_its_size(truth, body):
    lengths = Lengths.of(body.joint_template.numpy())
    person = true_people(truth, body)[0]
    upper = person.keypoints.confidence * (np.arange(33) < 25)
    whole = body_size(person.keypoints.xy, person.keypoints.confidence, lengths)
    assert abs(body_size(person.keypoints.xy, upper, lengths) / whole - 1) < 0.15
    assert body_size(person.keypoints.xy, np.zeros(33), lengths) > 0
    assert feet_seen(person, truth.visible.shape[1:])


def test_the_whole_stage_with_boxes_and_with_a_detector(vitpose, detector, body):
    options = {"vitpose": str(vitpose), "pose_steps": 4, "ground_steps": 2, "landmarks": "full"}
    given = PeopleConfig(boxes="10,20,110,220;150,30,240,290", **options)
    stage = VitPoseFit(given, body)
    assert stage.detector is None
    crowd = stage.estimate(noise(), 400.0, silent)
    assert len(crowd.people) == 2 and crowd.focal_source == "exif"
    assert all(p.person_mask.shape == SHAPE and np.isfinite(p.pose).all() for p in crowd.people)
    assert {tuple(np.round(p.box)) for p in crowd.people} == {
        (10, 20, 110, 220),
        (150, 30, 240, 290),
    }
    strict = PeopleConfig(detector=str(detector), detector_score=1.1, **options)
    with pytest.raises(CrowdGaussianError, match="set people.boxes"):
        VitPoseFit(strict, body).estimate(noise(), None, silent)
