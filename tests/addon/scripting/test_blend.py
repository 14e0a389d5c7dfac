# SPDX-License-Identifier: Apache-2.0
"""The command that turns a scene folder into a .blend file and previews."""

import json
import os
import subprocess
import sys
from pathlib import Path

import bpy
import numpy as np
import pytest
from crowdgaussian_addon.scene.render.images import read_picture, resize
from crowdgaussian_addon.scripting.previews import save_blend, walking_pose
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.geometry.skinning import pose_body
from crowdgaussian_shared.scene.folder import SceneFolder

ROOT = Path(__file__).resolve().parents[3]


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess:
    paths = os.pathsep.join(str(ROOT / name) for name in ("addon", "shared"))
    return subprocess.run(
        [sys.executable, "-m", "crowdgaussian_addon.blend", *map(str, arguments)], cwd=cwd,
        env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True,
    )  # fmt: skip


def test_blend_file_and_previews_with_progress_as_json(scene_folder):
    done = run(scene_folder.path, "--previews", "--size", "48")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    fractions = [line["fraction"] for line in lines]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    files = [Path(name) for name in lines[-1]["files"]]
    assert files[0] == scene_folder.path / "crowd.blend"
    assert files[-1].name == "preview.png"
    assert all(file.is_file() for file in files)
    views = SceneFolder.open(scene_folder.path).info.previews
    assert {f"previews/{file.name}" for file in files[1:]} == set(views)
    for file in files[1:]:
        assert read_picture(file)[..., :3].std() > 0.01  # somebody is in the picture
    assert not list(scene_folder.path.glob(".*.blend"))


def test_saved_file_opens_with_everyone_and_a_relative_photo(scene_folder):
    assert run(scene_folder.path.name, cwd=scene_folder.path.parent).returncode == 0
    bpy.ops.wm.open_mainfile(filepath=str(scene_folder.path / "crowd.blend"))
    assert len([o for o in bpy.data.objects if o.type == "ARMATURE"]) == 2
    image = bpy.context.scene.camera.data.background_images[0].image
    assert image.filepath == "//photo.png"
    assert bpy.context.scene.view_settings.view_transform == "Raw"
    assert bpy.data.objects["Person 000 body"].hide_render


@pytest.mark.parametrize("arguments", [(), ("--previews",)])
def test_scene_without_finished_people_is_one_sentence(scene_folder, arguments):
    for index in range(2):
        scene_folder.fail_person(index, "Too small; use a larger photo.")
    done = run(scene_folder.path, *arguments)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].endswith("reconstruct the photo to the end first.")


def test_a_folder_that_is_no_scene_is_one_sentence(tmp_path):
    done = run(tmp_path)
    assert done.returncode == 2
    assert "is not a scene folder" in done.stderr


def test_file_that_cannot_be_written_is_one_sentence(empty_blender, tmp_path):
    (tmp_path / "crowd.blend").mkdir()
    with pytest.raises(CrowdGaussianError, match="was not written"):
        save_blend(tmp_path / "crowd.blend")
    assert [path.name for path in tmp_path.iterdir()] == ["crowd.blend"]


def test_walking_people_stay_where_they_stood_with_a_foot_on_the_floor(avatars):
    for avatar in avatars:
        pose, transl = walking_pose(avatar, ground=0.25)
        assert abs(pose_body(avatar, pose, transl)[:, 1].min() - 0.25) < 1e-6
        np.testing.assert_allclose(transl[[0, 2]], avatar.transl[[0, 2]], atol=1e-6)


def test_resize_keeps_the_mean():
    picture = np.random.default_rng(0).random((30, 40, 3))
    small = resize(picture, 11, 7)
    assert small.shape == (7, 11, 3)
    np.testing.assert_allclose(small.mean(axis=(0, 1)), picture.mean(axis=(0, 1)), atol=1e-9)
