# SPDX-License-Identifier: Apache-2.0
"""glTF in: ours and other people's; glTF out with a rig and a motion; a file for each frame."""

import base64
import json
from dataclasses import replace

import numpy as np
import pytest
from _support.export_scene import make_avatar
from _support.made_up import covariances, make_gaussians, make_materials
from _support.motions import smooth
from _support.node_readers import need_node, read_glb, splat_transform, validate_gltf, write_glb
from crowdgaussian.cli import main as cli
from crowdgaussian.export import read
from crowdgaussian.export.files import FRAMES_FILE, write_spz
from crowdgaussian.export.interchange import EXTENSION, Cloud, write_gltf
from crowdgaussian.export.read import read_splats
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.formats.splat_ply import read_splat_ply, write_splat_ply
from crowdgaussian_shared.geometry.axes import convert_gaussians
from crowdgaussian_shared.geometry.rotations import axis_angle_to_matrix
from crowdgaussian_shared.geometry.skinning import (
    join_gaussians,
    joint_transforms,
    pose_avatar,
    transform_gaussians,
)
from crowdgaussian_shared.motion.fit import play_in_place_of
from crowdgaussian_shared.motion.kinematics import adult_joints, heading
from crowdgaussian_shared.motion.npz import write_motion_npz
from crowdgaussian_shared.motion.read import read_motion
from crowdgaussian_shared.motion.time import resample

COUNT = 40


@pytest.fixture(scope="module")
def cloud():
    """Gaussians of degree 3, scene frame."""
    return make_gaussians(COUNT, 3)


def assert_same(found, wanted, tolerance=1e-5):
    np.testing.assert_allclose(found.means, wanted.means, atol=tolerance)
    np.testing.assert_allclose(covariances(found), covariances(wanted), atol=tolerance, rtol=1e-3)
    np.testing.assert_allclose(found.opacities, wanted.opacities, atol=tolerance)
    np.testing.assert_allclose(found.sh, wanted.sh, atol=tolerance)


@pytest.mark.parametrize("ending", ["glb", "gltf"])
def test_ours_comes_back(tmp_path, cloud, ending):
    labels = make_materials(COUNT).label
    clouds = [Cloud("a", cloud, labels), Cloud("b", replace(cloud, means=cloud.means + 1), labels)]
    write_gltf(tmp_path / f"a.{ending}", clouds)
    found = read_splats(tmp_path / f"a.{ending}", "opencv")  # glTF says itself where up is
    assert_same(found.gaussians, join_gaussians([one.gaussians for one in clouds]))
    np.testing.assert_array_equal(found.labels, np.tile(labels, 2))
    assert found.dropped == 0


def test_splats_that_are_none_are_counted(tmp_path, cloud):
    scales, quats = cloud.scales.copy(), cloud.quats.copy()
    scales[3, 1], quats[5] = np.nan, 0
    bad = replace(cloud, scales=scales, quats=quats)
    write_gltf(tmp_path / "a.glb", [Cloud("a", cloud), Cloud("b", bad)])
    assert read_splats(tmp_path / "a.glb", "opencv").dropped == 2


def edited(path, change):
    """The file with another JSON."""
    document, blob = read_glb(path)
    change(document)
    write_glb(path, document, blob)
    return path


def test_nodes_move_their_splats(tmp_path, cloud):
    write_gltf(tmp_path / "a.glb", [Cloud("a", cloud)])
    turn = axis_angle_to_matrix(np.array([0.3, -0.5, 0.2]))
    outer, inner = np.eye(4), np.eye(4)
    outer[:3, :3], outer[:3, 3] = turn * (1.0, 2.0, 0.5), (1, 2, 3)
    inner[:3, 3] = (0, 0.5, 0)

    def change(document):
        document["nodes"][0]["translation"] = [0, 0.5, 0]
        document["nodes"].append({"matrix": outer.T.ravel().tolist(), "children": [0]})
        document["scenes"][0]["nodes"] = [1]

    found = read_splats(edited(tmp_path / "a.glb", change), "opencv").gaussians
    assert_same(found, transform_gaussians(cloud, outer @ inner), 1e-4)


def hand_made(columns, attributes, **more):
    """A .gltf with everything inside, written from the specification.  # columns: bytes each"""
    blob, views = b"", []
    for data, stride in columns:
        blob += b"\0" * (-len(blob) % 4)
        view = {"buffer": 0, "byteOffset": len(blob), "byteLength": len(data)}
        views.append(view | ({"byteStride": stride} if stride else {}))
        blob += data
    address = "data:application/octet-stream;base64," + base64.b64encode(blob).decode()
    primitive = {"mode": 0, "attributes": attributes, "extensions": {EXTENSION: {}}}
    return {
        "asset": {"version": "2.0"}, "buffers": [{"uri": address, "byteLength": len(blob)}],
        "bufferViews": views, "meshes": [{"primitives": [primitive]}], "nodes": [{"mesh": 0}],
    } | more  # fmt: skip


def accessor(view, kind, width, normalized=False):
    widths = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}
    return {"bufferView": view, "componentType": kind, "count": 2, "type": widths[width],
            "normalized": normalized}  # fmt: skip


def test_numbers_in_integers_and_the_names_of_drafts(tmp_path):
    """Strided shorts, signed and unsigned bytes; the colour and opacity of COLOR_0."""
    places = np.array([[1, 2, 3, 9], [-4, 5, 6, 9]], "<i2")
    scales = np.array([[1, 2, 3], [4, 5, 6]], "<f4")
    quats = np.array([[0, 0, 0, 127], [127, 0, 0, -1]], "i1")
    colours = np.array([[255, 0, 51, 102], [0, 255, 0, 255]], "u1")
    columns = [(places.tobytes(), 8), *((c.tobytes(), 0) for c in (scales, quats, colours))]
    accessors = [accessor(0, 5122, 3), accessor(1, 5126, 3), accessor(2, 5120, 4, True),
                 accessor(3, 5121, 4, True)]  # fmt: skip
    names = {"POSITION": 0, "_SCALE": 1, "_ROTATION": 2, "COLOR_0": 3}
    (tmp_path / "a.gltf").write_text(json.dumps(hand_made(columns, names, accessors=accessors)))
    found = read_splats(tmp_path / "a.gltf", "opencv").gaussians
    np.testing.assert_array_equal(found.means, [[1, 2, 3], [-4, 5, 6]])
    np.testing.assert_array_equal(found.scales, scales)
    np.testing.assert_allclose(found.quats, [[1, 0, 0, 0], [-1 / 127, 1, 0, 0]], atol=1e-4)
    np.testing.assert_allclose(found.opacities, [0.4, 1.0], atol=1e-6)
    assert found.sh.shape == (2, 1, 3)
    np.testing.assert_allclose(0.5 + 0.28209479 * found.sh[0, 0], [1, 0, 0.2], atol=1e-6)


def test_splats_packed_as_spz(tmp_path, cloud):
    pytest.importorskip("zstandard", reason="the extra export is not installed as a whole")
    small = replace(cloud, sh=(0.2 * np.clip(cloud.sh, -3, 3)).astype(np.float32))
    write_spz(tmp_path / "a.spz", small, 2)
    name = "KHR_gaussian_splatting_compression_spz_2"
    position = {"componentType": 5126, "count": COUNT, "type": "VEC3"}
    document = hand_made([((tmp_path / "a.spz").read_bytes(), 0)], {"POSITION": 0},
                         accessors=[position], extensionsRequired=[EXTENSION, name])  # fmt: skip
    extension = {EXTENSION: {"extensions": {name: {"bufferView": 0}}}}
    document["meshes"][0]["primitives"][0]["extensions"] = extension
    (tmp_path / "a.gltf").write_text(json.dumps(document))
    found = read_splats(tmp_path / "a.gltf", "opencv").gaussians
    np.testing.assert_allclose(found.means, small.means, atol=1e-5)
    np.testing.assert_allclose(found.sh[:, 1:], small.sh[:, 1:], atol=0.005)
    document["bufferViews"][0]["byteLength"] -= 100
    (tmp_path / "a.gltf").write_text(json.dumps(document))
    assert "packed splats that are damaged" in refused(tmp_path / "a.gltf")


@need_node
def test_what_splat_transform_writes(tmp_path, cloud):
    write_splat_ply(tmp_path / "a.ply", convert_gaussians(cloud, "scene", "opencv"))
    splat_transform(tmp_path / "a.ply", tmp_path / "b.glb")
    found = read_splats(tmp_path / "b.glb", "opencv").gaussians
    half = np.diag([-1.0, 1, -1, 1])  # it takes a PLY to be half a turn about y from ours
    assert_same(found, transform_gaussians(cloud, half), 1e-5)


def refused(path):
    with pytest.raises(CrowdGaussianError) as error:
        read_splats(path, "opencv")
    assert "\n" not in str(error.value) and str(path.parent) in str(error.value)
    return str(error.value)


BAD = {
    "meshopt": (lambda d: d.update(extensionsRequired=["EXT_meshopt_compression"]), "needs EXT_"),
    "mesh": (lambda d: d["meshes"][0]["primitives"][0].pop("extensions"), "holds no splats"),
    "circle": (lambda d: d["nodes"][0].update(children=[0]), "circle"),
    "sparse": (lambda d: d["accessors"][0].update(sparse={}), "sparse"),
    "long": (lambda d: d["accessors"][2].update(count=99_999), "longer than its data"),
    "view": (lambda d: d["bufferViews"][0].update(byteLength=1 << 40), "longer than its buffer"),
    "elsewhere": (lambda d: d["buffers"].append({"uri": "https://a.b/c.bin"}), "keeps its data"),
    "outside": (lambda d: d["buffers"].append({"uri": "../../c.bin"}), "keeps its data"),
    "missing": (lambda d: d["buffers"].append({"uri": "c.bin"}), "is missing"),
    "many": (lambda d: d["accessors"][0].update(count=20_000_000), "more than the 10000000"),
    "words": (lambda d: d["nodes"][0].update(mesh="a"), "damaged glTF"),
    "without scale": (
        lambda d: d["meshes"][0]["primitives"][0]["attributes"].pop(f"{EXTENSION}:SCALE"),
        "scales are missing",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read_is_a_sentence(tmp_path, cloud, name):
    change, words = BAD[name]
    write_gltf(tmp_path / "a.glb", [Cloud("a", cloud)])

    def other(document):
        change(document)
        if len(document["buffers"]) > 1:
            document["bufferViews"][0]["buffer"] = 1

    assert words in refused(edited(tmp_path / "a.glb", other))


def test_files_that_end_too_early(tmp_path, cloud):
    write_gltf(tmp_path / "a.glb", [Cloud("a", cloud)])
    whole = (tmp_path / "a.glb").read_bytes()
    for length in (4, 12, 19, 30, 2000, len(whole) - 3):
        (tmp_path / "b.glb").write_bytes(whole[:length])
        refused(tmp_path / "b.glb")
    assert "does not exist" in refused(tmp_path / "none.glb")
    assert read.MOST_SPLATS == 10_000_000


# Rigs


def test_a_rig_poses_the_splats(scene, tmp_path):
    """Read back they are those that our skinning poses; and the joints stand where it has them."""
    assert cli.main(["export", str(scene.path), "-o", str(tmp_path / "a.glb"), "--rig"]) == 0
    avatars = [scene.read_avatar(k) for k in (0, 1)]
    found = read_splats(tmp_path / "a.glb", "opencv").gaussians
    assert_same(found, join_gaussians([pose_avatar(avatar) for avatar in avatars]))
    document, _ = read_glb(tmp_path / "a.glb")
    nodes = document["nodes"]
    worlds = {}

    def walk(number, above):
        node = nodes[number]
        local = np.eye(4)
        x, y, z, w = node.get("rotation", (0, 0, 0, 1))
        local[:3, :3] = [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
        local[:3, 3] = node.get("translation", (0, 0, 0))
        worlds[number] = above @ local
        for child in node.get("children", ()):
            walk(child, worlds[number])

    for root in document["scenes"][0]["nodes"]:
        walk(root, np.eye(4))
    for skin, avatar in zip(document["skins"], avatars):
        joints = joint_transforms(avatar.rest_joints, avatar.pose, avatar.transl)
        rest = np.c_[avatar.rest_joints, np.ones(55)]
        ours = np.einsum("jab,jb->ja", joints, rest)[:, :3]
        theirs = np.stack([worlds[number][:3, 3] for number in skin["joints"]])
        np.testing.assert_allclose(theirs, ours, atol=1e-5)
    assert [nodes[k]["name"] for k in document["skins"][1]["joints"]][:2] == ["pelvis", "left_hip"]


def write_motion(folder):
    """Five frames as walk.npz, and what is read of them."""
    write_motion_npz(folder / "walk.npz", smooth(5, 10.0), adult_joints())
    return read_motion(folder / "walk.npz")


@need_node
def test_a_rig_with_a_motion_is_valid(scene, tmp_path):
    write_motion(tmp_path)
    target = tmp_path / "a.glb"
    arguments = [str(scene.path), "-o", str(target), "--motion", str(tmp_path / "walk.npz")]
    assert cli.main(["export", *arguments]) == 0
    document, blob = read_glb(target)
    for mesh in document["meshes"]:  # names that the validator does not know, see test_export
        attributes = mesh["primitives"][0]["attributes"]
        mesh["primitives"][0]["attributes"] = {k.replace(":", "").replace("KHR", "_KHR"): v
                                               for k, v in attributes.items()}  # fmt: skip
        mesh["primitives"][0].pop("extensions")
    document["extensionsUsed"].remove(EXTENSION)
    write_glb(target, document, blob)
    (issues,) = validate_gltf(target)
    assert issues["numErrors"] == issues["numWarnings"] == 0, issues["messages"]


def test_the_animation_plays_the_fitted_motion(scene, tmp_path):
    motion = write_motion(tmp_path)
    target = tmp_path / "a.glb"
    arguments = [str(scene.path), "-o", str(target), "--motion", str(tmp_path / "walk.npz")]
    assert cli.main(["export", *arguments, "--person", "1"]) == 0
    document, blob = read_glb(target)
    (animation,) = document["animations"]

    def values(number):
        told = document["accessors"][number]
        view = document["bufferViews"][told["bufferView"]]
        width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[told["type"]]
        start = view["byteOffset"] + told.get("byteOffset", 0)
        return np.frombuffer(blob, "<f4", told["count"] * width, start).reshape(-1, width)

    def stand(changed):
        for channel in animation["channels"]:
            curve = values(animation["samplers"][channel["sampler"]]["output"])
            key = curve[min(3, len(curve) - 1)].tolist()
            changed["nodes"][channel["target"]["node"]][channel["target"]["path"]] = key

    times = values(animation["samplers"][0]["input"])
    np.testing.assert_allclose(times.ravel(), np.arange(5) / 10, atol=1e-6)
    found = read_splats(edited(target, stand), "opencv").gaussians
    avatar = scene.read_avatar(1)
    fitted = play_in_place_of(motion, avatar)
    assert_same(found, pose_avatar(avatar, fitted.poses[3], fitted.transl[3]), 1e-4)


def test_a_motion_begins_where_the_photo_has_them():
    avatar = make_avatar(1)
    fitted = play_in_place_of(smooth(4), avatar, floor=0.5)
    flat = (1, 0, 1)
    np.testing.assert_allclose(fitted.transl[0] * flat, avatar.transl * flat, atol=1e-6)
    there, here = (axis_angle_to_matrix(p) for p in (avatar.pose[0], fitted.poses[0, 0]))
    assert heading(here) == pytest.approx(heading(there), abs=1e-6)
    lower = play_in_place_of(smooth(4), avatar)
    np.testing.assert_allclose(fitted.transl - lower.transl, np.tile([0, 0.5, 0], (4, 1)))


@pytest.mark.parametrize("kind", ["sog", "ply"])
def test_a_file_for_each_frame(scene, tmp_path, capsys, kind):
    motion = write_motion(tmp_path)
    out = tmp_path / "walk"
    arguments = ["--motion", str(tmp_path / "walk.npz"), "--fps", "5", "--format", kind]
    assert cli.main(["export", str(scene.path), "-o", str(out), *arguments]) == 0
    listed = json.loads((out / FRAMES_FILE).read_text())
    assert listed["files"] == [f"frame_000{k}.{kind}" for k in (1, 2, 3)] and listed["fps"] == 5
    assert listed["people"] == [{"name": f"Person 00{k}", "splats": 300} for k in (0, 1)]
    assert sorted(p.name for p in out.iterdir()) == sorted([*listed["files"], FRAMES_FILE])
    avatar = scene.read_avatar(1)
    fitted = play_in_place_of(resample(motion, 5.0), avatar)
    found = read_splats(out / listed["files"][1], "opencv").gaussians
    wanted = pose_avatar(avatar, fitted.poses[1], fitted.transl[1])
    np.testing.assert_allclose(found.means[300:], wanted.means, atol=3e-4)
    low, high = (np.array(listed["box"][name]) for name in ("low", "high"))
    assert (found.means > low - 1e-3).all() and (found.means < high + 1e-3).all()


@pytest.mark.parametrize(("arguments", "words"), [
    (["SCENE", "-o", "OUT/a.ply", "--rig"], "no room for a rig"),
    (["PLY", "-o", "OUT/a.glb", "--rig"], "leave --rig out"),
    (["PLY", "-o", "OUT/a.glb", "--motion", "OUT/w.npz"], "leave --motion out"),
    (["SCENE", "-o", "OUT/a.glb", "--motion", "OUT/w.npz"], "does not exist"),
    (["SCENE", "-o", "OUT/a.glb", "--motion", "OUT/w.npz", "--separate"], "do not go together"),
])  # fmt: skip
def test_rigs_and_motions_that_do_not_fit(scene, tmp_path, capsys, arguments, words):
    write_splat_ply(tmp_path / "a.ply", make_avatar(0).gaussians)
    out = tmp_path / "out"
    names = {"SCENE": str(scene.path), "PLY": str(tmp_path / "a.ply")}
    given = [names.get(a, a.replace("OUT", str(out))) for a in arguments]
    assert cli.main(["export", *given]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1 and not out.exists()
    assert len(read_splat_ply(tmp_path / "a.ply")) == 300
