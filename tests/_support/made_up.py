# SPDX-License-Identifier: Apache-2.0
"""Small made-up people and clouds for the tests of shared/, and what they must hold."""

import numpy as np
from crowdgaussian_shared.geometry.avatar import (
    MATERIALS,
    Avatar,
    BodyMesh,
    BodyParams,
    Gaussians,
    Materials,
)
from crowdgaussian_shared.geometry.rotations import quat_normalize


def make_gaussians(count: int, degree: int = 3, seed: int = 0) -> Gaussians:
    rng = np.random.default_rng(seed)
    return Gaussians(
        means=rng.normal(size=(count, 3)).astype(np.float32),
        quats=quat_normalize(rng.normal(size=(count, 4))).astype(np.float32),
        scales=np.exp(rng.normal(-4, 1, size=(count, 3))).astype(np.float32),
        opacities=rng.uniform(0.01, 0.99, size=count).astype(np.float32),
        sh=rng.normal(size=(count, (degree + 1) ** 2, 3)).astype(np.float32),
    )


def make_skin(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    joints = rng.integers(0, 55, size=(count, 4)).astype(np.uint8)
    return joints, rng.dirichlet(np.ones(4), size=count).astype(np.float32)


def make_avatar(count: int = 40, degree: int = 1, seed: int = 0) -> Avatar:
    rng = np.random.default_rng(seed)
    joints, weights = make_skin(count, seed)
    body_joints, body_weights = make_skin(12, seed + 1)
    return Avatar(
        gaussians=make_gaussians(count, degree, seed),
        skin_joints=joints,
        skin_weights=weights,
        rest_joints=rng.normal(size=(55, 3)).astype(np.float32),
        body=BodyMesh(
            vertices=rng.normal(size=(12, 3)).astype(np.float32),
            faces=rng.integers(0, 12, size=(20, 3)).astype(np.int32),
            skin_joints=body_joints,
            skin_weights=body_weights,
        ),
        params=BodyParams(
            pose=rng.normal(0, 0.3, size=(55, 3)).astype(np.float32),
            transl=np.array([0.5, 0.0, -3.0], dtype=np.float32),
            betas=rng.normal(size=10).astype(np.float32),
            scale=1.02,
        ),
    )


def make_materials(count: int = 40, seed: int = 0) -> Materials:
    rng = np.random.default_rng(seed)
    label = rng.integers(0, len(MATERIALS), count).astype(np.uint8)
    return Materials(label, rng.uniform(0, 1, count).astype(np.float32))


def covariances(gaussians: Gaussians) -> np.ndarray:
    """[N, 3, 3] float64, computed independently of the code under test."""
    w, x, y, z = gaussians.quats.astype(np.float64).T
    columns = [
        [w * w + x * x - y * y - z * z, 2 * (x * y + w * z), 2 * (x * z - w * y)],
        [2 * (x * y - w * z), w * w - x * x + y * y - z * z, 2 * (y * z + w * x)],
        [2 * (x * z + w * y), 2 * (y * z - w * x), w * w - x * x - y * y + z * z],
    ]
    axes = np.moveaxis(np.array(columns), (0, 1, 2), (2, 1, 0))  # [N, 3, 3]
    scaled = axes * gaussians.scales[:, None, :].astype(np.float64)
    return scaled @ scaled.transpose(0, 2, 1)
