# SPDX-License-Identifier: Apache-2.0
"""People that other programs found: their files are read and their bodies become ours."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from crowdgaussian.body.load import load_body
from crowdgaussian.core.progress import silent
from crowdgaussian.core.rotations import axis_angle_to_matrix
from crowdgaussian.people.external.formats import (
    SQUARE,
    camera_of_photo,
    read_multihmr,
    read_results,
)
from crowdgaussian.people.external.stage import CommandPeople, ResultPeople
from crowdgaussian.people.external.types import bodies_of
from crowdgaussian.people.fit.body_points import BodyPoints
from crowdgaussian.people.fit.convert import JOINTS, LANDMARKS
from crowdgaussian.people.types import PeopleConfig, other_program
from crowdgaussian.pipeline.config import configured, is_local
from crowdgaussian.pipeline.stages import files_for
from crowdgaussian_shared.errors import Cancelled, CrowdGaussianError
from crowdgaussian_shared.geometry.axes import SCENE_FROM_OPENCV
from crowdgaussian_shared.geometry.rotations import axis_angle_to_matrix as to_matrix
from crowdgaussian_shared.geometry.rotations import matrix_to_axis_angle

SAMPLE = os.environ.get("CROWDGAUSSIAN_MHR_SAMPLE", "")
HEIGHT, WIDTH = 720, 1280
K = np.array([[1100.0, 0, WIDTH / 2], [0, 1100.0, HEIGHT / 2], [0, 0, 1]])
ORDER = [*JOINTS, *LANDMARKS]


@pytest.fixture(scope="module")
def body():
    return load_body("open")


def standing_people(body, people=2):
    """Poses and places in OpenCV camera axes.  # [P, 55, 3], [P, 3]"""
    pose = np.zeros((people, 55, 3))
    pose[:, 16, 2], pose[:, 17, 2] = -1.1, 1.2  # arms down
    pose[:, 18, 1] = -0.6
    pose[:, 4, 0] = 0.3
    turned = to_matrix(np.array([[0.0, 0.3 * k - 0.2, 0.0] for k in range(people)]))
    pose[:, 0] = matrix_to_axis_angle(SCENE_FROM_OPENCV.T @ turned)
    places = np.array([[1.3 * k - 0.6, 0.1, 5.0 + 0.4 * k] for k in range(people)])
    return pose, places - body.joint_template[0].numpy()


def posed(body, pose, transl, scale=None):
    return body(
        torch.zeros(len(pose), body.num_betas),
        _float(pose),
        _float(transl),
        None if scale is None else _float(scale),
    )


def keypoints_of(body, output):
    """The body's own points in the layout of mhr70; unused ones lie at the neck.  # [P, 70, 3]"""
    joints, landmarks = output.joints.numpy(), body.landmarks(output).numpy()
    points = np.repeat(joints[:, 12:13], 70, axis=1)
    points[:, list(JOINTS)] = joints[:, list(JOINTS.values())]
    points[:, list(LANDMARKS)] = landmarks[:, list(LANDMARKS.values())]
    return points


def project(points, camera=K):
    flat = points @ camera.T
    return flat[..., :2] / flat[..., 2:]


def reprojection(body, start, keypoints, camera):
    """Mean distance of the fitted body's points from keypoints, pixels.  # [P]"""
    from crowdgaussian.people.fit.convert import _targets

    bodies = start.bodies
    rotations = torch.cat(
        [
            bodies.orientation[:, None],
            axis_angle_to_matrix(bodies.body_pose),
            axis_angle_to_matrix(start.hands),
        ],
        dim=1,
    )
    points = BodyPoints(body)(bodies.betas, rotations, bodies.pelvis, bodies.scale)
    own = _targets(body, _float(keypoints)).points(points, bodies.scale).numpy()
    apart = project(own @ SCENE_FROM_OPENCV, camera) - project(keypoints[:, ORDER], camera)
    return np.linalg.norm(apart, axis=2).mean(axis=1)


def save_sam3d(folder, keypoints, camera=K):
    for index, person in enumerate(keypoints):
        place = np.array([0.0, 0.0, 1.0])
        np.savez(
            folder / f"person{index}.npz",
            pred_keypoints_3d=person - place,
            pred_keypoints_2d=project(person, camera),
            pred_cam_t=place,
            mhr_model_params=np.zeros(204),
        )


def test_sam3d_body_people_become_ours_and_children_stay_children(body, tmp_path):
    pose, transl = standing_people(body)
    scale = np.array([1.0, 0.62])
    keypoints = keypoints_of(body, posed(body, pose, transl, scale)).astype(np.float64)
    save_sam3d(tmp_path, keypoints)
    found = read_results(tmp_path, (HEIGHT, WIDTH))
    assert np.allclose(found.K, K, atol=0.1)  # told by nothing but the keypoints
    assert np.allclose(found.keypoints, keypoints, atol=1e-6)
    start = bodies_of(found, body)
    assert reprojection(body, start, keypoints, found.K).max() < 5.0
    stature = body.stature(start.bodies.betas, start.bodies.scale).numpy()
    true = body.stature(torch.zeros(2, body.num_betas), _float(scale)).numpy()
    assert np.abs(stature / true - 1).max() < 0.06


@pytest.mark.skipif(
    not SAMPLE,
    reason="no public sample; set CROWDGAUSSIAN_MHR_SAMPLE to the folder "
    "sam3d_body_outputs of the public MHR repository",
)
def test_the_public_sample_reprojects(body):
    found = read_results(Path(SAMPLE), (890, 1920))
    assert len(found) == 4
    assert np.allclose(found.K, [[2535.3, 0, 960], [0, 2535.3, 445], [0, 0, 1]], atol=0.1)
    errors = reprojection(body, bodies_of(found, body), found.keypoints, found.K)
    assert errors.max() < 5.0


def test_prompthmr_people_keep_their_pose_and_place(body, tmp_path):
    pose, transl = standing_people(body)
    output = posed(body, pose, transl)
    square = K.copy()
    square[:2] *= SQUARE / WIDTH
    square[1, 2] += (SQUARE - HEIGHT * SQUARE / WIDTH) / 2
    torch.save(
        {
            "rotmat": _float(to_matrix(pose[:, :22])),
            "betas": torch.zeros(2, 10),
            "transl": _float(transl),
            "body_joints": output.joints[:, :25],
            "vertices": output.vertices,
            "pose": torch.zeros(2, 22 * 6),
            "cam_int": _float(square).expand(2, 3, 3),
        },
        tmp_path / "output.pt",
    )
    found = read_results(tmp_path, (HEIGHT, WIDTH))
    assert np.allclose(found.K, K, atol=1e-3)
    start = bodies_of(found, body)
    limbs = _float(to_matrix(pose[:, 1:22]))
    turned = axis_angle_to_matrix(start.bodies.body_pose).transpose(2, 3) @ limbs
    angle = ((turned.diagonal(dim1=2, dim2=3).sum(-1) - 1) / 2).clamp(-1, 1).acos()
    assert float(angle.max()) < np.radians(3)
    pelvis = output.joints[:, 0].numpy() @ SCENE_FROM_OPENCV.T
    assert np.abs(start.bodies.pelvis.numpy() - pelvis).max() < 0.01


def test_the_square_camera_becomes_the_photo_s_for_tall_photos_too():
    tall = np.array([[900.0, 0, 300], [0, 900.0, 500], [0, 0, 1]])
    scale = SQUARE / 1000
    square = np.array([[900 * scale, 0, SQUARE / 2], [0, 900 * scale, SQUARE / 2], [0, 0, 1]])
    assert np.allclose(camera_of_photo(square, (1000, 600)), tall)


def test_multihmr_people_have_hands_and_jaw(tmp_path):
    rotvec = torch.arange(53 * 3).reshape(53, 3) / 100
    human = {
        "rotvec": rotvec,
        "shape": torch.zeros(10),
        "scores": torch.tensor(0.8),
        "transl_pelvis": torch.tensor([[0.1, 0.2, 3.0]]),
        "j3d": torch.ones(127, 3),
    }
    found = read_multihmr([human], tmp_path / "humans.pt")
    assert np.allclose(found.pose[0, 22], rotvec[52])  # the jaw comes last in theirs
    assert np.allclose(found.pose[0, 25:55], rotvec[22:52])
    assert (found.pose[0, 23:25] == 0).all() and found.scores[0] == pytest.approx(0.8)


def test_lhm_json_people(tmp_path):
    frame = {
        "root_pose": [3.1, 0, 0],
        "body_pose": [[0.1, 0, 0]] * 21,
        "jaw_pose": [0, 0, 0],
        "lhand_pose": [[0, 0, 0.2]] * 15,
        "rhand_pose": [[0, 0, -0.2]] * 15,
        "trans": [0.2, 0.1, 4.0],
        "betas": [0.0] * 10,
        "focal": [900, 900],
        "princpt": [320, 240],
        "img_size_wh": [640, 480],
    }
    for index in range(2):
        (tmp_path / f"{index}.json").write_text(json.dumps(frame))
    found = read_results(tmp_path, (480, 640))
    assert len(found) == 2 and found.K[0, 0] == 900
    assert np.allclose(found.pose[1, 25:40, 2], 0.2)
    assert np.allclose(found.transl[0], frame["trans"])


def test_a_command_finds_the_people_of_a_run(body, tmp_path):
    pose, transl = standing_people(body)
    joints = posed(body, pose, transl).joints[:, :22].numpy()
    np.savez(tmp_path / "made.npz", K=K, pose=pose[::-1], transl=transl[::-1], joints=joints[::-1])
    script = tmp_path / "estimator.py"
    script.write_text(
        "import shutil, sys\nfrom PIL import Image\n"
        f"assert Image.open(sys.argv[1]).size == ({WIDTH}, {HEIGHT})\n"
        f"shutil.copy({str(tmp_path / 'made.npz')!r}, sys.argv[2] + '/people.npz')\n"
    )
    config = PeopleConfig(command=f"{sys.executable} {script} {{photo}} {{out}}", ground_steps=20)
    crowd = CommandPeople(config, body).estimate(
        np.zeros((HEIGHT, WIDTH, 3), np.uint8), None, silent
    )
    assert len(crowd.people) == 2 and crowd.focal_source == "people"
    assert np.allclose(crowd.camera.K, K)
    seen = [person.transl[0] for person in crowd.people]
    assert seen == sorted(seen)  # left to right, whatever the program's order
    pixels = np.array([person.keypoints.xy[[23, 24]].mean(axis=0) for person in crowd.people])
    assert np.abs(pixels - project(joints[:, [1, 2]].mean(axis=1))).max() < 15


@pytest.mark.parametrize(
    "command, sentence",
    [
        ("", "needs people.command"),
        ("python estimator.py", "must name {photo} and {out}"),
        ('python "unfinished {photo} {out}', "cannot be read"),
    ],
)
def test_commands_that_cannot_be(body, command, sentence):
    with pytest.raises(CrowdGaussianError, match=sentence):
        CommandPeople(PeopleConfig(command=command), body)


@pytest.mark.parametrize(
    "code, seconds, sentence",
    [
        ("import sys; sys.exit('no weights here')", 30, "code 1: no weights here"),
        ("import time; time.sleep(30)", 0.3, "took longer than"),
        ("pass", 30, "holds no people that can be read"),
        ("import sys; open(sys.argv[2] + '/people.npz', 'wb').write(b'PK')", 30, "damaged"),
    ],
)
def test_commands_that_fail(body, tmp_path, code, seconds, sentence):
    script = tmp_path / "estimator.py"
    script.write_text(code)
    config = PeopleConfig(
        command=f"{sys.executable} {script} {{photo}} {{out}}", command_seconds=seconds
    )
    with pytest.raises(CrowdGaussianError, match=sentence):
        CommandPeople(config, body).estimate(np.zeros((64, 64, 3), np.uint8), None, silent)


def test_a_command_that_is_not_there(body):
    with pytest.raises(CrowdGaussianError, match="cannot be started"):
        CommandPeople(PeopleConfig(command="no-such-program {photo} {out}"), body).estimate(
            np.zeros((64, 64, 3), np.uint8), None, silent
        )


def test_stopping_a_run_stops_the_command(body, tmp_path):
    script, sign = tmp_path / "estimator.py", tmp_path / "finished"
    script.write_text(f"import time; time.sleep(2); open({str(sign)!r}, 'w')")
    config = PeopleConfig(command=f"{sys.executable} {script} {{photo}} {{out}}")

    def stop(step):
        raise Cancelled

    with pytest.raises(Cancelled):
        CommandPeople(config, body).estimate(np.zeros((64, 64, 3), np.uint8), None, stop)
    assert not sign.exists()


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"pose": np.zeros((2, 52, 3))}, "pose is 2 x 52 x 3, it must be any x 55 x 3"),
        ({"transl": np.full((2, 3), np.nan)}, "not finite"),
        ({"transl": np.array([[0, 0, 4.0], [0, 0, -4.0]])}, "person 1 is not in front"),
        ({"transl": np.zeros((3, 3))}, "transl tells of 3 people"),
        ({"pose": np.zeros((0, 55, 3)), "transl": np.zeros((0, 3))}, "holds nobody"),
        ({"K": np.eye(4)}, "K is 4 x 4"),
        ({"pose": None}, "neither pose nor keypoints"),
        ({"scores": np.array(["a", "b"])}, "scores must hold numbers"),
    ],
)
def test_files_that_cannot_be(tmp_path, change, sentence):
    arrays = {"K": K, "pose": np.zeros((2, 55, 3)), "transl": np.full((2, 3), 4.0)} | change
    np.savez(tmp_path / "people.npz", **{n: a for n, a in arrays.items() if a is not None})
    with pytest.raises(CrowdGaussianError, match=sentence):
        read_results(tmp_path, (HEIGHT, WIDTH))


def test_keypoints_of_two_cameras_are_no_result(body, tmp_path):
    pose, transl = standing_people(body)
    keypoints = keypoints_of(body, posed(body, pose, transl)).astype(np.float64)
    save_sam3d(tmp_path, keypoints)
    broken = dict(np.load(tmp_path / "person1.npz"))
    broken["pred_keypoints_2d"] = broken["pred_keypoints_2d"][::-1]
    np.savez(tmp_path / "person1.npz", **broken)
    with pytest.raises(CrowdGaussianError, match="do not belong to one camera"):
        read_results(tmp_path, (HEIGHT, WIDTH))


def test_python_objects_are_never_read(tmp_path):
    torch.save({"rotmat": Path("x")}, tmp_path / "output.pt")
    with pytest.raises(CrowdGaussianError, match="holds Python objects"):
        read_results(tmp_path, (HEIGHT, WIDTH))
    (tmp_path / "output.pt").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(CrowdGaussianError, match="cannot be read as a file of torch.save"):
        read_results(tmp_path, (HEIGHT, WIDTH))


def test_results_that_are_not_there(body):
    with pytest.raises(CrowdGaussianError, match="needs people.results"):
        ResultPeople(PeopleConfig(), body)
    with pytest.raises(CrowdGaussianError, match="cannot be read"):
        ResultPeople(PeopleConfig(results="/no/such/folder"), body).estimate(
            np.zeros((64, 64, 3), np.uint8), None, silent
        )


def test_the_licence_of_people_from_elsewhere():
    unknown = other_program(PeopleConfig())[0].provenance()
    assert not unknown.commercial
    told = other_program(PeopleConfig(program="prompthmr"))[0].provenance()
    assert told.name == "prompthmr" and not told.commercial and told.licence
    with pytest.raises(CrowdGaussianError, match="weights list"):
        other_program(PeopleConfig(program="nobody"))
    config = configured("open", {"stages.people": "results", "people.results": "x"})
    assert any(not file.provenance().commercial for file in files_for(config))


def test_clients_choose_no_files_or_programs_of_the_server():
    config = configured("open", {})
    assert all(
        is_local(config, name)
        for name in ("people.command", "people.results", "people.multihmr", "people.smplx")
    )
    assert not any(
        is_local(config, name)
        for name in ("photo.focal", "people.boxes", "stages.people", "people.max_people")
    )


def _float(array):
    return torch.as_tensor(np.asarray(array), dtype=torch.float32)
