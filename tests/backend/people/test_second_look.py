# SPDX-License-Identifier: Apache-2.0
"""ViTPose's own .pth files, and MediaPipe's second look at the people whom ViTPose has found."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from _support.vitpose_made_up import publish, save_vitpose, true_people
from crowdgaussian.body import load_body
from crowdgaussian.people.fit import schedules
from crowdgaussian.people.fit.fitter import Bodies
from crowdgaussian.people.fit.targets import make_targets
from crowdgaussian.people.mediapipe import look_again
from crowdgaussian.people.types import PeopleConfig
from crowdgaussian.people.vitpose import KeypointNetwork, completed
from crowdgaussian.synthetic.sample import FOLDER, load_ground_truth
from crowdgaussian_shared.errors import CrowdGaussianError
from PIL import Image
from transformers import VitPoseBackboneConfig, VitPoseConfig, VitPoseForPoseEstimation


@pytest.fixture(scope="module")
def body():
    return load_body()


@pytest.fixture(scope="module")
def truth():
    return load_ground_truth()


@pytest.mark.parametrize("simple, keypoints", [(True, 17), (False, 133)])
def test_a_published_file_is_the_same_network(tmp_path, simple, keypoints):
    torch.manual_seed(1)
    backbone = VitPoseBackboneConfig(
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=[256, 192],
        patch_size=[16, 16],
        layer_norm_eps=1e-6,
        out_features=["stage2"],
    )
    model = VitPoseForPoseEstimation(
        VitPoseConfig(backbone_config=backbone, use_simple_decoder=simple, num_labels=keypoints)
    ).eval()
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.02, 0.2)
    path = publish(model, tmp_path / "vitpose-x-wholebody.pth")
    network = KeypointNetwork(path)
    pixels = torch.randn(1, 3, 256, 192)
    with torch.no_grad():
        theirs = model(pixels).heatmaps
        assert torch.allclose(network.model(pixels).heatmaps, theirs, rtol=1e-4)
        assert theirs.std() > 0
    xy, scores = network.keypoints(
        np.zeros((300, 400, 3), np.uint8), np.array([[10.0, 20, 90, 250]])
    )
    assert xy.shape == (1, keypoints, 2) and np.isfinite(scores).all()


@pytest.mark.parametrize("damage", ["text", "cut", "another", "unsplit"])
def test_a_file_that_is_no_vitpose_is_told(tmp_path, damage):
    path = tmp_path / "a.pth"
    model = KeypointNetwork(save_vitpose(tmp_path)).model
    if damage == "text":
        path.write_text("no weights")
    elif damage == "another":
        torch.save({"weight": torch.zeros(3)}, path)
    else:
        publish(model, path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:5000])
    if damage == "unsplit":  # as joint training leaves it: experts have a part of each layer
        state = torch.load(path)["state_dict"]
        state["backbone.blocks.0.mlp.fc2.weight"] = torch.zeros(24, 128)
        torch.save(state, path)
    with pytest.raises(CrowdGaussianError, match="cannot be read as a ViTPose file"):
        KeypointNetwork(path)


def seen_again(person, shift=3.0):
    """The same person as another network has them: a little elsewhere, with depth and hands."""
    keypoints = replace(
        person.keypoints,
        xy=person.keypoints.xy + np.float32(shift),
        confidence=np.full(33, 0.7, np.float32),
        world=np.ones((33, 3), np.float32),
    )
    mask = np.full_like(person.person_mask, 200)
    hand = np.zeros((21, 3), np.float32)
    return replace(person, keypoints=keypoints, person_mask=mask, hands=(hand, None))


def test_a_second_look_adds_what_keypoints_do_not_tell(truth, body):
    person = true_people(truth, body)[0]
    assert completed(person, None) is person
    both = completed(person, seen_again(person))
    own = person.keypoints.confidence > 0
    assert own.sum() == 17 and np.allclose(both.keypoints.xy[own], person.keypoints.xy[own])
    assert np.allclose(both.keypoints.confidence[own], person.keypoints.confidence[own])
    # heels keep their way from the ankle, which stays where the keypoint network has it
    way = both.keypoints.xy[29] - both.keypoints.xy[27]
    assert np.allclose(way, person.keypoints.xy[29] - person.keypoints.xy[27], atol=1e-3)
    assert (both.keypoints.confidence[29:] == np.float32(0.7)).all()
    assert both.keypoints.world.any() and both.person_mask.any() and both.hands[0] is not None


def test_people_with_and_without_depth_keep_their_order(truth, body, monkeypatch):
    people = true_people(truth, body)[:3]
    mixed = [people[0], seen_again(people[1]), people[2]]
    asked = []

    def fit(name):
        def bodies(fitter, own, targets, K, config):
            asked.append((name, len(own)))
            place = torch.tensor(np.stack([one.keypoints.xy[0] for one in own]))
            empty = torch.zeros(len(own), 3)
            return Bodies(empty, empty, place, empty, targets.weight[:, 0])

        return bodies

    monkeypatch.setattr(schedules, "fit_in_camera", fit("depth"))
    monkeypatch.setattr(schedules, "fit_2d_keypoints", fit("flat"))
    targets = make_targets(mixed, truth.camera.K)
    found = schedules.fit_alone(None, mixed, targets, truth.camera.K, PeopleConfig())
    assert asked == [("depth", 1), ("flat", 2)]
    assert np.allclose(found.pelvis, np.stack([one.keypoints.xy[0] for one in mixed]))
    assert torch.equal(found.scale, targets.weight[:, 0])


def test_the_second_look_sees_the_person_and_nobody_else(truth, body):
    photo = np.asarray(Image.open(FOLDER / "sample.jpg").convert("RGB"))
    person = true_people(truth, body)[0]
    elsewhere = replace(person.keypoints, xy=person.keypoints.xy + np.float32(0.5 * person.size))
    again, nobody = look_again(
        photo, [person, replace(person, keypoints=elsewhere)], PeopleConfig(landmarks="full")
    )
    assert nobody is None
    apart = np.linalg.norm(again.keypoints.xy - person.keypoints.xy, axis=1)[11:29]
    assert np.median(apart) < 0.05 * person.size and again.keypoints.world.any()
    assert again.person_mask.max() > 200
