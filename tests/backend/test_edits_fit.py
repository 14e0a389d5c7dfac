# SPDX-License-Identifier: Apache-2.0
"""Corrections with the real stages: a corrected arm fits the photo better."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from avatar_scene import crowd_of, paint
from crowdgaussian import pipeline
from crowdgaussian.body.load import load_body
from crowdgaussian.config import configured
from crowdgaussian.metrics import masked_psnr
from crowdgaussian.pipeline import Job, reconstruct
from crowdgaussian.splat.cameras import Cameras
from crowdgaussian.splat.rasterize import rasterize
from crowdgaussian.splat.splats import Splats
from crowdgaussian.stages import Stages, load_stage
from crowdgaussian_shared.scene_edit import PoseEdit, SceneEdit, SceneEdits
from crowdgaussian_shared.skeleton import JOINT_INDEX
from crowdgaussian_shared.skinning import pose_avatar
from PIL import Image

SMALL = {"avatar.gaussians": "3000", "avatar.colour_steps": "15"}


@dataclass
class WrongArm:
    """A people stage that has one arm pointing up where the photo has it down."""

    scene: object

    def estimate(self, photo, focal_px, report):
        parameters = self.scene.parameters
        pose = parameters.pose.copy()
        pose[JOINT_INDEX["left_shoulder"]] = 0, 0, 0.8
        return crowd_of(self.scene, replace(parameters, pose=pose))


def psnr(folder, scene):
    """Of the render against the photo, where the photo shows the person."""
    splats = Splats.from_gaussians(pose_avatar(folder.read_avatar(0)))
    with torch.no_grad():
        render = rasterize(splats, Cameras.from_cameras(scene.camera))
    photo = torch.from_numpy(scene.photo / 255.0)[None].float()
    return float(masked_psnr(render.color.clamp(0, 1), photo, torch.from_numpy(scene.mask)[None]))


def test_a_corrected_arm_fits_the_photo_better(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "files_for", lambda config: [])
    body = load_body()
    scene = paint(body, 168, 224)
    photo = tmp_path / "photo.png"
    Image.fromarray(scene.photo).save(photo)

    def stages(config):
        return Stages(body, WrongArm(scene), load_stage("segment", config, body),
                      load_stage("avatar", config, body), lambda *_: {})

    job = Job(photo, tmp_path / "base", configured("open", SMALL))
    base = reconstruct(job, make_stages=stages)
    truth = PoseEdit(scene.parameters.pose, scene.parameters.transl)
    edits = SceneEdits((SceneEdit({0: truth}),))
    refit = reconstruct(replace(job, out=tmp_path / "out", base=base.path, edits=edits),
                        make_stages=stages)
    np.testing.assert_allclose(refit.read_avatar(0).pose, scene.parameters.pose, atol=1e-6)
    before, after = psnr(base, scene), psnr(refit, scene)
    print(f"PSNR in the mask: {before:.1f} dB before, {after:.1f} dB after")
    assert after > before + 3
