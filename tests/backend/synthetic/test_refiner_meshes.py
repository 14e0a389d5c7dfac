# SPDX-License-Identifier: Apache-2.0
"""Scans in THuman2.1's layout: written here with the open body, read, placed, seen; bad input."""

import importlib
import json
import os
import pickle
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from _support.lorm_small import small_lorm_settings
from _support.refiner_made_up import write_stable_diffusion
from _support.scans_made_up import BODY, BOTTOM, TOP, UNITS, add_person
from crowdgaussian.body.model import pose_body
from crowdgaussian.cli.main import main
from crowdgaussian.evaluate.subjects import joints_in_image, read_subjects
from crowdgaussian.synthetic.scans import (
    ColouredMesh,
    MeshPeople,
    body_of,
    read_parameters,
    simplified,
)
from crowdgaussian.synthetic.scenes import compose, made_up_actor, moved_body, turned_to_front
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.formats.npz import write_npz
from crowdgaussian_shared.geometry.rotations import axis_angle_to_matrix
from PIL import Image
from scipy.spatial import ConvexHull, cKDTree

sys.path.append(str(Path(__file__).resolve().parents[3] / "scripts"))
sys.path.append(str(Path(__file__).resolve().parents[3] / "benchmarks"))
converter = importlib.import_module("thuman_to_npz")
table3 = importlib.import_module("refiner_table3")


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scans")
    return folder, {name: add_person(folder, name) for name in UNITS}


@pytest.mark.parametrize("name", UNITS)
def test_scans_stand_upright_in_metres_with_their_bodies_in_them(scans, name):
    folder, points = scans
    actor = MeshPeople(folder, BODY).person(name)
    assert abs(actor.vertices[:, 1].min()) < 1e-6
    assert np.ptp(actor.vertices[:, 1]) == pytest.approx(np.ptp(points[name][:, 1]), abs=1e-3)
    assert cKDTree(actor.vertices).query(actor.body_vertices)[0].max() < 2e-3
    posed = pose_body(BODY, actor.params)
    assert np.allclose(posed.pose_points(posed.rest), actor.body_vertices, atol=1e-5)


def test_faces_have_the_colours_of_the_texture(scans):
    actor = MeshPeople(scans[0], BODY).person("0001")
    corners = actor.vertices[actor.faces]
    assert np.linalg.norm(corners - np.roll(corners, 1, 1), axis=2).max() < 0.021
    middle = corners[:, :, 1].mean(1) / actor.vertices[:, 1].max()
    for part, colour in ((middle > 0.55, TOP), (middle < 0.45, BOTTOM)):
        assert np.abs(actor.face_colours[part] * 255 - colour).max() < 12


def test_a_fine_mesh_is_simplified_and_keeps_its_place_and_colours(scans):
    actor = MeshPeople(scans[0], BODY).person("0001")
    whole = ColouredMesh(actor.vertices, actor.faces, actor.face_colours)
    fewer = simplified(whole, 5000)
    assert 2500 < len(fewer.faces) < 7500
    assert cKDTree(whole.vertices).query(fewer.vertices)[0].max() < 0.03
    middle = fewer.vertices[fewer.faces][:, :, 1].mean(1) / fewer.vertices[:, 1].max()
    assert np.abs(fewer.colours[middle > 0.6] * 255 - TOP).max() < 12
    assert simplified(whole, len(whole.faces)) is whole


def inside(one, other):
    """How many points of one lie in the other, made convex in bands of 4 cm of height."""
    count = 0
    for low in np.arange(0, 2.2, 0.04):
        bands = [
            points[(points[:, 1] >= low) & (points[:, 1] < low + 0.04)][:, [0, 2]]
            for points in (one, other)
        ]
        if len(bands[0]) and len(bands[1]) > 3:
            hull = ConvexHull(bands[1]).equations  # [H, 3]
            count += int((bands[0] @ hull[:, :2].T + hull[:, 2] < 0).all(1).sum())
    return count


@pytest.mark.parametrize("kind", ["scanned", "made up"])
def test_people_do_not_touch_or_go_through_one_another(scans, kind):
    draw = MeshPeople(scans[0], BODY) if kind == "scanned" else lambda r: made_up_actor(BODY, r)
    scene = compose(draw, (4, 4), np.random.default_rng(1))
    people = [each.points(each.actor.vertices) for each in scene.people]
    for k, one in enumerate(people):
        for other in people[k + 1 :]:
            near = cKDTree(one).query(other[::4], distance_upper_bound=0.015)[0]
            assert np.isinf(near).all() and not inside(one, other)
    assert inside(one[::4], one + 0.05)


def test_scenes_of_scans_from_the_command_line(scans, tmp_path, capsys):
    given = [
        "data",
        "crowd-scenes",
        str(tmp_path / "out"),
        "--meshes",
        str(scans[0]),
        "--scenes",
        "1",
        "--views",
        "2",
        "--size",
        "48",
        "--fewest",
        "2",
        "--most",
        "2",
    ]
    assert main(given) == 0
    truth = np.asarray(Image.open(tmp_path / "out/scene_0000/truth/000.png"))
    solid = truth[truth[..., 3] == 255][:, :3].astype(int)
    red = np.abs(solid - TOP).max(1) < 20
    blue = np.abs(solid - BOTTOM).max(1) < 20
    assert red.any() and blue.any() and (red | blue).mean() > 0.7
    assert main(given[:3] + given[5:]) == 2
    assert "other settings" in capsys.readouterr().err


def test_table_3_by_the_paper_s_preset_at_a_small_size(scans, tmp_path, capsys, monkeypatch):
    """Scans, LORM's renders, SD-Turbo's layout: every command of the docs, from scenes to table."""
    made = ["data", "crowd-scenes", str(tmp_path / "none"), "--preset", "paper"]
    assert main(made) == 2 and "needs --meshes FOLDER" in capsys.readouterr().err
    assert main([*made, "--meshes", str(scans[0])]) == 2
    assert "needs --set lorm.adapters=FILE" in capsys.readouterr().err
    write_stable_diffusion(tmp_path / "sd")
    data = [f"--meshes={scans[0]}", *(f"--set={each}" for each in small_lorm_settings(tmp_path))]
    data += "--test=1 --views=2 --size=48 --fewest=1 --most=1".split()
    train = [f"--base={tmp_path / 'sd'}", "--without-vgg", "--crop=32"]
    options = [f"--data={each}" for each in data] + [f"--train={each}" for each in train]
    given = [str(tmp_path / "out"), "--preset", "paper", "--scenes", "2", "--steps", "1", *options]
    monkeypatch.setattr(sys, "argv", ["refiner_table3.py", *given])
    monkeypatch.setattr(table3, "crowdgaussian", lambda *words: None if main(words) == 0 else 1 / 0)
    table3.main()
    files = [tmp_path / f"out/scenes/scene_{k:04d}/scene.json" for k in (0, 1)]
    about = [json.loads(file.read_text()) for file in files]
    assert [scene["split"] for scene in about] == ["train", "test"]
    assert {scene["coarse"] for scene in about} == {"lorm"}
    assert about[0]["settings"]["test"] == "1 of 2"
    for row in table3.ROWS:
        refiner = json.loads((tmp_path / f"out/{row}/refiner/refiner.json").read_text())
        assert refiner["config"]["skips"] and refiner["config"]["alpha"] == 8
        assert refiner["config"]["normals"] == ("normals" in row)
        assert refiner["facts"]["losses"] == "4 x L2, 0.2 x SSIM; trained without VGG16"
        assert (refiner["facts"]["self-calibrated learning"] == "off") == ("scl" not in row)
    report = (tmp_path / "out/table3/report.md").read_text()
    assert "2 views of 1 scenes" in report
    assert all(f"| {row} |" in report for row in ("coarse", *table3.ROWS))


def test_who_is_tested_was_not_trained_on_and_nobody_is_there_twice(scans):
    people = MeshPeople(scans[0], BODY)
    people.names = [f"{k:04d}" for k in range(10)]
    people.person = {name: SimpleNamespace(name=name) for name in people.names}.__getitem__
    rng = np.random.default_rng(0)
    train, test = ({draw(rng).name for _ in range(200)} for draw in people.split())
    assert test == {"0004", "0009"} and train == set(people.names) - test
    scene = compose(MeshPeople(scans[0], BODY), (2, 2), rng)
    assert scene.people[0].actor is not scene.people[1].actor


def copy_of(scans, tmp_path):
    return Path(shutil.copytree(scans[0], tmp_path / "copy"))


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda f: (f / "scans/0002/material0.jpeg").unlink(), "Person 0002.*no texture"),
        (lambda f: (f / "scans/0002/0002.obj").write_text("f 1 2 nothing"), "Person 0002.*mesh"),
        (lambda f: (f / "fits/0002/open_param.npz").write_bytes(b"x"), "Person 0002.*damaged"),
        (lambda f: (f / "fits/0002/open_param.npz").unlink(), "Person 0002.*no open_param"),
        (
            lambda f: (f / "fits/0001/open_param.npz").replace(f / "fits/0002/open_param.npz"),
            "Person 0001",
        ),
    ],
)
def test_bad_input_names_the_person(scans, tmp_path, harm, words):
    folder = copy_of(scans, tmp_path)
    harm(folder)
    with pytest.raises(CrowdGaussianError, match=words):
        MeshPeople(folder, BODY).person("0002")


def test_parameters_of_somebody_else_are_noticed(scans, tmp_path):
    folder = copy_of(scans, tmp_path)
    values = dict(np.load(folder / "fits/0001/open_param.npz"))
    values["transl"] = values["transl"] + 0.5
    write_npz(folder / "fits/0001/open_param.npz", values)
    with pytest.raises(CrowdGaussianError, match="Person 0001.*away from the scan"):
        MeshPeople(folder, BODY).person("0001")


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(CrowdGaussianError, match="0001/0001.obj"):
        body_of(tmp_path)
    (tmp_path / "0001").mkdir()
    (tmp_path / "0001/smplx_param.pkl").write_bytes(b"")
    with pytest.raises(CrowdGaussianError, match="thuman_to_npz.py"):
        body_of(tmp_path)


def test_smplx_people_need_the_users_body(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("crowdgaussian.weights.local_path", lambda name: None)
    (tmp_path / "0001").mkdir()
    (tmp_path / "0001/smplx_param.npz").write_bytes(b"")
    assert main(["data", "crowd-scenes", str(tmp_path / "out"), "--meshes", str(tmp_path)]) == 2
    assert "--body SMPLX_MALE.npz" in capsys.readouterr().err


def pickled(folder, **changes):
    rng = np.random.default_rng(0)
    sizes = {
        "global_orient": 3,
        "body_pose": 63,
        "jaw_pose": 3,
        "leye_pose": 3,
        "reye_pose": 3,
        "left_hand_pose": 12,
        "right_hand_pose": 12,
        "betas": 10,
        "expression": 10,
    }
    values = {name: rng.normal(size=(1, size)).astype(np.float32) for name, size in sizes.items()}
    values |= {"scale": np.array([0.5], np.float32), "translation": np.array([0.1, 0.2, 0.3])}
    path = folder / "smplx_param.pkl"
    path.write_bytes(pickle.dumps({**values, **changes}, protocol=2))
    return path, values


def test_pickles_become_arrays_and_hands_full_poses(tmp_path):
    path, values = pickled(tmp_path)
    hands = {side: (np.full(45, k), np.eye(45)) for k, side in enumerate("lr")}
    body, unit = read_parameters(converter.convert(path), SimpleNamespace(num_betas=10), hands)
    assert unit == 2 and np.allclose(body.transl, [0.2, 0.4, 0.6])
    assert np.allclose(body.pose[1:22].ravel(), values["body_pose"])
    assert np.allclose(body.pose[25:29].ravel(), values["left_hand_pose"])
    assert np.allclose(body.pose[40:44].ravel(), 1 + values["right_hand_pose"])
    assert (body.pose[44:] == 1).all() and np.allclose(body.betas, values["betas"])


class Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_pickle_of_scans_never_runs_code(tmp_path):
    made = tmp_path / "made"
    path, _ = pickled(tmp_path, jaw_pose=Touch(str(made)))
    with pytest.raises(ValueError, match=r"asks for (posix|nt|os)\.mkdir"):
        converter.convert(path)
    assert not made.exists()
    with pytest.raises(ValueError, match="left_hand_pose"):
        converter.convert(pickled(tmp_path, left_hand_pose=np.zeros(7))[0])


def test_whoever_looks_elsewhere_is_turned_to_the_front(scans):
    actor = MeshPeople(scans[0], BODY).person("0001")
    turn = axis_angle_to_matrix(np.array([0, 2.0, 0]))
    elsewhere = replace(
        actor,
        vertices=actor.vertices @ turn.T,
        params=moved_body(BODY, actor.params, turn, np.zeros(3)),
        body_vertices=actor.body_vertices @ turn.T,
    )
    found, wanted = turned_to_front(elsewhere), turned_to_front(actor)
    assert np.allclose(found.vertices, wanted.vertices, atol=1e-5)
    posed = pose_body(BODY, found.params)
    assert np.allclose(posed.pose_points(posed.rest), found.body_vertices, atol=1e-5)
    front = axis_angle_to_matrix(found.params.pose[0].astype(float))[:, 2]
    assert abs(front[0]) < 1e-6 < front[2]


def test_scans_become_an_evaluation_that_goes_on_and_leaves_out_who_is_broken(
    scans, tmp_path, capsys
):
    """`data thuman-eval` on a folder of which two scans cannot be used, then `evaluate inputs`."""
    folder = Path(shutil.copytree(scans[0], tmp_path / "scans"))
    for name in ("0003", "0004"):
        shutil.copytree(folder / "scans/0001", folder / "scans" / name)
        (folder / f"scans/{name}/0001.obj").rename(folder / f"scans/{name}/{name}.obj")
    shutil.copytree(folder / "fits/0001", folder / "fits/0004")
    texture = folder / "scans/0004/material0.jpeg"
    texture.write_bytes(texture.read_bytes()[:200])
    out = tmp_path / "out"
    command = ["data", "thuman-eval", str(folder), "-o", str(out), "--size", "48"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "2 people in" in said and "2 left out" in said
    assert "Person 0003 of" in said and "has no open_param.npz" in said and "Person 0004" in said
    found = read_subjects(out)
    assert [subject.name for subject in found] == ["0001", "0002"]
    for subject in found:
        colour, mask = subject.truth
        assert colour.shape == (24, 48, 48, 3) and 0.02 < mask.float().mean() < 0.3
        joints = joints_in_image(subject, BODY)
        assert subject.photo.shape == (96, 96, 3) and joints[16, 0] > joints[17, 0]  # faces us
        assert subject.mask[tuple(joints[0, ::-1].astype(int))]  # the pelvis is on the person
        red = subject.photo[..., 0].astype(int) - subject.photo[..., 2]
        assert red[int(joints[15, 1]), int(joints[15, 0])] > 80  # the head, with its texture
    shutil.rmtree(out / "0002")
    kept = (out / "0001/person.json").stat().st_mtime_ns
    (tmp_path / "names.txt").write_text("0001\n0002\n")
    assert main([*command, "--list", str(tmp_path / "names.txt")]) == 0
    assert (out / "0001/person.json").stat().st_mtime_ns == kept and (out / "0002").is_dir()
    assert "2 people in" in capsys.readouterr().out
    inputs = ["evaluate", "inputs", str(out), "-o", str(tmp_path / "in"), "--occlusion", "random"]
    assert main(inputs) == 0 and len(list((tmp_path / "in").iterdir())) == 4
    (tmp_path / "names.txt").write_text("0007\n")
    assert main([*command, "--list", str(tmp_path / "names.txt")]) == 2
    assert "no scan named 0007" in capsys.readouterr().err
    assert main([*command, "--count", "0"]) == 2 and "at least one" in capsys.readouterr().err
