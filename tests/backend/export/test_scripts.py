# SPDX-License-Identifier: Apache-2.0
"""What scripts and notebooks use: Scene, Person, pictures, arrays; the examples as printed."""

import html
import re
import runpy
import sys
from pathlib import Path

import crowdgaussian
import numpy as np
import pytest
import torch
from _support.made_up import make_gaussians
from crowdgaussian.export import view
from crowdgaussian.splat.splats import Splats, pose_splats
from crowdgaussian_shared.errors import CrowdGaussianError, InputError
from crowdgaussian_shared.geometry.sh import colour_to_sh, sh_to_colour
from crowdgaussian_shared.geometry.skinning import join_gaussians, pose_avatar
from PIL import Image

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ("pictures.py", "recolour.py", "brighten.py")


@pytest.fixture
def opened(scene):
    return crowdgaussian.Scene(scene.path)


def test_people_are_those_of_the_folder(opened, scene):
    avatars = [scene.read_avatar(k) for k in (0, 1)]
    assert [person.index for person in opened.people] == [0, 1]
    wanted = join_gaussians([pose_avatar(avatar) for avatar in avatars])
    np.testing.assert_array_equal(opened.gaussians().means, wanted.means)
    straight = np.zeros((55, 3))
    moved = opened.people[1].gaussians(straight, np.array([1.0, 2, 3]))
    np.testing.assert_allclose(moved.means, avatars[1].gaussians.means + (1, 2, 3), atol=1e-5)


def test_a_picture_is_what_the_rasteriser_draws(opened):
    picture = opened.people[0].render()
    assert picture.shape == (12, 16, 4) and picture.dtype == np.uint8
    splats = Splats.from_gaussians(opened.people[0].gaussians())
    tensor = crowdgaussian.render(splats, opened.camera)
    colour, alpha = tensor[..., :3].numpy(), tensor[..., 3:].numpy()
    np.testing.assert_allclose(picture[..., 3:] / 255, alpha, atol=0.51 / 255)
    solid = alpha[..., 0] > 0.3
    assert 0.02 < solid.mean() < 0.98
    plain = np.clip(colour[solid] / alpha[solid], 0, 1)
    np.testing.assert_allclose(picture[solid][:, :3] / 255, plain, atol=0.51 / 255)
    assert (opened.render()[..., 3] >= picture[..., 3]).all()


def test_cameras_stand_around_somebody(opened):
    person = opened.people[0]
    cameras = person.cameras(4, size=64)
    body = person.avatar.transl
    away = [camera.eye - cameras[0].eye for camera in cameras]
    assert np.linalg.norm(away, axis=1)[2] > np.linalg.norm(away, axis=1)[1] > 1
    for camera in cameras:
        pixels, depths = camera.project(body[None])
        assert depths[0] > 0.5 and np.abs(pixels - 32).max() < 32


def test_torch_splats_have_gradients(opened):
    splats = Splats.from_gaussians(opened.people[0].gaussians())
    splats.sh.requires_grad_()
    crowdgaussian.render(splats, opened.camera)[..., :3].sum().backward()
    assert splats.sh.grad is not None and float(splats.sh.grad.abs().sum()) > 0


def test_tensors_become_arrays_again():
    cloud = make_gaussians(20, 2)
    back = Splats.from_gaussians(cloud).to_gaussians()
    for name, values in vars(cloud).items():
        np.testing.assert_allclose(getattr(back, name), values, atol=1e-6)
    turned = pose_splats(Splats.from_gaussians(cloud), torch.eye(3, 4).repeat(20, 1, 1))
    with pytest.raises(InputError, match="pose Gaussians"):
        turned.to_gaussians()


def test_files_in_and_out(tmp_path):
    cloud = make_gaussians(20, 3)
    crowdgaussian.write_splats(tmp_path / "a.ply", cloud)
    found = crowdgaussian.read_splats(tmp_path / "a.ply").gaussians
    np.testing.assert_allclose(found.means, cloud.means, atol=1e-6)
    np.testing.assert_allclose(found.sh, cloud.sh, atol=1e-5)
    with pytest.raises(CrowdGaussianError, match="does not say its format"):
        crowdgaussian.write_splats(tmp_path / "a.xyz", cloud)


def test_a_notebook_shows_the_page_and_a_script_the_browser(opened, monkeypatch):
    asked = []
    monkeypatch.setattr(view.webbrowser, "open", asked.append)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    page = opened.show(height=300)
    (address,) = asked
    assert address.startswith("file://") and address.endswith("scene.html")
    frame = page._repr_html_()
    assert 'height="300"' in frame
    inside = re.fullmatch(r'<iframe srcdoc="([^"]*)" .*></iframe>', frame, re.DOTALL)
    assert inside and html.unescape(inside[1]).encode() == view.make_page(opened.folder)
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    opened.show()
    assert len(asked) == 1


def test_without_anybody_or_a_camera(scene):
    scene.update(camera=None)
    with pytest.raises(InputError, match="knows no camera"):
        crowdgaussian.Scene(scene.path).render()
    for k in (0, 1):
        scene.update_person(k, state="failed", error="No.")
    with pytest.raises(InputError, match="no finished person"):
        crowdgaussian.Scene(scene.path)


# The examples


def run(name, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")


def test_the_examples_are_printed_as_they_are():
    text = (ROOT / "docs/api.md").read_text("utf-8")
    for name in EXAMPLES:
        code = (ROOT / "examples" / name).read_text("utf-8")
        assert f"```python\n{code}```" in text, f"examples/{name} is not what docs/api.md prints"


def test_pictures(scene, tmp_path, monkeypatch, capsys):
    run("pictures.py", monkeypatch, scene.path, tmp_path / "out")
    assert capsys.readouterr().out == "2 people, 600 splats\n"
    with Image.open(tmp_path / "out/people.png") as image:
        assert image.size == (1024, 512)
        assert np.asarray(image)[..., 3].mean() > 1
    with Image.open(tmp_path / "out/photo.png") as image:
        assert image.size == (16, 12)


def test_recolour(scene, tmp_path, monkeypatch):
    run("recolour.py", monkeypatch, scene.path, tmp_path / "blue.sog")
    found = crowdgaussian.read_splats(tmp_path / "blue.sog").gaussians
    before = join_gaussians([pose_avatar(scene.read_avatar(k)) for k in (0, 1)])
    worn = np.r_[np.zeros(300), scene.read_avatar(1).materials.label] == 3
    red, _, blue = sh_to_colour(found.sh)[worn].T
    assert worn.sum() > 20 and (blue > red)[blue > 0.05].all()
    same = np.abs(sh_to_colour(found.sh) - sh_to_colour(before.sh))[~worn]
    assert same.max() < 2 / 255


def test_brighten(tmp_path, monkeypatch, capsys):
    cloud = make_gaussians(200, 0)
    dark = type(cloud)(**{**vars(cloud), "sh": colour_to_sh(np.full((200, 3), 0.3))})
    crowdgaussian.write_splats(tmp_path / "a.ply", dark)
    run("brighten.py", monkeypatch, tmp_path / "a.ply", tmp_path / "b.ply")
    assert "200 splats, brightness 0.60" in capsys.readouterr().out
    bright = sh_to_colour(crowdgaussian.read_splats(tmp_path / "b.ply").gaussians.sh)
    assert bright.mean() > 0.4
