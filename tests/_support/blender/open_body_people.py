# SPDX-License-Identifier: Apache-2.0
"""A person of Gaussians on the skin of the bundled open body, made with numpy alone."""

from pathlib import Path

import numpy as np
from crowdgaussian_shared.geometry.avatar import Avatar, BodyMesh, BodyParams, Gaussians

from _support.blender.blender_people import random_pose

ROOT = Path(__file__).resolve().parents[3]
OPEN_BODY = ROOT / "backend/crowdgaussian/body/open_body.npz"


def open_body_avatar(count: int = 1000, degree: int = 0, seed: int = 0) -> Avatar:
    """Gaussians at random places of the skin of a randomly shaped body, with its weights."""
    rng = np.random.default_rng(seed)
    with np.load(OPEN_BODY, allow_pickle=False) as data:
        betas = rng.normal(0, 0.7, len(data["directions"]))
        vertices = data["template"] + np.tensordot(betas, data["directions"], 1)
        joints = data["joints"] + np.tensordot(betas, data["joint_directions"], 1)
        faces = data["faces"].astype(np.int32)
        skin_joints, weights = data["skin_joints"], data["skin_weights4"]
    face = faces[rng.integers(0, len(faces), count)]  # [N, 3]
    place = rng.dirichlet((1, 1, 1), count)
    means = np.einsum("nk,nkc->nc", place, vertices[face])
    nearest = face[np.arange(count), place.argmax(axis=1)]
    quats = rng.normal(size=(count, 4))
    gaussians = Gaussians(
        means.astype(np.float32),
        (quats / np.linalg.norm(quats, axis=1, keepdims=True)).astype(np.float32),
        np.exp(rng.uniform(np.log(3e-4), np.log(2e-2), (count, 3))).astype(np.float32),
        rng.uniform(0.1, 1.0, count).astype(np.float32),
        rng.normal(0, 0.15, (count, (degree + 1) ** 2, 3)).astype(np.float32),
    )
    body = BodyMesh(vertices.astype(np.float32), faces, skin_joints, weights)
    height = -vertices[:, 1].min()
    return Avatar(
        gaussians, skin_joints[nearest], weights[nearest], joints.astype(np.float32), body,
        BodyParams(betas.astype(np.float32), random_pose(rng, seed),
                   np.array([0.5, height, -4.0], np.float32)),
    )  # fmt: skip
