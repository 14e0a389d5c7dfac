# SPDX-License-Identifier: Apache-2.0
"""Posing in torch against the numpy reference, the harmonics through the colours they give."""

import numpy as np
import pytest
import torch
from _support.splat_scenes import skin_splats
from crowdgaussian.core.rotations import polar_rotations
from crowdgaussian.splat import Cameras, Splats, rasterize
from crowdgaussian.splat.reference import covariances, sh_colors
from crowdgaussian_shared.geometry import skinning as shared
from crowdgaussian_shared.geometry.avatar import Gaussians
from crowdgaussian_shared.geometry.rotations import polar_rotation

COUNT = 200


def _person(degree: int) -> tuple[Gaussians, np.ndarray, np.ndarray, np.ndarray]:
    make = np.random.default_rng(5)
    quats = make.normal(size=(COUNT, 4))
    gaussians = Gaussians(
        make.normal(size=(COUNT, 3)) * 0.4,
        quats / np.linalg.norm(quats, axis=1, keepdims=True),
        np.exp(make.normal(size=(COUNT, 3)) * 0.4 - 3),
        make.uniform(0.2, 1, COUNT),
        make.normal(size=(COUNT, (degree + 1) ** 2, 3)) * 0.3,
    )
    joints = make.integers(0, 55, (COUNT, 4)).astype(np.uint8)
    weights = make.dirichlet((3, 1, 1, 1), COUNT)
    pose = make.normal(size=(55, 3)) * 0.15
    rest = make.normal(size=(55, 3)) * 0.3
    return gaussians, joints, weights, shared.joint_transforms(rest, pose, np.array([1.0, 0, 2]))


def _in_torch(gaussians: Gaussians, *arrays: np.ndarray) -> tuple[Splats, list[torch.Tensor]]:
    splats = Splats(
        *(
            torch.from_numpy(getattr(gaussians, name))
            for name in ("means", "opacities", "sh", "quats", "scales")
        )
    )
    return splats, [torch.from_numpy(array) for array in arrays]


@pytest.mark.parametrize("degree", [0, 3])
def test_posing_matches_the_numpy_reference(degree: int) -> None:
    gaussians, joints, weights, transforms = _person(degree)
    splats, tensors = _in_torch(gaussians, joints, weights, transforms)
    ours = skin_splats(splats, *tensors)
    expected, _ = _in_torch(shared.skin_gaussians(gaussians, joints, weights, transforms))
    torch.testing.assert_close(ours.means, expected.means, rtol=0, atol=1e-9)
    torch.testing.assert_close(ours.covars, covariances(expected), rtol=0, atol=1e-9)
    eye = torch.tensor([0.3, 1.0, 4.0], dtype=torch.float64)
    torch.testing.assert_close(sh_colors(ours, eye), sh_colors(expected, eye), rtol=0, atol=1e-6)


def test_posed_colours_render_like_those_of_the_reference() -> None:
    gaussians, joints, weights, transforms = _person(2)
    splats, tensors = _in_torch(gaussians, joints, weights, transforms)
    expected, _ = _in_torch(shared.skin_gaussians(gaussians, joints, weights, transforms))
    cameras = Cameras.orbit((1, 0, 2), 3.0, 2, size=40)
    ours = rasterize(skin_splats(splats, *tensors).to(torch.float32), cameras)
    twin = rasterize(expected.to(torch.float32), cameras)
    torch.testing.assert_close(ours.color, twin.color, rtol=0, atol=1e-3)


def test_the_polar_rotation_is_that_of_the_svd_even_when_squashed_or_mirrored() -> None:
    matrices = np.random.default_rng(0).normal(size=(300, 3, 3))
    ours = polar_rotations(torch.from_numpy(matrices)).numpy()
    assert np.abs(ours - polar_rotation(matrices)).max() < 1e-6


def test_gradients_reach_every_input() -> None:
    gaussians, joints, weights, transforms = _person(1)
    splats, tensors = _in_torch(gaussians, joints, weights, transforms)
    some = slice(0, 2)
    index = tensors[0][some] % 3

    def pose(means, quats, scales, weights, transforms):  # noqa: ANN001, ANN202
        posed = skin_splats(
            Splats(means, splats.opacities[some], splats.sh[some], quats, scales),
            index,
            weights,
            transforms,
        )
        return posed.means, posed.covars, posed.sh_frames

    inputs = (
        splats.means[some],
        splats.quats[some],
        splats.scales[some],
        tensors[1][some],
        tensors[2][:3],
    )
    leaves = [value.clone().requires_grad_() for value in inputs]
    assert torch.autograd.gradcheck(pose, leaves, atol=1e-4)
