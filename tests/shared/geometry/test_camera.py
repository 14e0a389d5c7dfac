# SPDX-License-Identifier: Apache-2.0
"""Projection: there and back, in numpy as in torch, and what is not in front of the camera."""

import numpy as np
import pytest
from crowdgaussian_shared.geometry.axes import scene_viewmat
from crowdgaussian_shared.geometry.camera import NEAR, Camera


@pytest.fixture
def camera() -> Camera:
    K = np.array([[900.0, 0.0, 330.0], [0.0, 880.0, 250.0], [0.0, 0.0, 1.0]])
    return Camera(K, scene_viewmat(1.5, 0.2, -0.05), 640, 480)


def test_rays_undo_projection(camera):
    points = np.random.default_rng(0).uniform([-2, 0, -9], [2, 2, -3], (50, 3))
    pixels, depth = camera.project(points)
    np.testing.assert_allclose(
        camera.rays(pixels) * depth[:, None], camera.to_camera(points), atol=1e-12
    )


def test_the_eye_is_where_depth_is_zero(camera):
    np.testing.assert_allclose(camera.to_camera(camera.eye), 0.0, atol=1e-12)
    np.testing.assert_allclose(camera.eye, [0.0, 1.5, 0.0], atol=1e-12)


def test_what_is_behind_lands_far_out_on_its_own_side(camera):
    behind = camera.eye + camera.rotation.T @ [[0.3], [0.0], [-1.0]] @ [1.0]
    pixels, depth = camera.project(behind[None])
    assert depth == [NEAR]
    assert pixels[0, 0] > camera.width and pixels[0, 1] == pytest.approx(250.0)


def test_torch_projects_as_numpy_does(camera):
    torch = pytest.importorskip("torch", reason="torch is missing; .venv/backend runs this test")
    cameras = pytest.importorskip(
        "crowdgaussian.splat.cameras", reason="the backend is missing; .venv/backend runs this"
    )
    points = np.random.default_rng(1).uniform([-2, 0, -9], [2, 2, 3], (80, 3))
    expected, _ = camera.project(points)
    given = (torch.as_tensor(array) for array in (points, camera.K, camera.viewmat))
    np.testing.assert_allclose(cameras.project(*given).numpy(), expected, rtol=1e-12)
    several = cameras.Cameras.from_cameras([camera, camera])
    drawn = several.project(torch.as_tensor(points, dtype=torch.float32))
    np.testing.assert_allclose(drawn[1].numpy(), expected, rtol=2e-3, atol=2e-3)
