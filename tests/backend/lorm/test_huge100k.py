# SPDX-License-Identifier: Apache-2.0
"""HuGe100K in its real sizes: pictures go with the cameras of their own frames, or are refused."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from _support.huge100k_made_up import (
    FRAMES,
    FRONTAL,
    NAME,
    SIDE,
    WIDTH,
    camera_of,
    converter,
    orbit,
    seen_person,
    write_person,
)
from crowdgaussian.body import load_body
from crowdgaussian.core.rotations import axis_angle_to_matrix, joint_transforms
from crowdgaussian.lorm.model.query_points import TemplateMesh
from crowdgaussian.lorm.training.dataset import PeopleDataset, blank_head, landmark_finder, misfit
from crowdgaussian.lorm.training.distill import LormTraining
from crowdgaussian.lorm.training.huge100k import frontal_frame, read_huge100k, silhouette
from crowdgaussian.lorm.training.trainer import TrainJob, choose_people
from crowdgaussian_shared.errors import CrowdGaussianError
from PIL import Image


@pytest.fixture(scope="module")
def body():
    return load_body("open")


@pytest.fixture(scope="module")
def seen(body):
    return seen_person(body)


@pytest.fixture(scope="module")
def written(tmp_path_factory, seen):
    """One person of one batch."""
    made = tmp_path_factory.mktemp("huge100k")
    write_person(made, *seen)
    return made


@pytest.fixture
def folder(tmp_path, written):
    return Path(shutil.copytree(written, tmp_path, dirs_exist_ok=True))


@pytest.fixture(scope="module")
def mesh(body):
    return TemplateMesh.from_body(body)


def joints_of(mesh, person):
    """Where the joints of a body at the origin are.  # [55, 3] metres"""
    rotations = axis_angle_to_matrix(torch.from_numpy(person.pose)[None])
    return joint_transforms(mesh.joints[None], rotations, torch.zeros(1, 3))[1][0].double().numpy()


def pickled(folder):
    return folder / f"flux_batch1/images0/param/{NAME}.npy"


def parameters(folder):
    return pickled(folder).with_suffix(".npz")


def test_the_189_numbers_become_55_joints(tmp_path, seen):
    numbers = np.arange(189) / 1000
    write_person(tmp_path, *seen[:2], numbers)
    _, _, params, _ = read_huge100k(parameters(tmp_path))
    assert np.allclose(params.pose[0], numbers[4:7], atol=1e-6)  # after scale and transl
    assert np.allclose(params.pose[1:22].ravel(), numbers[7:70], atol=1e-6)
    assert np.allclose(params.betas, numbers[70:80], atol=1e-6)
    assert np.allclose(params.pose[22], numbers[170:173], atol=1e-6)  # jaw
    assert np.allclose(params.pose[25:40].ravel(), numbers[80:125], atol=1e-6)  # left hand
    assert np.allclose(params.pose[40:].ravel(), numbers[125:170], atol=1e-6)


def test_the_frontal_frame_comes_with_its_own_camera(folder, seen):
    frames, viewmats, _ = seen
    photo, mask, _, camera = read_huge100k(parameters(folder))
    assert np.abs(photo.astype(int) - frames[FRONTAL]).mean() < 6 < np.ptp(photo)
    assert np.allclose(camera.viewmat, viewmats[FRONTAL], atol=1e-6) and camera.K[0, 0] == 1120
    drawn = (frames[FRONTAL] < 250).any(-1)
    assert (mask ^ drawn).mean() < 0.01 and mask.sum() > 20_000


def test_the_front_is_the_body_s_own():
    turned = np.array([0, np.radians(60), 0])  # to its left, where frame 23 stands
    assert frontal_frame(orbit(), np.zeros(3)) == FRONTAL
    assert frontal_frame(orbit(), turned) == FRONTAL + 4
    with pytest.raises(CrowdGaussianError, match="nearest is 75 degrees"):
        frontal_frame(orbit()[:12], np.zeros(3))


def test_landmarks_are_found_on_the_body_and_catch_a_wrong_camera(folder, mesh, seen):
    """As the project read it until now: poses[0] with a frontal picture."""
    people, find = PeopleDataset(folder, mesh), landmark_finder()
    assert people.names == [f"flux_batch1/images0/{NAME}"] and people.published
    person = people[0]
    landmarks = find(person.photo, person.mask)
    assert misfit(person, landmarks) == "" and blank_head(person) == ""
    shoulder, knee = person.joints[16], person.joints[4]
    assert np.abs(landmarks[11] - shoulder).max() < 40 and np.abs(landmarks[25] - knee).max() < 30
    wrong = replace(person, joints=camera_of(seen[1][SIDE]).project(joints_of(mesh, person))[0])
    assert "not where" in misfit(wrong, landmarks)
    assert misfit(person, None) and misfit(person, np.full((33, 2), -1e6))
    mirrored = landmarks.copy()
    mirrored[:, 0] = WIDTH - mirrored[:, 0]  # left for right
    assert "not where" in misfit(person, mirrored)


def test_who_does_not_fit_is_refused_and_counted(folder, mesh, seen, tmp_path):
    frames, viewmats, numbers = seen
    sideways = [frames[SIDE]] * FRAMES  # what is in the frame is not what its camera sees
    write_person(folder, sideways, viewmats, numbers, "wrong pairing")
    broken = write_person(folder, frames[:1] * FRAMES, viewmats, numbers, "broken")
    (folder / "flux_batch1/images0/videos/broken.mp4").write_bytes(b"no video")
    job = TrainJob(
        PeopleDataset(folder, mesh),
        tmp_path / "out",
        LormTraining(people=1),
        None,
        landmark_finder(),
    )
    chosen = choose_people(job.people, job)
    assert chosen.names == [f"flux_batch1/images0/{NAME}"]
    assert chosen[0].keypoints.shape == (33, 2) and broken.is_file()
    about = json.loads((tmp_path / "out/people.json").read_text())
    assert set(about["refused"]) <= {
        "flux_batch1/images0/wrong pairing",
        "flux_batch1/images0/broken",
    }
    everybody = TrainJob(job.people, tmp_path / "all", LormTraining(), None, job.find)
    told = []
    assert choose_people(job.people, everybody, told.append).names == chosen.names
    assert told[-1].message == "1 chosen, 2 refused"
    why = json.loads((tmp_path / "all/people.json").read_text())["refused_why"]
    unseen = "the body is not where MediaPipe sees the person"
    assert why == {unseen: 1, "their files cannot be used": 1}
    again = TrainJob(job.people, job.out, job.config, None, lambda *_: 1 / 0)  # looks no more
    assert choose_people(job.people, again).names == chosen.names
    with pytest.raises(CrowdGaussianError, match="has 1 people who can be trained on, 2 were"):
        more = TrainJob(job.people, tmp_path / "more", LormTraining(people=2), None, job.find)
        choose_people(job.people, more)


def test_a_drawn_mask_counts_more_than_the_background(folder):
    masks = folder / "flux_batch1/images0/masks"
    masks.mkdir()
    drawn = np.zeros((896, 640), np.uint8)
    drawn[200:700, 200:400] = 255
    Image.fromarray(drawn).save(masks / f"{NAME}.png")
    assert (read_huge100k(parameters(folder))[1] == (drawn > 0)).all()


def test_a_busy_background_needs_a_mask():
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    with pytest.raises(CrowdGaussianError, match="not plain"):
        silhouette(noise)


def test_a_video_that_does_not_go_with_its_cameras(folder, seen):
    frames, viewmats, numbers = seen
    small = [np.full((64, 64, 3), 255, np.uint8)]
    write_person(folder, small * 25, viewmats, numbers)
    with pytest.raises(CrowdGaussianError, match="more frames where its parameters have 24"):
        read_huge100k(parameters(folder))
    write_person(folder, small * 24, viewmats, numbers)
    with pytest.raises(CrowdGaussianError, match="64 x 64 pixels, its camera is of"):
        read_huge100k(parameters(folder))
    video = folder / f"flux_batch1/images0/videos/{NAME}.mp4"
    video.write_bytes(b"no video")
    with pytest.raises(CrowdGaussianError, match="cannot be read as a video"):
        read_huge100k(parameters(folder))
    video.unlink()
    with pytest.raises(CrowdGaussianError, match="844.mp4 is missing"):
        read_huge100k(parameters(folder))


class Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_pickle_never_runs_code(folder, tmp_path):
    made = tmp_path / "made"
    np.save(pickled(folder), {"smpl_params": Touch(str(made))}, allow_pickle=True)
    with pytest.raises(ValueError, match=r"asks for (posix|nt|os)\.mkdir"):
        converter.convert(pickled(folder))
    assert not made.exists()


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\x00junk"])
def test_a_damaged_pickle_is_told(folder, content):
    pickled(folder).write_bytes(content)
    with pytest.raises(ValueError):
        converter.convert(pickled(folder))


def test_a_plain_array_is_told(folder):
    np.save(pickled(folder), np.zeros(189))
    with pytest.raises(ValueError, match="no dictionary"):
        converter.convert(pickled(folder))


def test_pickles_alone_are_not_read(folder, mesh):
    parameters(folder).unlink()
    with pytest.raises(CrowdGaussianError, match="huge100k_to_npz.py"):
        PeopleDataset(folder, mesh)


def test_other_arrays_are_told(folder):
    """What earlier versions of the script wrote, too: one camera."""
    np.savez(
        parameters(folder), smpl_params=np.zeros(189), viewmat=np.eye(4), intrinsics=np.ones(4)
    )
    with pytest.raises(CrowdGaussianError, match="viewmats"):
        read_huge100k(parameters(folder))
    parameters(folder).write_bytes(b"PK nothing")
    with pytest.raises(CrowdGaussianError, match="damaged"):
        read_huge100k(parameters(folder))
