# SPDX-License-Identifier: Apache-2.0
"""crowdgaussian export: what other people's readers say to our PLY, SPZ and glTF."""

import errno
import json
import os

import numpy as np
import pytest
from _support.export_scene import make_avatar
from _support.made_up import covariances, make_materials
from _support.node_readers import (
    attribute,
    need_node,
    read_glb,
    splat_transform,
    validate_gltf,
    write_glb,
)
from crowdgaussian.cli import main as cli
from crowdgaussian.export.files import fractional_bits
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.formats.splat_ply import read_splat_file, read_splat_ply, write_splat_ply
from crowdgaussian_shared.geometry.avatar import Gaussians
from crowdgaussian_shared.geometry.axes import convert_gaussians
from crowdgaussian_shared.geometry.skinning import join_gaussians, pose_avatar
from crowdgaussian_shared.scene.folder import SceneFolder
from plyfile import PlyData

EXTENSION = "KHR_gaussian_splatting"


def posed(folder: SceneFolder) -> Gaussians:
    """Everybody in the scene frame, from the avatars."""
    return join_gaussians([pose_avatar(folder.read_avatar(i)) for i in range(2)])


def export(*arguments) -> int:
    return cli.main(["export", *map(str, arguments)])


def assert_close(read: Gaussians, wanted: Gaussians, tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(read.means, wanted.means, atol=tolerance)
    np.testing.assert_allclose(covariances(read), covariances(wanted), atol=tolerance**2, rtol=1e-3)
    np.testing.assert_allclose(read.opacities, wanted.opacities, atol=tolerance)
    np.testing.assert_allclose(read.sh, wanted.sh, atol=tolerance)


@pytest.mark.parametrize("axes", ["opencv", "scene", "blender"])
def test_a_scene_as_one_ply_in_any_axes(scene, tmp_path, axes):
    assert export(scene.path, "-o", tmp_path / "a.ply", "--axes", axes) == 0
    read = convert_gaussians(read_splat_ply(tmp_path / "a.ply"), axes, "scene")
    assert_close(read, posed(scene))


def test_one_person_and_a_file_for_each(scene, tmp_path, capsys):
    assert export(scene.path, "-o", tmp_path / "b.ply", "--person", 1) == 0
    assert export(scene.path, "-o", tmp_path / "c.ply", "--separate") == 0
    one = read_splat_ply(tmp_path / "b.ply")
    assert_close(one, convert_gaussians(pose_avatar(scene.read_avatar(1)), "scene", "opencv"))
    assert_close(read_splat_ply(tmp_path / "c-001.ply"), one, 1e-7)
    assert capsys.readouterr().out.split()[1:] == [str(tmp_path / f"c-00{i}.ply") for i in (0, 1)]
    assert export(scene.path, "--format", "ply") == 0 and (scene.path / "crowd.ply").is_file()


def test_the_ply_keeps_what_people_wear(scene, tmp_path):
    export(scene.path, "-o", tmp_path / "a.ply")
    export(scene.path, "-o", tmp_path / "b.ply", "--separate")
    worn = make_materials(300).label
    labels = read_splat_file(tmp_path / "a.ply").labels
    np.testing.assert_array_equal(labels, np.concatenate([np.zeros(300), worn]))
    assert read_splat_file(tmp_path / "b-000.ply").labels is None
    np.testing.assert_array_equal(read_splat_file(tmp_path / "b-001.ply").labels, worn)


@pytest.mark.parametrize("source", ["folder", "ply"])
def test_the_gltf_keeps_what_people_wear(scene, tmp_path, source):
    export(scene.path, "-o", tmp_path / "b.ply", "--separate")
    sources = {"folder": [scene.path], "ply": [tmp_path / f"b-00{i}.ply" for i in (0, 1)]}
    export(*sources[source], "-o", tmp_path / "a.glb")
    document, blob = read_glb(tmp_path / "a.glb")
    first = document["meshes"][0]["primitives"][0]["attributes"]
    assert "_MATERIAL" not in first
    found = attribute(document, blob, "_MATERIAL", mesh=1)
    np.testing.assert_array_equal(found.ravel(), make_materials(300).label)


def test_plyfile_reads_the_ply(scene, tmp_path):
    export(scene.path, "-o", tmp_path / "a.ply")
    vertex = PlyData.read(str(tmp_path / "a.ply"))["vertex"]
    wanted = convert_gaussians(posed(scene), "scene", "opencv")
    np.testing.assert_allclose(vertex["y"], wanted.means[:, 1], atol=1e-6)
    np.testing.assert_allclose(np.exp(vertex["scale_2"]), wanted.scales[:, 2], rtol=1e-5)
    np.testing.assert_allclose(vertex["f_rest_16"], wanted.sh[:, 2, 1], atol=1e-6)


@need_node
def test_splat_transform_reads_the_ply(scene, tmp_path):
    export(scene.path, "-o", tmp_path / "a.ply")
    splat_transform(tmp_path / "a.ply", tmp_path / "theirs.ply")
    assert_close(read_splat_ply(tmp_path / "theirs.ply"), read_splat_ply(tmp_path / "a.ply"), 1e-6)


@need_node
def test_splat_transform_reads_the_spz(scene, tmp_path):
    export(scene.path, "-o", tmp_path / "a.spz")
    export(scene.path, "-o", tmp_path / "a.ply")
    splat_transform(tmp_path / "a.spz", tmp_path / "theirs.ply")
    splat_transform(tmp_path / "a.ply", tmp_path / "ours.ply")  # the axes it gives to a PLY
    read, wanted = (read_splat_ply(tmp_path / f"{n}.ply") for n in ("theirs", "ours"))
    turned = nearest_turn(read, wanted)
    np.testing.assert_allclose(turned.means, wanted.means, atol=2e-5)
    np.testing.assert_allclose(np.sort(turned.scales), np.sort(wanted.scales), rtol=0.035)
    off = np.abs(covariances(turned) - covariances(wanted)).max(axis=(1, 2))
    assert (off / wanted.scales.max(axis=1) ** 2).max() < 0.07  # twice the step of the scales
    np.testing.assert_allclose(turned.opacities, wanted.opacities, atol=1 / 255)
    np.testing.assert_allclose(turned.sh[:, 0], wanted.sh[:, 0], atol=1.01 / (0.15 * 255))
    np.testing.assert_allclose(turned.sh[:, 1:], wanted.sh[:, 1:], atol=0.07)


def nearest_turn(cloud: Gaussians, wanted: Gaussians) -> Gaussians:
    """Our scene frame and OpenCV's, whichever the program read the file as."""
    turns = [cloud, convert_gaussians(cloud, "scene", "opencv")]
    return min(turns, key=lambda c: np.abs(c.means - wanted.means).max())


@pytest.mark.parametrize("ending", ["glb", "gltf"])
@need_node
def test_the_gltf_is_valid_and_holds_everything(scene, tmp_path, ending):
    """The validator of 2024 refuses any attribute named after an extension, see its issue 252.

    So the names that the extension prescribes must be all it finds, and under names of an
    application's own, which it checks, the same file must be without fault.
    """
    path, plain = tmp_path / f"a.{ending}", tmp_path / f"plain.{ending}"
    assert export(scene.path, "-o", path) == 0
    document, blob = read_glb(path) if ending == "glb" else (json.loads(path.read_text()), b"")
    for mesh in document["meshes"]:
        (primitive,) = mesh["primitives"]
        primitive["attributes"] = {
            f"_{name.partition(':')[2]}" if ":" in name else name: value
            for name, value in primitive["attributes"].items()
        }
        assert primitive.pop("extensions")[EXTENSION]["colorSpace"] == "srgb_rec709_display"
    document["extensionsUsed"].remove(EXTENSION)
    if ending == "glb":
        write_glb(plain, document, blob)
    else:
        plain.write_text(json.dumps(document))
    issues, plain_issues = validate_gltf(path, plain)
    assert plain_issues["numErrors"] == plain_issues["numWarnings"] == 0, plain_issues["messages"]
    errors = [m for m in issues["messages"] if m["severity"] == 0]
    assert {m["code"] for m in errors} == {"MESH_PRIMITIVE_INVALID_ATTRIBUTE"}
    assert all(f"/attributes/{EXTENSION}:" in m["pointer"] for m in errors)
    assert len(errors) == 2 * (3 + 16) and issues["numWarnings"] == 0


@need_node
def test_the_gltf_says_what_splat_transform_says(scene, tmp_path):
    """The extension's attributes equal those that PlayCanvas writes from our PLY."""
    export(scene.path, "-o", tmp_path / "a.glb", "--person", 0)
    export(scene.path, "-o", tmp_path / "a.ply", "--person", 0)
    splat_transform(tmp_path / "a.ply", tmp_path / "theirs.glb")
    ours, theirs = read_glb(tmp_path / "a.glb"), read_glb(tmp_path / "theirs.glb")
    for name in ("SCALE", "OPACITY", "SH_DEGREE_0_COEF_0"):
        np.testing.assert_allclose(
            attribute(*ours, f"{EXTENSION}:{name}"),
            attribute(*theirs, f"{EXTENSION}:{name}"),
            atol=1e-6,
        )
    wanted = pose_avatar(scene.read_avatar(0))
    np.testing.assert_allclose(attribute(*ours, "POSITION"), wanted.means, atol=1e-6)
    np.testing.assert_allclose(
        attribute(*ours, f"{EXTENSION}:ROTATION"), wanted.quats[:, [1, 2, 3, 0]], atol=1e-6
    )
    for k, (degree, n) in enumerate((d, n) for d in range(4) for n in range(2 * d + 1)):
        np.testing.assert_allclose(
            attribute(*ours, f"{EXTENSION}:SH_DEGREE_{degree}_COEF_{n}"), wanted.sh[:, k], atol=1e-6
        )


def test_several_plys_are_joined_and_keep_their_names(scene, tmp_path):
    for person in (0, 1):
        export(scene.path, "-o", tmp_path / f"P{person}.ply", "--person", person)
    sources = tmp_path / "P0.ply", tmp_path / "P1.ply"
    assert export(*sources, "-o", tmp_path / "a.glb") == 0
    assert [n["name"] for n in read_glb(tmp_path / "a.glb")[0]["nodes"]] == ["P0", "P1"]
    assert export(*sources, "-o", tmp_path / "b.ply", "--axes", "scene") == 0
    assert_close(read_splat_ply(tmp_path / "b.ply"), posed(scene), 1e-5)


@pytest.mark.parametrize(("arguments", "words"), [
    (["SCENE", "-o", "OUT/a.obj"], "does not say its format"),
    (["SCENE", "-o", "OUT/a.ply", "--person", "7"], "There is no person 7"),
    (["SCENE", "-o", "OUT/a.ply", "--person", "x"], "neither a number nor all"),
    (["SCENE", "PLY", "-o", "OUT/a.ply"], "give it alone"),
    (["PLY", "-o", "OUT/a.glb", "--person", "1"], "without people"),
    (["PLY"], "Say what to write"),
    (["OUT/none.ply", "-o", "OUT/a.ply"], "does not exist"),
    (["OUT", "-o", "OUT/a.ply"], "no scene.json"),
])  # fmt: skip
def test_bad_input_is_one_sentence(scene, tmp_path, capsys, arguments, words):
    out, ply = tmp_path / "out", tmp_path / "p.ply"
    out.mkdir()
    write_splat_ply(ply, make_avatar(0).gaussians)
    names = {"SCENE": str(scene.path), "PLY": str(ply)}
    code = export(*(names.get(a, a.replace("OUT", str(out))) for a in arguments))
    said = capsys.readouterr().err
    assert code == 2 and words in said and said.count("\n") == 1
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("ending", ["ply", "spz", "glb"])
@pytest.mark.parametrize("damage", ["truncated", "no number", "without scale_1"])
def test_a_damaged_ply_leaves_the_old_file(tmp_path, capsys, ending, damage):
    source, target = tmp_path / "p.ply", tmp_path / f"a.{ending}"
    write_splat_ply(source, make_avatar(0).gaussians)
    whole = source.read_bytes()
    start = whole.index(b"end_header\n") + 11
    source.write_bytes({
        "truncated": whole[: len(whole) // 2],
        "no number": whole[:start] + b"\0\0\xc0\x7f" * ((len(whole) - start) // 4),
        "without scale_1": whole.replace(b"property float scale_1", b"property float scalex1"),
    }[damage])  # fmt: skip
    target.write_bytes(b"older")
    assert export(source, "-o", target) == 2
    said = capsys.readouterr().err
    assert "p.ply" in said and damage.split()[-1] in said and target.read_bytes() == b"older"


@pytest.mark.parametrize("ending", ["ply", "spz", "glb", "gltf"])
def test_a_full_disk_leaves_the_old_file(scene, tmp_path, capsys, monkeypatch, ending):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "out").mkdir()
    target = tmp_path / f"out/a.{ending}"
    target.write_bytes(b"older")
    monkeypatch.setattr("crowdgaussian_shared.formats.atomic.os.fsync", full)
    assert export(scene.path, "-o", target) == 2
    assert "disk is full" in capsys.readouterr().err
    assert os.listdir(tmp_path / "out") == [target.name] and target.read_bytes() == b"older"


def test_spz_steps_reach_the_farthest_splat(tmp_path):
    for far in (0.5, 3.0, 100.0, 4000.0):
        bits = fractional_bits(tmp_path, np.array([[0, far, 0]]))
        assert far * 2**bits < 2**23 and (bits == 16 or far * 2 ** (bits + 1) >= 2**23)
    with pytest.raises(CrowdGaussianError, match="move them closer"):
        fractional_bits(tmp_path, np.array([[1e7, 0, 0]]))
