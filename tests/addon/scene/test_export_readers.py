# SPDX-License-Identifier: GPL-3.0-or-later
"""What Blender exported, through the eyes of others: a rasteriser, plyfile, PlayCanvas, glTF."""

import json
import os
import shutil
import struct
import subprocess
import zipfile
from pathlib import Path

import bpy
import crowdgaussian_addon
import numpy as np
import pytest
from _support.blender.blender_people import make_avatar, make_camera, write_scene
from _support.blender.ewa_reference import render
from _support.blender.exporting import start
from crowdgaussian_addon.scene.attributes import read_attribute, read_positions
from crowdgaussian_addon.scene.people import read_weights
from crowdgaussian_addon.scene.render.images import read_picture
from crowdgaussian_shared.formats.splat_ply import read_splat_ply
from crowdgaussian_shared.geometry.axes import convert_gaussians
from crowdgaussian_shared.geometry.sh import sh_to_colour
from crowdgaussian_shared.geometry.skeleton import JOINT_NAMES
from crowdgaussian_shared.geometry.skinning import pose_avatar
from plyfile import PlyData

ROOT = Path(__file__).resolve().parents[3]
TRANSFORM = ROOT / ".venv/node/node_modules/@playcanvas/splat-transform/bin/cli.mjs"
COUNT = 900
need_node = pytest.mark.skipif(
    shutil.which("node") is None or not TRANSFORM.is_file(),
    reason="splat-transform is not installed; install node and npm, then scripts/setup.sh node",
)


def backend_python() -> Path:
    """The interpreter with the backend, whether it is there or not."""
    return Path(os.environ.get("CROWDGAUSSIAN_BACKEND_PYTHON", ROOT / ".venv/backend/bin/python"))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Two people, one of them leaning and stretched; the PLY and the camera that sees them."""
    folder = tmp_path_factory.mktemp("crowd")
    camera = make_camera()
    crowdgaussian_addon.register()
    people = start(
        write_scene(folder / "out", [make_avatar(COUNT, 0, s) for s in (0, 1)], camera)
    ).people
    rig = people[0].rig
    rig.rotation_euler.y, rig.scale = 0.25, (1.15, 0.9, 1.05)
    bpy.ops.crowdgaussian.export_splats(filepath=str(folder / "a.ply"))
    yield folder / "a.ply", camera
    crowdgaussian_addon.unregister()


def test_the_ply_renders_as_blender_does(exported, tmp_path):
    path, camera = exported
    colour, alpha = render(convert_gaussians(read_splat_ply(path), "opencv", "scene"), camera)
    scene = bpy.context.scene
    scene.cycles.samples = 1
    scene.render.filepath = str(tmp_path / "a.png")
    scene.render.image_settings.file_format = "PNG"
    scene.render.image_settings.color_mode = "RGBA"
    bpy.ops.render.render(write_still=True)
    picture = read_picture(tmp_path / "a.png")
    inside = alpha > 0.5
    error = (picture[..., :3] * picture[..., 3:] - colour.clip(0, 1))[inside]
    assert inside.mean() > 0.02 and -10 * np.log10(np.mean(error**2)) > 40


def test_plyfile_reads_it(exported):
    vertex = PlyData.read(str(exported[0]))["vertex"]
    ours = read_splat_ply(exported[0])
    assert len(vertex.data) == 2 * COUNT
    np.testing.assert_allclose(vertex["z"], ours.means[:, 2], atol=1e-6)
    np.testing.assert_allclose(np.exp(vertex["scale_1"]), ours.scales[:, 1], rtol=1e-5)


@need_node
def test_splat_transform_reads_it(exported, tmp_path):
    done = subprocess.run(
        ["node", str(TRANSFORM), "-w", str(exported[0]), str(tmp_path / "b.ply")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ours, theirs = read_splat_ply(exported[0]), read_splat_ply(tmp_path / "b.ply")
    np.testing.assert_allclose(theirs.means, ours.means, atol=1e-6)
    np.testing.assert_allclose(theirs.sh, ours.sh, atol=1e-6)


@pytest.mark.skipif(
    not backend_python().exists(), reason="the backend is missing; run scripts/setup.sh backend"
)
@pytest.mark.parametrize("kind", ["SPZ", "SOG", "GLB"])
def test_the_backend_writes_the_other_formats(exported, tmp_path, monkeypatch, kind):
    monkeypatch.setenv("CROWDGAUSSIAN_BACKEND", str(backend_python()))
    target = tmp_path / f"a.{kind.lower()}"
    bpy.ops.crowdgaussian.export_splats(filepath=str(target), format=kind)
    assert os.listdir(tmp_path) == [target.name]
    data = target.read_bytes()
    if kind == "SPZ":
        assert data[:2] == b"\x1f\x8b" and len(data) < exported[0].stat().st_size / 2
        return
    if kind == "SOG":
        with zipfile.ZipFile(target) as bundle:
            assert json.loads(bundle.read("meta.json"))["count"] == 2 * COUNT
        return
    document = json.loads(data[20 : 20 + struct.unpack_from("<I", data, 12)[0]])
    assert [node["name"] for node in document["nodes"]] == ["Person_000", "Person_001"]
    assert [a["count"] for a in document["accessors"][:1]] == [COUNT]


@pytest.mark.skipif(
    not backend_python().exists(), reason="the backend is missing; run scripts/setup.sh backend"
)
def test_blender_s_own_importer_reads_the_gltf(tmp_path):
    """Centres as posed by the imported rig, its weights, and every band of the harmonics."""
    avatars = [make_avatar(200, 3, seed) for seed in (0, 1)]
    folder = write_scene(tmp_path / "out", avatars, make_camera()).path
    target = tmp_path / "a.glb"
    command = [backend_python(), "-m", "crowdgaussian", "export", folder, "-o", target, "--rig"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.import_scene.gltf(filepath=str(target))
    for number, avatar in enumerate(avatars):
        obj = bpy.data.objects[f"Person {number:03d}"]
        evaluated = obj.evaluated_get(bpy.context.evaluated_depsgraph_get())
        centres = read_positions(evaluated.data) @ np.array(evaluated.matrix_world)[:3, :3].T
        centres += np.array(evaluated.matrix_world.translation)
        posed = convert_gaussians(pose_avatar(avatar), "scene", "blender")
        np.testing.assert_allclose(centres, posed.means, atol=1e-5)
        assert {group.name for group in obj.vertex_groups} == set(JOINT_NAMES)
        joints, weights = read_weights(obj)
        dense = np.zeros((2, 200, 55))
        for one, k, w in zip(dense, (joints, avatar.skin_joints), (weights, avatar.skin_weights)):
            np.add.at(one, (np.arange(200)[:, None], k), w)
        np.testing.assert_allclose(dense[0], dense[1], atol=1e-5)
        colour = read_attribute(obj.data, "Color")[:, :3]  # as sRGB bytes
        wanted = sh_to_colour(avatar.gaussians.sh).clip(0, 1)
        np.testing.assert_allclose(colour, wanted, atol=1 / 255)
        if bpy.app.version < (5, 2):  # which leave out attributes of extensions
            continue
        for degree in range(4):
            for k in range(2 * degree + 1):
                name = f"KHR_gaussian_splatting:SH_DEGREE_{degree}_COEF_{k}"
                found = read_attribute(obj.data, name)
                wanted = avatar.gaussians.sh[:, degree**2 + k]
                np.testing.assert_allclose(found, wanted, atol=1e-6)
        turns = read_attribute(obj.data, "KHR_gaussian_splatting:ROTATION")[:, [3, 0, 1, 2]]
        np.testing.assert_allclose(turns, avatar.gaussians.quats, atol=1e-6)
