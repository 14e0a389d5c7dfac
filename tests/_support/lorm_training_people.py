# SPDX-License-Identifier: Apache-2.0
"""A very small network and a few painted people to train it on."""

import json
from pathlib import Path

import numpy as np
import torch
from crowdgaussian.body import BodyModel
from crowdgaussian.lorm.model.config import HeadEncoderConfig, LormConfig
from crowdgaussian.lorm.model.encoders import PatchEncoder
from crowdgaussian.lorm.model.lorm import LormModel
from crowdgaussian.lorm.model.query_points import TemplateMesh, sample_points
from crowdgaussian.lorm.training.dataset import InputSizes
from crowdgaussian.lorm.training.distill import LormTraining
from crowdgaussian.lorm.training.occlusion import OcclusionConfig
from crowdgaussian.splat.cameras import Cameras
from crowdgaussian.splat.normals import render_normals
from PIL import Image

HEAD = HeadEncoderConfig(depth=2, width=32, heads=2, patch=8, grid=4, mlp=64, image=32, taps=(0, 1))
SIZES = InputSizes((40, 24), 32)


def very_small(body: BodyModel, seed: int = 0) -> LormModel:
    """A network of random weights whose Gaussians can be seen."""
    torch.manual_seed(seed)
    config = LormConfig(
        width=32,
        heads=2,
        layers=2,
        num_points=160,
        cond_dim=32,
        body_tokens=15,
        motion_hidden=16,
        decoder_hidden=32,
        num_betas=body.num_betas,
        upper_scale_clip=0.05,
        head_encoder=HEAD,
    )
    points = sample_points(TemplateMesh.from_body(body), config.num_points)
    model = LormModel(config, points, PatchEncoder((40, 24), 8, 32, depth=1, heads=2))
    layers = model.renderer.gs_net.out_layers
    with torch.no_grad():
        for name, parameter in model.transformer.named_parameters():
            if "norm1" in name and name.endswith("bias"):
                parameter.add_(1.0)  # open the gates, so that the picture matters
        for layer in model.renderer.mlp_net.layers[::2]:
            layer.weight.mul_(2.5)
        torch.nn.init.normal_(layers["shs"].weight, std=1.5)
        layers["scaling"].bias.fill_(-3.2)
        torch.nn.init.normal_(layers["opacity"].weight, std=1.0)
    return model.eval()


def quick(**changes) -> LormTraining:
    """Settings of a training that takes a second."""
    settings = {
        "steps": 6,
        "batch": 2,
        "views_per_step": 2,
        "render_size": 32,
        "lr": 1e-2,
        "warmup": 1,
        "rank": 4,
        "occlusions": 2,
        "save_every": 3,
        "sample_every": 6,
        "sizes": SIZES,
        "occlusion": OcclusionConfig(ellipse_radii=(0.1, 0.2)),
    }
    return LormTraining(**(settings | changes))


def write_people(folder: Path, body: BodyModel, count: int = 3) -> Path:
    """The normals of differently shaped bodies as pictures, in the project's layout."""
    for index in range(count):
        rng = np.random.default_rng(index)
        betas = torch.from_numpy(rng.normal(0, 0.5, body.num_betas)).float()
        pose = torch.zeros(55, 3)
        pose[16, 2], pose[17, 2] = -0.7, 0.7
        output = body(betas[None], pose[None], torch.zeros(1, 3))
        vertices = output.vertices[0]
        view = Cameras.orbit((vertices.amax(0) + vertices.amin(0)) / 2, 3.2, 1, size=96)
        maps = render_normals(vertices, body.faces, view)
        camera = view.to_cameras()[0]
        place = folder / f"person_{index}"
        place.mkdir(parents=True)
        Image.fromarray((maps.normals[0] * 255).astype(np.uint8)).save(place / "image.png")
        Image.fromarray(maps.mask[0].astype(np.uint8) * 255).save(place / "mask.png")
        about = {
            "betas": betas.tolist(),
            "pose": pose.tolist(),
            "transl": [0, 0, 0],
            "camera": {"K": camera.K.tolist(), "viewmat": camera.viewmat.tolist()},
        }
        (place / "person.json").write_text(json.dumps(about), encoding="utf-8")
    return folder
