# SPDX-License-Identifier: Apache-2.0
"""Cameras: looking at the target, cropping and resizing so that points keep their place."""

import math

import numpy as np
import pytest
import torch
from crowdgaussian.splat import Cameras
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.geometry.camera import Camera

TARGET = (0.4, 1.1, -2.0)


def _pixels(cameras: Cameras, point: tuple[float, float, float]) -> torch.Tensor:
    """Where each camera sees a scene point, and its depth.  # [C, 3]"""
    homogeneous = torch.tensor([*point, 1.0])
    seen = (cameras.viewmats @ homogeneous)[:, :3]
    image = (cameras.Ks @ seen[:, :, None])[:, :, 0]
    return torch.cat([image[:, :2] / image[:, 2:], seen[:, 2:]], 1)


@pytest.mark.parametrize(
    "cameras",
    [
        Cameras.orbit(TARGET, 3.0, 7, elevation=0.4, size=(80, 60)),
        Cameras.hemisphere(TARGET, 3.0, 20, size=(80, 60)),
    ],
)
def test_every_view_sees_the_target_in_the_middle_and_up_is_up(cameras: Cameras) -> None:
    expected = torch.tensor([40.0, 30.0, 3.0]).expand(len(cameras), 3)
    torch.testing.assert_close(_pixels(cameras, TARGET), expected, rtol=0, atol=1e-3)
    above = _pixels(cameras, (TARGET[0], TARGET[1] + 0.1, TARGET[2]))
    assert (above[:, 1] < 30).all() and torch.allclose(above[:, 0], torch.tensor(40.0), atol=1e-3)
    rotation = cameras.viewmats[:, :3, :3]
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).expand_as(rotation))
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(len(cameras)))


def test_an_orbit_starts_in_front_and_goes_round_to_the_left_hand() -> None:
    centers = Cameras.orbit((0, 1, 0), 2.0, 4).centers
    expected = torch.tensor([[0.0, 1, 2], [2, 1, 0], [0, 1, -2], [-2, 1, 0]])
    torch.testing.assert_close(centers, expected, rtol=0, atol=1e-5)


def test_the_left_hand_of_somebody_facing_the_camera_is_on_the_right_of_the_picture() -> None:
    assert _pixels(Cameras.orbit((0, 1, 0), 2.0, 1, size=64), (0.5, 1, 0))[0, 0] > 32


def test_a_hemisphere_stays_between_its_elevations() -> None:
    cameras = Cameras.hemisphere((0, 0, 0), 1.0, 50, elevations=(0.2, 1.0))
    heights = torch.asin(cameras.centers[:, 1])
    assert heights.min() > 0.2 and heights.max() < 1.0


def test_field_of_view_is_vertical() -> None:
    K = Cameras.orbit((0, 0, 0), 1.0, 1, fov=1.0, size=(300, 200)).Ks[0]
    assert float(100 / K[1, 1]) == pytest.approx(math.tan(0.5))


def test_crop_and_resize_keep_what_a_pixel_sees() -> None:
    camera = Camera(np.array([[500.0, 0, 310], [0, 510, 220], [0, 0, 1]]), np.eye(4), 640, 480)
    cameras, point = Cameras.from_cameras([camera, camera]), (0.3, -0.2, 4.0)
    before = _pixels(cameras, point)
    after = _pixels(cameras.crop(100, 50, 200, 300).resize(100, 75), point)
    torch.testing.assert_close(after[:, 0], (before[:, 0] - 100) / 2)
    torch.testing.assert_close(after[:, 1], (before[:, 1] - 50) / 4)
    back = cameras[1].to_cameras()
    assert len(back) == 1 and np.allclose(back[0].K, camera.K) and back[0].width == 640


def test_cameras_of_different_sizes_do_not_go_together() -> None:
    small, large = (Camera(np.eye(3), np.eye(4), size, 10) for size in (10, 20))
    with pytest.raises(CrowdGaussianError, match="one common image size"):
        Cameras.from_cameras([small, large])


def test_framed_cameras_show_the_points_and_little_else():
    points = torch.rand(50, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    rings = [Cameras.orbit((0, 0, 0), 5.0, count, size=64) for count in (2, 3)]
    cameras = Cameras.joined(rings)
    assert len(cameras) == 5 and torch.equal(cameras.viewmats[2:], rings[1].viewmats)
    framed = cameras.framed(points, 1.25)
    local = framed.viewmats[:, :3, :3] @ points.T + framed.viewmats[:, :3, 3:]
    pixels = (framed.Ks @ local)[:, :2] / local[:, 2:]
    low, high = pixels.amin(-1), pixels.amax(-1)
    assert torch.allclose((high - low).amax(1), torch.full((5,), 64 / 1.25), atol=1e-3)
    assert torch.allclose((low + high) / 2, torch.full((5, 2), 32.0), atol=1e-3), "in the middle"
