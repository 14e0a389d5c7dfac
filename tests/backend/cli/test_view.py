# SPDX-License-Identifier: Apache-2.0
"""The page of a scene: what is in it, who may have it, and what a real browser draws."""

import base64
import http.client
import io
import json
import re
import shutil
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from _support.avatar_scene import photo_camera
from _support.made_up import make_avatar
from _support.motions import smooth
from crowdgaussian.cli import main as cli
from crowdgaussian.export import view
from crowdgaussian.export.view import open_server
from crowdgaussian.splat.cameras import Cameras
from crowdgaussian.splat.rasterize import rasterize
from crowdgaussian.splat.splats import Splats
from crowdgaussian_shared.geometry.camera import Camera
from crowdgaussian_shared.geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from crowdgaussian_shared.geometry.sh import colour_to_sh
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX
from crowdgaussian_shared.geometry.skinning import join_gaussians, pose_avatar
from crowdgaussian_shared.motion.fit import play_in_place_of
from crowdgaussian_shared.motion.kinematics import ADULT_SOLE, adult_joints
from crowdgaussian_shared.motion.npz import write_motion_npz
from crowdgaussian_shared.scene.folder import SceneFolder
from crowdgaussian_shared.scene.schema import (
    CameraInfo,
    PersonEntry,
    PhotoInfo,
    SceneInfo,
    SceneWarning,
)
from PIL import Image

WIDTH, HEIGHT = 320, 240
WARNING = "Somebody with </script><b>tags</b> was probably missed."


def somebody(seed, x):
    """300 large splats of one colour each around (x, 1.2, -4), opaque enough to hide others."""
    avatar = make_avatar(300, degree=0, seed=seed)
    rng = np.random.default_rng(seed)
    cloud = replace(
        avatar.gaussians,
        means=rng.normal(0, 0.3, (300, 3)).astype(np.float32),
        scales=np.exp(rng.normal(-3, 0.6, (300, 3))).astype(np.float32),
        opacities=rng.uniform(0.2, 1, 300).astype(np.float32),
        sh=colour_to_sh(rng.random((300, 3))).astype(np.float32),
    )
    body = replace(avatar.body, vertices=np.full((12, 3), ADULT_SOLE, np.float32))
    rest = adult_joints().astype(np.float32)
    return replace(avatar, gaussians=cloud, body=body, rest_joints=rest).with_params(
        pose=np.zeros((55, 3), np.float32), transl=np.array([x, 1.2, -4], np.float32)
    )


@pytest.fixture
def scene(tmp_path):
    """Two people who stand, one who failed, and a camera with its centre beside the middle."""
    photo = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT), (40, 50, 60)).save(photo, "JPEG")
    camera = photo_camera(WIDTH, HEIGHT, 300)
    camera.K[:2, 2] = 150, 130
    info = SceneInfo(
        photo=PhotoInfo("", WIDTH, HEIGHT, "the party.jpg"),
        camera=CameraInfo(camera.K, camera.viewmat, WIDTH, HEIGHT, "default"),
        people=(PersonEntry(occlusion=0.25), PersonEntry(), PersonEntry(state="failed")),
        warnings=(SceneWarning("missed", WARNING),),
    )
    folder = SceneFolder.create(tmp_path / "scene", photo.getvalue(), ".jpg", info)
    for index, x in enumerate((-0.4, 0.5)):
        folder.write_avatar(index, somebody(index, x))
        folder.update_person(index, state="done", gaussians=300)
    return folder


def scene_in(html):
    """What a page holds, as its script reads it."""
    text = html.decode()
    assert text.count("</script>") == 2 and "@SCENE@" not in text
    return json.loads(re.search(r'id="scene">(.*?)</script>', text, re.DOTALL)[1])


def test_what_the_page_holds(scene):
    held = scene_in(view.make_page(scene))
    assert held["title"] == "the party" and held["warnings"] == [WARNING]
    assert [person["words"] for person in held["people"]] == ["25 % hidden", ""]
    assert held["camera"]["K"][2] == 150 and held["photo"].startswith("data:image/jpeg;base64,")
    for index, person in enumerate(held["people"]):
        cloud = pose_avatar(scene.read_avatar(index))
        data = base64.b64decode(person["data"])
        assert person["count"] == 300 and len(data) == 32 * 300
        places = np.frombuffer(data, "<u2", 900).reshape(-1, 3) / 65535
        centres = np.array(person["low"]) + places * person["size"]
        np.testing.assert_allclose(centres, cloud.means, atol=1e-4)
        logs = np.frombuffer(data, "<u2", 900, 1800).reshape(-1, 3)
        np.testing.assert_allclose(np.exp(logs / 4096 - 14), cloud.scales, rtol=2e-4)
        quats = np.frombuffer(data, "<i2", 1200, 3600).reshape(-1, 4) / 32767
        np.testing.assert_allclose(quats, cloud.quats, atol=1e-4)
        opacities = np.frombuffer(data, "u1", 1200, 6000).reshape(-1, 4)[:, 3] / 255
        np.testing.assert_allclose(opacities, cloud.opacities, atol=0.51 / 255)
        avatar = scene.read_avatar(index)
        skin = np.frombuffer(data, "u1", 2400, 7200).reshape(2, 300, 4)
        np.testing.assert_array_equal(skin[0], avatar.skin_joints)
        assert (skin[1].sum(axis=1, dtype=int) == 255).all()
        np.testing.assert_allclose(skin[1] / 255, avatar.skin_weights, atol=2 / 255)


def test_the_command_writes_a_file(scene, tmp_path, capsys):
    target = tmp_path / "page.html"
    assert cli.main(["view", str(scene.path), "--export", str(target)]) == 0
    assert capsys.readouterr().out.strip() == str(target)
    assert target.read_bytes() == view.make_page(scene)
    assert not re.search(rb'(src|href)="?https?:', target.read_bytes())


def test_nobody_too_many_and_no_folder(scene, tmp_path, capsys, monkeypatch):
    def refused(*arguments):
        assert cli.main(["view", *map(str, arguments)]) == 2
        return capsys.readouterr().err

    target = tmp_path / "page.html"
    write_motion_npz(tmp_path / "walk.npz", smooth(5), adult_joints())
    monkeypatch.setattr(view, "_MOST_FRAMES", 3)
    moving = scene.path, "--export", target, "--motion", tmp_path / "walk.npz"
    assert "5 frames, more than the 3" in refused(*moving)
    assert cli.main(["view", *map(str, moving), "--fps", "15"]) == 0 and capsys.readouterr().out
    held = scene_in(target.read_bytes())
    assert (held["fps"], held["frames"]) == (15, 3)
    rows = np.frombuffer(base64.b64decode(held["people"][1]["motion"]), "<f4").reshape(3, 168)
    np.testing.assert_allclose(rows[0, [165, 167]], scene.read_avatar(1).transl[[0, 2]], atol=1e-5)
    target.unlink()
    monkeypatch.setattr(view, "_MOST", 500)
    assert "600 splats, more than the 500" in refused(scene.path, "--export", target)
    for index in range(2):
        scene.update_person(index, state="masked")
    assert "no finished person" in refused(scene.path, "--export", target)
    assert "no scene.json" in refused(tmp_path, "--export", target)
    assert "port 99999 cannot be used" in refused(scene.path, "--port", 99999)
    assert not target.exists()


@pytest.fixture
def server(scene):
    with open_server(scene.path, 0) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def ask(server, path="/", host="127.0.0.1"):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.request("GET", path, headers={"Host": f"{host}:{server.server_port}"})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


def test_the_server_answers_this_computer_with_what_is_done_now(server, scene):
    assert server.server_address[0] == "127.0.0.1"
    status, body = ask(server)
    assert status == 200 and len(scene_in(body)["people"]) == 2
    scene.update_person(1, state="masked")
    assert len(scene_in(ask(server)[1])["people"]) == 1
    scene.update_person(0, state="masked")
    status, body = ask(server, host="localhost")
    assert status == 503 and b"no finished person" in body
    assert ask(server, "/scene.json")[0] == 404
    assert ask(server, host="evil.example.org")[0] == 403


# A real browser, without a GPU


need_chromium = pytest.mark.skipif(
    shutil.which("chromium") is None, reason="chromium is not installed: apt-get install chromium"
)


def picture(html: Path, asked: str, folder: Path) -> np.ndarray:
    """What Chromium shows of a page opened from its file.  # [H, W, 3] 0..1"""
    command = ["chromium", "--headless=new", "--no-sandbox", "--use-angle=swiftshader"]
    command += ["--enable-unsafe-swiftshader", "--hide-scrollbars", "--window-size=500,500"]
    command += [f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=10000"]
    command += [f"--screenshot={folder / 'shot.png'}", f"{html.as_uri()}#{asked}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (folder / "shot.png").is_file(), done.stderr
    with Image.open(folder / "shot.png") as image:
        return np.asarray(image.convert("RGB"))[:HEIGHT, :WIDTH] / 255


def psnr(one, other):
    return -10 * np.log10(np.mean((one - other) ** 2))


def drawn(scene, camera: Camera, bends=None, motion=None) -> np.ndarray:
    """What our rasteriser draws of the scene, or of frame 3 of a motion.  # [H, W, 3] 0..1

    The second person is bent.
    """
    avatars = [scene.read_avatar(index) for index in range(2)]
    poses = [(avatar.pose, avatar.transl) for avatar in avatars]
    if motion is not None:
        played = [play_in_place_of(motion, avatar) for avatar in avatars]
        poses = [(fitted.poses[3], fitted.transl[3]) for fitted in played]
    pose = poses[1][0].copy()
    for joint, degrees in (bends or {}).items():
        row = JOINT_INDEX[joint]
        turn = axis_angle_to_matrix(pose[row].astype(float))
        for k, angle in enumerate(np.radians(degrees)):
            turn = turn @ axis_angle_to_matrix(angle * np.eye(3)[k])
        pose[row] = matrix_to_axis_angle(turn)
    clouds = [pose_avatar(avatars[0], *poses[0]), pose_avatar(avatars[1], pose, poses[1][1])]
    cloud = join_gaussians(clouds)
    with torch.no_grad():
        render = rasterize(Splats.from_gaussians(cloud), Cameras.from_cameras(camera))
    return render.color[0].clamp(0, 1).numpy()


def turned(scene, degrees: float) -> Camera:
    """The photo's camera, centred, led around what it looks at at the depth of the people."""
    camera = scene.info.camera.to_camera()
    people = [pose_avatar(scene.read_avatar(index)).means.mean(axis=0) for index in range(2)]
    forward = camera.rotation[2]
    target = camera.eye + forward * (forward @ (np.mean(people, axis=0) - camera.eye))
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    viewmat = np.eye(4)
    viewmat[:3, :3] = camera.rotation @ turn.T
    viewmat[:3, 3] = -viewmat[:3, :3] @ (target + turn @ (camera.eye - target))
    K = camera.K.copy()
    K[:2, 2] = WIDTH / 2, HEIGHT / 2
    return Camera(K, viewmat, WIDTH, HEIGHT)


BENDS = {"pelvis": (0, 40, 0), "right_shoulder": (20, -35, 50), "left_hip": (-60, 0, 10)}


@need_chromium
@pytest.mark.slow
@pytest.mark.parametrize("degrees, bends", [(0, {}), (70, BENDS)])
def test_chromium_draws_what_the_rasteriser_draws(scene, tmp_path, degrees, bends):
    motion = replace(smooth(5), poses=0.3 * smooth(5).poses) if bends else None
    view.write_page(scene, tmp_path / "page.html", motion)
    asked = f"bare=1&ground=000000&size={WIDTH}x{HEIGHT}" + f"&turned={degrees}" * bool(degrees)
    asked += "&frame=3" * bool(bends)
    for joint, angles in bends.items():
        asked += f"&bend=1,{joint},{','.join(map(str, angles))}"
    camera = turned(scene, degrees) if degrees else scene.info.camera.to_camera()
    wanted = drawn(scene, camera, bends, motion)
    assert wanted.mean() > 0.05
    assert not bends or psnr(drawn(scene, camera), wanted) < 25  # it does something
    assert psnr(picture(tmp_path / "page.html", asked, tmp_path), wanted) > 38
