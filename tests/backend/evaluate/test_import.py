# SPDX-License-Identifier: Apache-2.0
"""Results of other systems: read, aligned by a similarity, and rendered like the person."""

from dataclasses import replace

import numpy as np
import pytest
import trimesh
from _support.avatar_scene import paint
from crowdgaussian.body import load_body
from crowdgaussian.core.mesh import Similarity, align, axes_rotation, umeyama
from crowdgaussian.evaluate.systems import (
    Axes,
    find_result,
    moved,
    onto_person,
    read_result,
    surface_gaussians,
)
from crowdgaussian.splat import Cameras, Splats, rasterize
from crowdgaussian.splat.normals import render_mesh_depth
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.formats.splat_ply import write_splat_ply
from crowdgaussian_shared.geometry.axes import convert_gaussians
from crowdgaussian_shared.geometry.rotations import axis_angle_to_matrix
from PIL import Image
from scipy.spatial import cKDTree

TO_CAMERA = np.array([0.0, 0.1, 1.0])


@pytest.fixture(scope="module")
def scene():
    return paint(load_body("open"), 240, 320)


@pytest.fixture(scope="module")
def surface(scene):
    return scene.posed.pose_points(scene.posed.rest)


def other_frame(turn=(0.05, 0.3, -0.04), scale=0.37):
    return Similarity(scale, axis_angle_to_matrix(np.array(turn)), np.array([4.0, -2, 0.7]))


def test_umeyama_is_exact_and_never_mirrors():
    points = np.random.default_rng(0).normal(size=(40, 3))
    wanted = other_frame()
    found = umeyama(points, wanted(points))
    assert found.scale == pytest.approx(wanted.scale)
    assert np.allclose(found.rotation, wanted.rotation) and np.allclose(found.shift, wanted.shift)
    mirrored = umeyama(points, points * (-1, 1, 1))
    assert np.linalg.det(mirrored.rotation) == pytest.approx(1)
    assert np.allclose(found.after(wanted)(points), found(wanted(points)))


def test_axes():
    rotation = axes_rotation(*Axes("-y", "-z").vectors(), np.array([1.0, 5.0, 0]))
    assert np.allclose(rotation @ (0, -1, 0), (0, 1, 0))  # the height of the camera is no matter
    assert np.allclose(rotation @ (0, 0, -1), (1, 0, 0))
    for wrong in (Axes("y", "-y"), Axes("up", "z")):
        with pytest.raises(CrowdGaussianError, match="are no axes"):
            wrong.vectors()


def test_a_result_in_any_frame_comes_to_lie_on_the_person(surface):
    """Points that are not the body's own vertices, of clothes 1 cm off it, turned and shrunk."""
    rng = np.random.default_rng(1)
    there = surface[rng.permutation(len(surface))[:5000]]
    clothed = there + rng.normal(0, 0.004, there.shape)
    frame = other_frame()
    source = frame(clothed)
    found, error = align(source, surface, np.eye(3))
    assert np.linalg.norm(found(source) - clothed, axis=1).max() < 0.01
    assert error < 0.02
    rotation = found.rotation @ frame.rotation
    assert np.allclose(rotation, np.eye(3), atol=0.01)


def picture(gaussians, scene):
    """The person on white, from the photo's camera."""
    render = rasterize(Splats.from_gaussians(gaussians), Cameras.from_cameras(scene.camera))
    alpha = render.alpha[0].numpy()
    return render.color[0].numpy() + 1 - alpha[..., None], alpha


def painted_mesh(scene, surface):
    """The person as a mesh with colours at the vertices: red above, blue below."""
    colours = np.zeros((len(surface), 4), np.uint8)
    colours[:, 3] = 255
    top = surface[:, 1] > np.median(surface[:, 1])
    colours[top, 0], colours[~top, 2] = 200, 200
    return trimesh.Trimesh(surface, scene.posed.faces, vertex_colors=colours, process=False)


@pytest.mark.parametrize("suffix", [".obj", ".glb", ".ply"])
def test_files_look_like_the_person(tmp_path, scene, surface, suffix):
    path = tmp_path / f"ann_40{suffix}"
    mesh, frame = painted_mesh(scene, surface), other_frame((0, 0.2, 0))
    if suffix == ".ply":
        points, faces = trimesh.sample.sample_surface(mesh, 20000, seed=1)
        colours = mesh.visual.face_colors[faces][:, :3] / 255
        spacing = np.sqrt(mesh.area / len(points))
        splats = surface_gaussians(points, mesh.face_normals[faces], colours, spacing)
        write_splat_ply(path, convert_gaussians(moved(splats, frame), "scene", "opencv"))
        axes = Axes("-y", "-z")
    else:
        mesh.vertices = frame(mesh.vertices)
        mesh.export(path)
        axes = Axes("y", "z")
    assert find_result(tmp_path, "ann", "40") == path
    laid, error = onto_person(read_result(path), surface, axes, TO_CAMERA)
    assert error < 0.02
    colour, alpha = picture(laid, scene)
    drawn = alpha > 0.5
    _, face = render_mesh_depth(surface.astype(np.float32), scene.posed.faces, scene.camera)
    true = np.asarray(face) >= 0  # splats are soft: half a pixel more on every side
    assert (drawn & true).sum() / (drawn | true).sum() > 0.85
    assert cKDTree(surface).query(laid.means)[0].mean() < 0.01
    middle = np.flatnonzero(drawn.any(1))
    head, feet = colour[middle[3]][drawn[middle[3]]], colour[middle[-4]][drawn[middle[-4]]]
    assert head[:, 0].mean() > 0.6 > 0.2 > head[:, 2].mean()
    assert feet[:, 2].mean() > 0.6 > 0.2 > feet[:, 0].mean()


def test_a_texture_gives_the_colours(tmp_path):
    """Upper half green: v counts upwards."""
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4, :, 1], pixels[4:, :, 0] = 250, 250
    corners = np.array([[0, 0, 0], [1, 0, 0], [1, 2, 0], [0, 2, 0.0]])
    uv = corners[:, :2] / (1, 2)
    visual = trimesh.visual.TextureVisuals(uv=uv, image=Image.fromarray(pixels))
    quad = trimesh.Trimesh(corners, [[0, 1, 2], [0, 2, 3]], visual=visual, process=False)
    quad.export(tmp_path / "quad.glb")
    found = read_result(tmp_path / "quad.glb")
    rgb = found.sh[:, 0] * 0.28209479 + 0.5
    above = found.means[:, 1] > 1
    assert np.allclose(rgb[above], (0, 250 / 255, 0), atol=0.02)
    assert np.allclose(rgb[~above], (250 / 255, 0, 0), atol=0.02)
    flat = np.sort(found.scales, axis=1)
    assert (flat[:, 0] < 0.2 * flat[:, 1]).all()


def test_bad_results_are_one_sentence(tmp_path):
    (tmp_path / "a_20.obj").write_text("v 0 0 0\n")
    (tmp_path / "b_20.glb").write_bytes(b"glTF nonsense")
    (tmp_path / "c_20.ply").write_bytes(b"ply\nnonsense")
    for call in (
        lambda: read_result(tmp_path / "a_20.obj"),
        lambda: read_result(tmp_path / "b_20.glb"),
        lambda: read_result(tmp_path / "c_20.ply"),
        lambda: read_result(tmp_path / "d.fbx"),
        lambda: find_result(tmp_path, "nobody", "20"),
    ):
        with pytest.raises(CrowdGaussianError) as caught:
            call()
        assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_moving_splats_keeps_their_look(scene, surface):
    mesh = painted_mesh(scene, surface)
    points, faces = trimesh.sample.sample_surface(mesh, 3000, seed=1)
    splats = surface_gaussians(
        points, mesh.face_normals[faces], mesh.visual.face_colors[faces][:, :3] / 255, 0.03
    )
    there = moved(splats, other_frame())
    back = moved(there, umeyama(there.means.astype(np.float64), points))
    for name in ("means", "scales"):
        assert np.allclose(getattr(back, name), getattr(splats, name), atol=1e-4)
    assert np.allclose(np.abs((back.quats * splats.quats).sum(1)), 1, atol=1e-4)
    assert np.allclose(
        picture(replace(back, sh=splats.sh), scene)[0], picture(splats, scene)[0], atol=0.02
    )
