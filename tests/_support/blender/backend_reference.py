# SPDX-License-Identifier: Apache-2.0
"""Run by the backend's Python: a scene folder's people from the photo's camera, as .npz.

usage: python backend_reference.py SCENE_FOLDER TARGET.npz
"""

import sys

import numpy as np
import torch
from crowdgaussian.splat import Cameras, Splats, rasterize
from crowdgaussian_shared.geometry.avatar import Gaussians
from crowdgaussian_shared.geometry.skinning import pose_avatar
from crowdgaussian_shared.scene.folder import SceneFolder


def main(scene: str, target: str) -> None:
    folder = SceneFolder.open(scene)
    clouds = [pose_avatar(folder.read_avatar(i)) for i in range(len(folder.info.people))]
    names = ("means", "quats", "scales", "opacities", "sh")
    together = Gaussians(*(np.concatenate([getattr(c, name) for c in clouds]) for name in names))
    cameras = Cameras.from_cameras(folder.info.camera.to_camera())
    with torch.no_grad():
        seen = rasterize(Splats.from_gaussians(together), cameras)
    np.savez(target, colour=seen.color[0].numpy(), alpha=seen.alpha[0].numpy())


if __name__ == "__main__":
    main(*sys.argv[1:])
