# SPDX-License-Identifier: Apache-2.0
"""The scene folder: valid at every moment, readable as soon as one person is done."""

import errno
import os

import numpy as np
import pytest
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.formats.splat_ply import read_splat_ply
from crowdgaussian_shared.geometry.axes import convert_points
from crowdgaussian_shared.geometry.skinning import pose_avatar
from crowdgaussian_shared.scene.folder import SceneFolder, Timings
from crowdgaussian_shared.scene.schema import ModelProvenance, PhotoInfo, SceneInfo, hash_bytes


def all_files(folder: SceneFolder) -> list[str]:
    found = (p for p in folder.path.rglob("*") if p.is_file())
    return sorted(p.relative_to(folder.path).as_posix() for p in found)


def test_create_and_open(scene):
    again = SceneFolder.open(scene.path)
    assert again.info == scene.info
    assert again.photo_path.read_bytes() == b"photo bytes"
    digest = hash_bytes(b"photo bytes")
    assert again.info.photo == PhotoInfo("photo.jpg", 16, 12, "party.jpg", digest)
    assert all_files(scene) == ["photo.jpg", "scene.json"]
    assert SceneFolder.exists(scene.path) and not SceneFolder.exists(scene.path.parent)


def test_one_person_done_is_enough_to_read(scene, avatar):
    scene.write_avatar(1, avatar)
    scene.write_splats(1)
    scene.update_person(1, state="done", quality={"iou": 0.9})
    reader = SceneFolder.open(scene.path)
    assert [p.state for p in reader.info.people] == ["queued", "done", "queued"]
    assert reader.info.people[1].gaussians == len(avatar.gaussians)
    np.testing.assert_array_equal(reader.read_avatar(1).gaussians.sh, avatar.gaussians.sh)
    with pytest.raises(CrowdGaussianError, match=r"people\[0\] has no avatar yet \(queued\)"):
        reader.read_avatar(0)
    with pytest.raises(CrowdGaussianError, match="There is no person 3; the scene has 3 people"):
        reader.read_avatar(3)


def test_splats_are_posed_in_opencv_axes(scene, avatar):
    scene.write_avatar(0, avatar)
    path = scene.write_splats(0)
    expected = convert_points(pose_avatar(avatar).means, "scene", "opencv")
    np.testing.assert_allclose(read_splat_ply(path).means, expected, atol=1e-6)
    assert scene.person_file(0, "splats") == path


@pytest.mark.parametrize("kind", ["mask", "amodal"])
def test_masks(scene, kind):
    mask = np.random.default_rng(0).random((12, 16)) > 0.5
    scene.write_mask(2, mask, kind)
    read = SceneFolder.open(scene.path).read_mask(2, kind)
    assert read.dtype == bool
    np.testing.assert_array_equal(read, mask)
    with pytest.raises(CrowdGaussianError, match="does not fit the photo"):
        scene.write_mask(2, mask.T, kind)


def test_a_mask_of_another_size_is_refused(scene):
    scene.write_mask(0, np.ones((12, 16), dtype=bool))
    scene.update(photo=PhotoInfo("photo.jpg", 17, 12))
    with pytest.raises(CrowdGaussianError, match="mask.png has the shape"):
        scene.read_mask(0)


def test_fits_keep_any_arrays(scene):
    arrays = {"pose": np.ones((55, 3)), "flags": np.array(["cut"]), "score": np.float64(0.5)}
    scene.save_person_fit(0, arrays)
    read = SceneFolder.open(scene.path).read_person_fit(0)
    assert read.keys() == arrays.keys() and read["flags"].tolist() == ["cut"]


def test_updates_merge_dictionaries_and_keep_the_rest(scene):
    scene.update_person(0, quality={"iou": 1.0}, occlusion=0.5)
    scene.update_person(0, quality={"psnr": 2.0})
    scene.fail_person(2, "No silhouette was found.")
    info = SceneFolder.open(scene.path).info
    assert info.people[0].quality == {"iou": 1.0, "psnr": 2.0}
    assert info.people[0].occlusion == 0.5
    assert (info.people[2].state, info.people[2].error) == ("failed", "No silhouette was found.")


def test_timings_stay_out_of_the_scene(scene):
    before = (scene.path / "scene.json").read_bytes()
    assert scene.timings == Timings()
    scene.add_timing("people", 3.0)
    scene.add_person_timings(1, {"avatar": 2.0})
    scene.add_person_timings(1, {"measure": 0.5})
    assert scene.timings.stages == {"people": 3.0}
    assert scene.timings.of_person(1) == {"avatar": 2.0, "measure": 0.5}
    assert scene.timings.of_person(0) == {}
    assert (scene.path / "scene.json").read_bytes() == before


def test_damaged_timings_name_the_field(scene):
    (scene.path / "timings.json").write_text('{"stages": {"people": -1}, "people": {}}')
    with pytest.raises(CrowdGaussianError, match="stages.people must be a number of at least 0"):
        _ = scene.timings


def test_models_are_listed_once(scene):
    old = ModelProvenance("pose", "1", "p.tflite", "aa", "Apache-2.0", True, "people")
    new = ModelProvenance("pose", "2", "p.tflite", "bb", "Apache-2.0", True, "people")
    for model in (old, new, new):
        scene.add_model(model)
    assert SceneFolder.open(scene.path).info.models == (new,)
    assert scene.info.commercial_use


def test_previews(scene):
    for _ in range(2):
        scene.write_preview("front.png", b"png")
    assert scene.info.previews == ("previews/front.png",)
    assert scene.resolve("previews/front.png").read_bytes() == b"png"
    with pytest.raises(CrowdGaussianError, match="relative path inside"):
        scene.write_preview("../front.png", b"png")


def test_a_full_disk_leaves_the_scene_as_it_was(scene, avatar, fail_writing):
    scene.write_avatar(0, avatar)
    before = {name: (scene.path / name).read_bytes() for name in all_files(scene)}
    info = scene.info
    fail_writing(errno.ENOSPC)
    for write in (
        lambda: scene.write_avatar(0, avatar),
        lambda: scene.write_avatar(1, avatar),
        lambda: scene.update_person(0, state="done"),
        lambda: scene.write_splats(0),
    ):
        with pytest.raises(CrowdGaussianError, match="disk is full"):
            write()
    assert {name: (scene.path / name).read_bytes() for name in all_files(scene)} == before
    assert scene.info == info


def test_an_update_that_is_wrong_changes_nothing(scene):
    before = (scene.path / "scene.json").read_bytes()
    with pytest.raises(CrowdGaussianError, match=r"people\[0\].state must be one of"):
        scene.update_person(0, state="asleep")
    assert (scene.path / "scene.json").read_bytes() == before
    assert scene.info.people[0].state == "queued"


def test_a_link_out_of_the_folder_is_refused(scene, tmp_path):
    (tmp_path / "secret").mkdir()
    os.symlink(tmp_path / "secret", scene.path / "people")
    with pytest.raises(CrowdGaussianError, match="leads out of the scene folder"):
        scene.write_mask(0, np.ones((12, 16), dtype=bool))
    assert os.listdir(tmp_path / "secret") == []


def test_not_a_scene(tmp_path):
    with pytest.raises(CrowdGaussianError, match="is not a scene folder"):
        SceneFolder.open(tmp_path)
    with pytest.raises(CrowdGaussianError, match="is not a scene folder"):
        SceneFolder.open(tmp_path / "nothing")
    (tmp_path / "scene.json").write_text("{")
    with pytest.raises(CrowdGaussianError, match="scene.json is damaged"):
        SceneFolder.open(tmp_path)


def test_a_new_photo_replaces_an_old_scene(scene):
    scene.write_mask(0, np.ones((12, 16), dtype=bool))
    info = SceneInfo(photo=PhotoInfo("", 5, 4))
    SceneFolder.create(scene.path, b"other", ".png", info)
    again = SceneFolder.open(scene.path)
    assert again.info.people == () and again.photo_path.name == "photo.png"
