# SPDX-License-Identifier: Apache-2.0
"""Cycles renders of imported people against rasterisers: the same pictures, not similar ones."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import bpy
import numpy as np
import pytest
from _support.blender.blender_people import SOLE, make_avatar, make_camera, random_pose, write_scene
from _support.blender.ewa_reference import render
from _support.blender.open_body_people import open_body_avatar
from crowdgaussian_addon.scene.importer import import_scene
from crowdgaussian_addon.scene.people import all_people
from crowdgaussian_addon.scene.render.images import read_picture
from crowdgaussian_addon.scene.render.relight import set_lit
from crowdgaussian_addon.scene.render.settings import set_engine, set_render_mode
from crowdgaussian_addon.scene.rig.armature import set_pose
from crowdgaussian_shared.geometry.avatar import Avatar, Gaussians
from crowdgaussian_shared.geometry.skinning import pose_avatar
from crowdgaussian_shared.scene.folder import SceneFolder

ROOT = Path(__file__).resolve().parents[3]
BACKEND_SCRIPT = ROOT / "tests/_support/blender/backend_reference.py"


@pytest.fixture
def crowd(empty_blender, tmp_path):
    """Two people of 1500 Gaussians before an off-centre camera."""
    avatars = [make_avatar(1500, seed=seed) for seed in (0, 1)]
    camera = make_camera()
    folder = write_scene(tmp_path / "out", avatars, camera)
    return import_scene(folder), avatars, camera, folder


def join(clouds: list[Gaussians]) -> Gaussians:
    names = ("means", "quats", "scales", "opacities", "sh")
    return Gaussians(*(np.concatenate([getattr(c, name) for c in clouds]) for name in names))


def photograph(path: Path, samples: int = 1) -> np.ndarray:
    """What Blender renders now.  # [H, W, 4] straight alpha"""
    scene = bpy.context.scene
    scene.cycles.samples = samples
    scene.render.filepath = str(path / "render.png")
    scene.render.image_settings.file_format = "PNG"
    scene.render.image_settings.color_mode = "RGBA"
    bpy.ops.render.render(write_still=True)
    return read_picture(path / "render.png")


def psnr_inside(picture: np.ndarray, colour: np.ndarray, alpha: np.ndarray) -> float:
    inside = alpha > 0.5
    assert inside.mean() > 0.02
    error = (picture[..., :3] * picture[..., 3:] - colour.clip(0, 1))[inside]
    return float(-10 * np.log10(np.mean(error**2)))


def test_photo_view_equals_the_plain_rasteriser(crowd, tmp_path):
    _, avatars, camera, _ = crowd
    colour, alpha = render(join([pose_avatar(a) for a in avatars]), camera)
    picture = photograph(tmp_path)
    assert psnr_inside(picture, colour, alpha) > 45
    np.testing.assert_allclose(picture[..., 3], alpha, atol=0.05)


def test_other_poses_equal_it_too(crowd, tmp_path):
    result, avatars, camera, _ = crowd
    clouds = []
    for seed, (person, avatar) in enumerate(zip(result.people, avatars)):
        pose = random_pose(np.random.default_rng(seed + 7), seed)
        set_pose(person.rig, pose, avatar.transl, frame=2)
        clouds.append(pose_avatar(avatar, pose))
    bpy.context.scene.frame_set(2)
    colour, alpha = render(join(clouds), camera)
    assert psnr_inside(photograph(tmp_path), colour, alpha) > 45


def test_smaller_render_equals_the_rasteriser_at_that_size(crowd, tmp_path):
    _, avatars, camera, _ = crowd
    half = replace(camera, K=camera.K * [[0.5], [0.5], [1]], width=96, height=72)
    bpy.context.scene.render.resolution_percentage = 50
    colour, alpha = render(join([pose_avatar(a) for a in avatars]), half)
    assert psnr_inside(photograph(tmp_path), colour, alpha) > 40


def test_linear_mode_keeps_the_colours(crowd, tmp_path):
    _, avatars, camera, _ = crowd
    set_render_mode(bpy.context.scene, "linear")
    colour, alpha = render(join([pose_avatar(a) for a in avatars]), camera)
    assert psnr_inside(photograph(tmp_path, 16), colour, alpha) > 20


def test_russian_roulette_would_ruin_the_render(crowd, tmp_path):
    """The setting the import makes is needed: without it the render falls apart."""
    _, avatars, camera, _ = crowd
    colour, alpha = render(join([pose_avatar(a) for a in avatars]), camera)
    bpy.context.scene.cycles.min_transparent_bounces = 0
    assert psnr_inside(photograph(tmp_path), colour, alpha) < 35


def test_lit_people_follow_the_lamp(empty_blender, tmp_path):
    """A lamp from either side lights that side of a person, and one from behind nearly nothing."""
    avatar = open_body_avatar(1500, seed=1)
    grey = np.zeros_like(avatar.gaussians.sh)
    gaussians = replace(avatar.gaussians, sh=grey, opacities=np.full(1500, 0.95, np.float32))
    avatar = replace(avatar, gaussians=gaussians).with_params(
        transl=avatar.transl * np.float32([0, 1, 1])
    )
    import_scene(write_scene(tmp_path / "out", [avatar], make_camera(32, 32, off_centre=False)))
    set_lit(all_people(empty_blender)[0], True)
    lamp = bpy.data.objects.new("Sun", bpy.data.lights.new("Sun", "SUN"))
    empty_blender.collection.objects.link(lamp)
    sides = {}
    for degrees in (-60, 0, 60, 180):  # from the left of the picture, the camera, the right, behind
        lamp.rotation_euler = (np.radians(90), 0, np.radians(degrees))
        picture = photograph(tmp_path)
        light = (picture[..., :3] * picture[..., 3:]).mean(axis=2)
        sides[degrees] = light[:, :16].sum(), light[:, 16:].sum()
    (left, right), (other_left, other_right) = sides[-60], sides[60]
    assert left > 1.2 * right and other_right > 1.2 * other_left
    assert sum(sides[0]) > 1.2 * (left + right)
    assert sum(sides[180]) < 0.1 * sum(sides[0])


def backend_python() -> str | None:
    """The interpreter with the backend, if there is one."""
    named = os.environ.get("CROWDGAUSSIAN_BACKEND_PYTHON")
    python = Path(named) if named else ROOT / ".venv/backend/bin/python"
    return str(python) if python.exists() else None


need_backend = pytest.mark.skipif(
    backend_python() is None, reason="the backend is missing; run scripts/setup.sh backend"
)


@pytest.fixture
def dancers(empty_blender, tmp_path):
    """Five people with view-dependent colours, posed away from the photo -> folder of the pose."""
    camera = make_camera(160, 96)
    avatars = [dancer(seed) for seed in range(5)]
    result = import_scene(write_scene(tmp_path / "photo", avatars, camera))
    moved = [avatar.with_params(pose=2 * random_pose(np.random.default_rng(seed + 7), seed))
             for seed, avatar in enumerate(avatars)]  # fmt: skip
    for person, avatar in zip(result.people, moved):
        set_pose(person.rig, avatar.pose, avatar.transl, frame=2)
    bpy.context.scene.frame_set(2)
    return write_scene(tmp_path / "moved", moved, camera)


def dancer(seed: int) -> Avatar:
    """People side by side."""
    avatar = make_avatar(1200, degree=3, seed=seed)
    return avatar.with_params(transl=np.float32([0.75 * (seed - 2), -SOLE, -4.5 - 0.2 * seed]))


def backend_picture(folder: SceneFolder, target: Path) -> tuple[np.ndarray, np.ndarray]:
    """Colour on black and alpha by the backend's rasteriser, in its own process."""
    paths = os.pathsep.join(str(ROOT / name) for name in ("backend", "shared"))
    subprocess.run(
        [backend_python(), str(BACKEND_SCRIPT), str(folder.path), str(target)],
        check=True, env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "2"},
    )  # fmt: skip
    wanted = np.load(target)
    return wanted["colour"], wanted["alpha"]


@need_backend
def test_five_people_in_other_poses_equal_the_backends_rasteriser(dancers, tmp_path):
    colour, alpha = backend_picture(dancers, tmp_path / "reference.npz")
    found = psnr_inside(photograph(tmp_path, 16), colour, alpha)
    print(f"Cycles, 16 samples: {found:.1f} dB")
    assert found > 40


@pytest.mark.slow
@pytest.mark.skipif(
    bpy.app.version < (5, 0),
    reason="one Blender is enough for half a minute of shaders; .venv/blender-5.2 runs this",
)
@need_backend
def test_eevee_is_close_to_the_backends_rasteriser(dancers, tmp_path):
    """Blended and sorted within each person; EEVEE compiles its shaders first."""
    colour, alpha = backend_picture(dancers, tmp_path / "reference.npz")
    set_engine(bpy.context.scene, "EEVEE")
    try:
        picture = photograph(tmp_path)
    except RuntimeError as error:
        pytest.skip(f"EEVEE needs OpenGL or Vulkan ({error}); install libegl-mesa0 or a driver")
    found = psnr_inside(picture, colour, alpha)
    print(f"EEVEE: {found:.1f} dB")
    assert found > 36
