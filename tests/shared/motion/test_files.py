# SPDX-License-Identifier: Apache-2.0
"""Motion files: every way to name the fields, round trips, and files that are broken."""

import io
import re
import zipfile

import numpy as np
import pytest
from _support.made_up_motion import CMU_UNIT, FPS, cmu_walk, walk_poses
from _support.motions import degrees_between, smooth, write_lhm
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX
from crowdgaussian_shared.motion.bvh import write_motion_bvh
from crowdgaussian_shared.motion.kinematics import (
    ADULT_SOLE,
    adult_joints,
    global_turns,
    joint_paths,
)
from crowdgaussian_shared.motion.motion import Motion
from crowdgaussian_shared.motion.npz import write_motion_npz
from crowdgaussian_shared.motion.read import ReadOptions, read_motion

Z_UP = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])


def standing(frames=6):
    """Somebody upright with all 55 joints bent a little."""
    poses = np.random.default_rng(0).normal(0, 0.3, (frames, 55, 3))
    poses[:, :3] *= 0.2
    return poses, np.random.default_rng(1).normal(0, 1, (frames, 3))


def fields(poses):
    flat = poses.reshape(len(poses), -1)
    return {
        "root": flat[:, :3], "body": flat[:, 3:66], "jaw": flat[:, 66:69], "eyes": flat[:, 69:75],
        "hands": flat[:, 75:], "left": flat[:, 75:120], "right": flat[:, 120:],
    }  # fmt: skip


def variants():
    poses, transl = standing()
    f = fields(poses)
    n = len(poses)
    whole = {"poses": poses.reshape(n, -1), "trans": transl, "mocap_frame_rate": 25.0}
    yield "amass-x", whole, 55
    amass = {"root_orient": f["root"], "pose_body": f["body"], "pose_hand": f["hands"],
             "pose_jaw": f["jaw"], "pose_eye": f["eyes"], "trans": transl,
             "mocap_framerate": np.int64(25)}  # fmt: skip
    yield "amass-parts", amass, 55
    smplx = {"global_orient": f["root"], "body_pose": f["body"].reshape(n, 21, 3),
             "left_hand_pose": f["left"], "right_hand_pose": f["right"], "jaw_pose": f["jaw"],
             "leye_pose": f["eyes"][:, :3], "reye_pose": f["eyes"][:, 3:],
             "transl": transl[:, None], "fps": np.array([25])}  # fmt: skip
    yield "smplx", smplx, 55
    h = [*range(22), *range(25, 55)]
    yield "smplh", {"poses": poses[:, h].reshape(n, -1), "translation": transl, "fps": 25}, 52
    yield "smpl", {"poses": poses[:, :24].reshape(n, -1), "trans": transl, "fps": 25}, 22
    yield "body", {"poses": poses[:, :22], "trans": transl, "framerate": 25}, 22
    matrices = {"poses": axis_angle_to_matrix(poses), "trans": transl, "fps": 25}
    yield "matrices", matrices, 55


@pytest.mark.parametrize("name, arrays, joints", list(variants()), ids=lambda v: str(v)[:12])
@pytest.mark.parametrize("up", ["y", "z"])
def test_every_way_to_name_the_fields(tmp_path, name, arrays, joints, up):
    poses, transl = standing()
    if up == "z":
        arrays = turned_fields(arrays)
    strange = {"gender": np.array(b"male"), "labels": np.array([{}], dtype=object)}
    np.savez(tmp_path / "motion.npz", **arrays, **strange)
    motion = read_motion(tmp_path / "motion.npz")
    assert motion.fps == 25 and motion.name == "motion"
    kept = [*range(22), *(range(22, 55) if joints == 55 else range(25, 25 + joints - 22))]
    assert degrees_between(motion.poses[:, kept], poses[:, kept]) < 1e-3
    assert not np.delete(motion.poses, kept, axis=1).any()
    np.testing.assert_allclose(motion.transl, transl, atol=1e-9)


def turned_fields(arrays):
    """The same file in AMASS's world."""
    arrays = dict(arrays)
    root = next(n for n in ("poses", "root_orient", "global_orient") if n in arrays)
    value = np.array(arrays[root])
    if value.ndim == 4:
        value[:, 0] = Z_UP @ value[:, 0]
    else:
        rows = value.reshape(len(value), -1)
        rows[:, :3] = matrix_to_axis_angle(Z_UP @ axis_angle_to_matrix(rows[:, :3]))
    arrays[root] = value
    place = next(n for n in ("trans", "transl", "translation") if n in arrays)
    arrays[place] = arrays[place] @ Z_UP.T
    return arrays


def test_hands_as_coefficients_are_left_out_with_a_note(tmp_path):
    poses, transl = standing()
    f = fields(poses)
    np.savez(tmp_path / "m.npz", root_orient=f["root"], pose_body=f["body"], trans=transl,
             pose_hand=np.zeros((len(poses), 24)))  # fmt: skip
    motion = read_motion(tmp_path / "m.npz")
    assert not motion.poses[:, 25:].any()
    assert any("PCA" in note for note in motion.notes)
    assert any("frame rate" in note for note in motion.notes)
    assert read_motion(tmp_path / "m.npz", ReadOptions(fps=50.0)).fps == 50


@pytest.mark.parametrize("write, ending", [(write_motion_npz, "npz"), (write_motion_bvh, "bvh")])
def test_round_trip_to_a_tenth_of_a_degree(tmp_path, write, ending):
    """Any pose, even lying or upside down, on any body."""
    rng = np.random.default_rng(3)
    motion = Motion("any", 24.0, rng.normal(0, 1.2, (20, 55, 3)), rng.normal(0, 2, (20, 3)))
    motion.poses[0, 0] = (np.pi / 2, 0, 0)
    motion.poses[1] = 0
    motion.poses[2, :, 1:] = 0  # Euler angles lock
    motion.poses[2, :, 0] = np.pi / 2
    rest = adult_joints() * 0.8 + rng.normal(0, 0.01, (55, 3))
    path = tmp_path / f"any.{ending}"
    write(path, motion, rest)
    back = read_motion(path)
    assert degrees_between(back.poses, motion.poses) < 0.1 and back.fps == 24
    way = back.transl - back.transl[0] - (motion.transl - motion.transl[0])
    assert np.abs(way).max() < 1e-4
    assert abs(back.leg / 0.8 - 0.786) < 0.02
    write(tmp_path / f"again.{ending}", motion, rest)
    assert path.read_bytes() == (tmp_path / f"again.{ending}").read_bytes()


MIXAMO = {"LHipJoint": "LHip", "LowerBack": "Spine", "Spine": "Spine1", "Spine1": "Spine2"}


@pytest.mark.parametrize("names", [
    lambda n: n, lambda n: "mixamorig:" + MIXAMO.get(n, n), lambda n: "Rokoko:" + n.upper(),
])  # fmt: skip
def test_cmu_and_mixamo_are_put_on_the_body(tmp_path, names):
    text, walk = cmu_walk(names, seconds=2.0)
    (tmp_path / "w.bvh").write_text(text)
    motion = read_motion(tmp_path / "w.bvh")
    assert abs(motion.fps - FPS) < 1e-6 and motion.frames == len(walk.hip)
    assert abs(motion.leg - 14.85 * CMU_UNIT) < 0.05
    places = joint_paths(adult_joints(), global_turns(motion.poses), motion.transl)
    for side in (0, 1):  # legs swing as in the source, though its rest has them apart
        thigh = places[:, 4 + side] - places[:, 1 + side]
        shin = places[:, 7 + side] - places[:, 4 + side]
        for bone, angles in ((thigh, walk.hip), (shin, walk.knee)):
            swing = np.arctan2(bone[:, 2], -bone[:, 1])
            assert np.degrees(np.abs(swing + angles[:, side]).max()) < 0.5
            assert np.degrees(np.abs(np.arctan2(bone[:, 0], -bone[:, 1])).max()) < 0.5
    arm = places[:, JOINT_INDEX["left_wrist"]] - places[:, JOINT_INDEX["left_shoulder"]]
    assert (arm[:, 1] < -0.9 * np.linalg.norm(arm, axis=1)).all()  # hangs, though it rests at 45
    np.testing.assert_allclose(motion.poses[:, 0], 0, atol=1e-6)


@pytest.mark.parametrize("rewrite", [
    lambda text: b"\xef\xbb\xbf" + text.encode(),
    lambda text: text.encode("utf-16"),
    lambda text: re.sub(r"(?<=\d)\.(?=\d)", ",", text).encode(),
    lambda text: re.sub(r"(?<=\d) (?=-?\d)", ", ", text).encode(),
    lambda text: text.replace("Frames:", "Frames").encode(),
], ids=["bom", "utf16", "decimal commas", "commas between", "no colon"])  # fmt: skip
def test_the_same_bvh_in_other_letters(tmp_path, rewrite):
    text, _ = cmu_walk(seconds=0.5)
    (tmp_path / "w.bvh").write_text(text)
    (tmp_path / "x.bvh").write_bytes(rewrite(text))
    plain, other = (read_motion(tmp_path / name) for name in ("w.bvh", "x.bvh"))
    np.testing.assert_array_equal(other.poses, plain.poses)
    np.testing.assert_array_equal(other.transl, plain.transl)


@pytest.mark.parametrize("unit, factor", [("metres", 0.0564), ("inches", 2.22), ("cm", 5.64)])
def test_units_do_not_matter(tmp_path, unit, factor):
    text, walk = cmu_walk(seconds=0.5)
    head, rows = text.split("Frame Time:")
    lines = [f"{' '.join(scaled(line, factor))}" for line in head.splitlines()]
    motion_lines = rows.splitlines()
    values = np.array([row.split() for row in motion_lines[1:]], float)
    values[:, :3] *= factor
    body = "\n".join(" ".join(f"{v:.6f}" for v in row) for row in values)
    lines += ["Frame Time:" + motion_lines[0], body]
    (tmp_path / "u.bvh").write_text("\n".join(lines))
    motion = read_motion(tmp_path / "u.bvh")
    assert abs(motion.leg - 14.85 * 0.0564) < 0.06
    way = motion.transl[-1] - motion.transl[0]
    assert abs(way[2] - (walk.pelvis[-1, 1] - walk.pelvis[0, 1])) < 0.04


def scaled(line, factor):
    words = line.split()
    if words[:1] == ["OFFSET"]:
        return ["OFFSET", *(f"{float(w) * factor:.6f}" for w in words[1:])]
    return words


def test_lhm_folders(tmp_path):
    poses, transl, _ = walk_poses(adult_joints(), ADULT_SOLE, seconds=0.4)
    folder = write_lhm(tmp_path / "dance", poses, transl)
    motion = read_motion(folder)
    assert motion.name == "dance" and motion.fps == 30
    assert degrees_between(motion.poses, poses) < 1e-3
    np.testing.assert_allclose(motion.transl - motion.transl[0], transl - transl[0], atol=1e-9)
    assert read_motion(next((folder / "smplx_params").glob("*.json"))).frames == len(poses)
    (folder / "smplx_params" / "00003.json").unlink()
    with pytest.raises(CrowdGaussianError, match="lacks frame 3"):
        read_motion(folder)
    (folder / "smplx_params" / "00003.json").write_text('{"root_pose": [1, 2]}')
    with pytest.raises(CrowdGaussianError, match=r"00003.json: root_pose must be a list of 3"):
        read_motion(folder)


@pytest.mark.parametrize("pitch", [-12, 2, 15])
def test_a_camera_that_looks_down_is_levelled(tmp_path, pitch):
    poses, transl, _ = walk_poses(adult_joints(), ADULT_SOLE, seconds=3.0)
    camera = axis_angle_to_matrix(np.array([np.radians(pitch), 0, 0]))
    motion = read_motion(write_lhm(tmp_path / "dance", poses[::2], transl[::2], camera))
    way = motion.transl[-1] - motion.transl[0]
    climb = np.degrees(np.arctan2(way[1], np.hypot(way[0], way[2])))
    assert abs(climb) < 3.0  # as filmed: the camera's pitch
    up = axis_angle_to_matrix(motion.poses[:, 0])[:, :, 1].mean(axis=0)
    assert np.degrees(np.arccos(up[1] / np.linalg.norm(up))) < 3.0


def test_a_header_that_asks_for_the_world_takes_no_memory(tmp_path):
    header = io.BytesIO()
    shape = {"descr": "<f8", "fortran_order": False, "shape": (10**9, 165)}
    np.lib.format.write_array_header_1_0(header, shape)
    with zipfile.ZipFile(tmp_path / "g.npz", "w") as archive:
        archive.writestr("poses.npy", header.getvalue() + bytes(64))
    with pytest.raises(CrowdGaussianError, match="g.npz.*damaged"):
        read_motion(tmp_path / "g.npz")


@pytest.mark.parametrize("arrays, words", [
    ({"poses": np.zeros((5, 63))}, "63 is not of the skeleton"),
    ({"poses": np.zeros((0, 165))}, "no frames"),
    ({"poses": np.zeros(())}, "no frames"),
    ({"poses": np.array([None])}, "type object"),
    ({"poses": np.array(["a"])}, "must be numbers"),
    ({"poses": np.zeros((200_000, 3))}, "200000 frames"),
    ({"vertices": np.zeros((5, 3))}, "holds no poses"),
    ({"poses": np.zeros((5, 165)), "trans": np.zeros((4, 3))}, "5 frames"),
    ({"poses": np.zeros((5, 165)), "fps": -3.0}, "-3 frames a second"),
    ({"root_orient": np.zeros((5, 3)), "pose_body": np.zeros((4, 63))}, "4 frames"),
])  # fmt: skip
def test_wrong_npz_files(tmp_path, arrays, words):
    np.savez(tmp_path / "wrong.npz", **arrays)
    with pytest.raises(CrowdGaussianError, match=words) as caught:
        read_motion(tmp_path / "wrong.npz")
    assert "wrong.npz" in str(caught.value) and "\n" not in str(caught.value)


def test_truncated_npz_files(tmp_path):
    write_motion_npz(tmp_path / "t.npz", smooth(20), adult_joints())
    data = (tmp_path / "t.npz").read_bytes()
    for size in (0, 10, len(data) // 2, len(data) - 10):
        (tmp_path / "t.npz").write_bytes(data[:size])
        with pytest.raises(CrowdGaussianError, match="t.npz is damaged or truncated; get a whole"):
            read_motion(tmp_path / "t.npz")


@pytest.mark.parametrize("old, new, words", [
    ("HIERARCHY", "HELLO", "line 1 has 'HELLO'"),
    ("LeftUpLeg", "Wheel", "none is known as left_hip"),
    ("Frames: 30", "Frames: 0", "no frames"),
    ("Frames: 30", "Frames: 31", "31 frames"),
    ("Frames: 30", "Frames: 900000000", "900000000 frames"),
    ("Frame Time: 0.0166667", "Frame Time: 0", "frame time"),
    ("OFFSET 0.0000", "OFFSET zero", "'zero' where a number"),
    ("CHANNELS 3", "CHANNELS 4", "channel|CHANNELS"),
    ("End Site", "End", "is not a whole BVH|skeleton|line"),
    ("    End Site", "    Ende Site", "where CHANNELS, JOINT, End Site"),
    ("MOTION", "}", "where MOTION must be"),
])  # fmt: skip
def test_wrong_bvh_files(tmp_path, old, new, words):
    text, _ = cmu_walk(seconds=0.5)
    assert old in text
    if (old, new) == ("End Site", "End"):
        text = text.replace("End Site\n", "", 1)  # missing
    else:
        text = text.replace(old, new, 1)
    (tmp_path / "w.bvh").write_text(text)
    with pytest.raises(CrowdGaussianError, match=words) as caught:
        read_motion(tmp_path / "w.bvh")
    assert "w.bvh" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("number, words", [("nan", "frame 7 .*NaN"), ("x", "not a number"),
                                           ("1 2", "numbers for")])  # fmt: skip
def test_wrong_numbers_in_bvh_files(tmp_path, number, words):
    text, _ = cmu_walk(seconds=0.5)
    lines = text.splitlines()
    first = next(k for k, line in enumerate(lines) if line.startswith("Frame Time")) + 1
    lines[first + 7] = f"{number} " + lines[first + 7].split(" ", 1)[1]
    (tmp_path / "w.bvh").write_text("\n".join(lines))
    with pytest.raises(CrowdGaussianError, match=words):
        read_motion(tmp_path / "w.bvh")


def test_other_files_are_told_apart(tmp_path):
    for name in ("a.fbx", "b.txt"):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(CrowdGaussianError, match="choose an .npz"):
            read_motion(tmp_path / name)
    with pytest.raises(CrowdGaussianError, match="choose an .npz"):
        read_motion(tmp_path)
    with pytest.raises(CrowdGaussianError, match="does not exist"):
        read_motion(tmp_path / "none.bvh")
