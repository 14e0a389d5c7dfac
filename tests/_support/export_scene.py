# SPDX-License-Identifier: Apache-2.0
"""A scene folder of two made-up people, for the exports: degree 3, a plausible skeleton."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from crowdgaussian_shared.geometry.avatar import Avatar, BodyMesh, BodyParams, Gaussians
from crowdgaussian_shared.geometry.axes import camera_at_origin
from crowdgaussian_shared.geometry.camera import intrinsics
from crowdgaussian_shared.geometry.rotations import quat_normalize
from crowdgaussian_shared.motion.kinematics import adult_joints
from crowdgaussian_shared.scene.folder import SceneFolder
from crowdgaussian_shared.scene.schema import CameraInfo, PersonEntry, PhotoInfo, SceneInfo

from _support.made_up import make_materials


def make_avatar(seed: int, count: int = 300) -> Avatar:
    rng = np.random.default_rng(seed)
    joints = rng.integers(0, 55, (count, 4)).astype(np.uint8)
    weights = rng.dirichlet(np.ones(4), count).astype(np.float32)
    cloud = Gaussians(
        rng.normal(size=(count, 3)).astype(np.float32),
        quat_normalize(rng.normal(size=(count, 4))).astype(np.float32),
        np.exp(rng.normal(-4, 0.7, (count, 3))).astype(np.float32),
        rng.uniform(0.05, 0.95, count).astype(np.float32),
        rng.normal(0, 0.25, (count, 16, 3)).astype(np.float32),
    )
    body = BodyMesh(
        rng.normal(size=(4, 3)).astype(np.float32),
        np.array([[0, 1, 2], [0, 2, 3]], np.int32),
        joints[:4],
        weights[:4],
    )
    return Avatar(
        cloud,
        joints,
        weights,
        adult_joints().astype(np.float32),
        body,
        BodyParams(
            np.zeros(10, np.float32),
            rng.normal(0, 0.2, (55, 3)).astype(np.float32),
            np.array([seed, 0, -4], np.float32),
        ),
    )


def make_scene(path: Path) -> SceneFolder:
    """Of the second person it is known what they wear."""
    camera = CameraInfo(intrinsics(14.0, 16, 12), camera_at_origin(), 16, 12)
    info = SceneInfo(PhotoInfo("", 16, 12, "a.jpg"), camera, people=(PersonEntry(),) * 2)
    folder = SceneFolder.create(path, b"photo", ".jpg", info)
    avatars = make_avatar(0), replace(make_avatar(1), materials=make_materials(300))
    for index, avatar in enumerate(avatars):
        folder.write_avatar(index, avatar)
        folder.update_person(index, state="done")
    return folder
