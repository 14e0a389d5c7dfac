# SPDX-License-Identifier: Apache-2.0
"""The mesh z-buffer: depth, which face is seen, normal colours, and who hides whom."""

import numpy as np
import torch
from crowdgaussian.splat import Cameras
from crowdgaussian.splat.normals import render_mesh_depth, render_normals


def _sphere(radius: float = 0.5, n: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """A latitude-longitude sphere about the origin, faces counter-clockwise from outside."""
    polar, round_ = np.meshgrid(
        np.linspace(0, np.pi, n), np.linspace(0, 2 * np.pi, 2 * n), indexing="ij"
    )
    points = (
        np.stack(
            [np.sin(polar) * np.sin(round_), np.cos(polar), np.sin(polar) * np.cos(round_)], -1
        ).reshape(-1, 3)
        * radius
    )
    a = (np.arange(n - 1)[:, None] * 2 * n + np.arange(2 * n - 1)).ravel()
    b, c, d = a + 2 * n, a + 2 * n + 1, a + 1
    return points, np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])


def _plane(z: float) -> tuple[np.ndarray, np.ndarray]:
    corners = np.array([[-1.0, -1, z], [1, -1, z], [1, 1, z], [-1, 1, z]]) * (0.4, 0.4, 1)
    return corners, np.array([[0, 1, 2], [0, 2, 3]])


def test_depth_of_a_sphere_is_that_of_its_equation() -> None:
    vertices, faces = _sphere()
    camera = Cameras.orbit((0, 0, 0), 2.0, 1, size=(90, 70)).to_cameras()[0]
    depth, index = render_mesh_depth(vertices, faces, camera)
    assert depth.dtype == np.float32 and index.dtype == np.int32
    assert np.array_equal(np.isfinite(depth), index >= 0) and (index >= -1).all()
    ys, xs = np.nonzero(index >= 0)
    rays = np.stack(
        [
            (xs + 0.5 - camera.K[0, 2]) / camera.K[0, 0],
            (ys + 0.5 - camera.K[1, 2]) / camera.K[1, 1],
            np.ones(len(xs)),
        ],
        -1,
    )
    points = rays * depth[ys, xs][:, None] - (0, 0, 2.0)
    assert np.abs(np.linalg.norm(points, axis=1) - 0.5).max() < 2e-3
    area = np.pi * (camera.K[0, 0] * 0.5) ** 2 / (2.0**2 - 0.5**2)
    assert abs(len(xs) - area) < 0.02 * area


def test_every_pixel_of_two_triangles_with_a_common_edge_is_covered() -> None:
    vertices, faces = _plane(0.0)
    camera = Cameras.orbit((0, 0, 0), 1.0, 1, fov=0.5, size=33).to_cameras()[0]
    depth, index = render_mesh_depth(torch.tensor(vertices), torch.tensor(faces), camera)
    assert np.allclose(depth, 1.0) and set(np.unique(index)) == {0, 1}


def test_normals_are_coded_x_right_y_up_z_to_the_camera() -> None:
    vertices, faces = _sphere()
    maps = render_normals(vertices, faces, Cameras.orbit((0, 0, 0), 3.0, 3, size=61))
    assert maps.normals.shape == (3, 61, 61, 3)
    for normals, mask in zip(maps.normals, maps.mask, strict=True):
        assert np.allclose(normals[30, 30], (0.5, 0.5, 1.0), atol=0.02)
        ys, xs = np.nonzero(mask)
        assert normals[30, xs.max(), 0] > 0.9 and normals[30, xs.min(), 0] < 0.1
        assert normals[ys.min(), 30, 1] > 0.9 and normals[ys.max(), 30, 1] < 0.1
        length = np.linalg.norm(2 * normals[mask] - 1, axis=1)
        assert np.abs(length - 1).max() < 1e-5 and not normals[~mask].any()


def test_the_nearer_of_two_bodies_is_seen() -> None:
    vertices, faces = _sphere(0.3)
    bodies = np.stack([vertices, vertices + (0.2, 0, 1.0), vertices + (-5, 0, 0)])
    front, back = Cameras.orbit((0, 0, 0), 4.0, 2, size=80), (0, 1)
    maps = render_normals(torch.from_numpy(bodies), faces, front)
    seen = [set(np.unique(maps.body[k])) for k in back]
    assert seen == [{-1, 0, 1}, {-1, 0, 1}]
    assert maps.body[0, 40, 44] == 1 and maps.body[1, 40, 38] == 0
    assert maps.depth[0, 40, 44] < 3.0 and np.isinf(maps.depth[0, 0, 0])


def test_faces_behind_the_camera_are_left_out() -> None:
    vertices, faces = _plane(0.0)
    camera = Cameras.orbit((0, 0, -3.0), 1.0, 1, size=20).to_cameras()[0]
    depth, index = render_mesh_depth(vertices, faces, camera)
    assert np.isinf(depth).all() and (index == -1).all()
