# SPDX-License-Identifier: Apache-2.0
"""A small LHM with random weights as the files that a user would have, on the open body."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from crowdgaussian.body import BodyModel, load_body
from crowdgaussian.lorm.checkpoint import BODY, LAYER, load_lorm
from crowdgaussian.lorm.model.adapters import add_adapters, save_adapters
from crowdgaussian.lorm.model.config import LormConfig
from crowdgaussian.lorm.model.query_points import TemplateMesh, sample_points
from crowdgaussian.lorm.weights import LormStageConfig
from crowdgaussian_shared.geometry.skeleton import PARENTS

from _support.lorm_made_up import SMALL, VOXELS, dtype_of, shapes_of, write_checkpoint, write_points

BETAS = 10


class TinySapiens(torch.nn.Module):
    """The interface of the Sapiens file: [B, 3, 1024, 1024] -> ([B, C, 64, 64],)."""

    def __init__(self, channels: int):
        super().__init__()
        self.embed = torch.nn.Conv2d(3, channels, 16, 16)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.embed(images),)


def small_lorm_settings(folder: Path) -> list[str]:
    """NAME=VALUE of settings for a small network in `folder` with adapters that change it."""
    stage = write_small_lorm(folder / "lhm", load_body("open"))
    model = load_lorm(stage.weights, points=stage.points)
    torch.manual_seed(1)
    for parameter in add_adapters(model, rank=2):
        torch.nn.init.normal_(parameter, std=0.5)
    adapters = save_adapters(model, folder / "adapters.safetensors")
    names = ("weights", "sapiens", "points", "device")
    return [f"lorm.adapters={adapters}", *(f"lorm.{n}={getattr(stage, n)}" for n in names)]


def write_small_lorm(folder: Path, body: BodyModel, config: LormConfig = SMALL) -> LormStageConfig:
    """model.safetensors, its points and a body encoder; returns settings that name them."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    mesh = TemplateMesh.from_body(body)
    mesh = replace(
        mesh, shape_dirs=mesh.shape_dirs[..., :BETAS], joint_dirs=mesh.joint_dirs[..., :BETAS]
    )
    points = sample_points(mesh, config.num_points)
    shapes = {
        name: shape
        for name, shape in shapes_of(config, len(mesh.vertices), len(mesh.faces)).items()
        if name not in VOXELS
    }
    values = {
        name: rng.normal(0, 0.05, shape)
        for name, shape in shapes.items()
        if not name.startswith(BODY)
    }
    for name, bias in (("scaling", -4.0), ("opacity", 3.0), ("rotation", 0.5)):
        values[f"renderer.gs_net.out_layers.{name}.bias"] += bias
    _let_the_picture_matter(values)
    values |= _body_values(mesh, points)
    kinds = {"F32": np.float32, "I64": np.int64, "BOOL": bool}
    written = {
        name: np.asarray(value).astype(kinds[dtype_of(name)]) for name, value in values.items()
    }
    write_checkpoint(folder / "model.safetensors", shapes, written)
    points_file = write_points(folder / f"1_{config.num_points}.ply", points.template.numpy())
    script = torch.jit.trace(TinySapiens(config.cond_dim), torch.zeros(1, 3, 64, 64))
    script.save(folder / "sapiens.pt2")
    return LormStageConfig(
        weights=str(folder),
        sapiens=str(folder / "sapiens.pt2"),
        points=str(points_file),
        device="cpu",
    )


def _let_the_picture_matter(values: dict) -> None:
    """Opens the gates of the transformer and enlarges what leads from tokens to colours."""
    for name in values:
        if re.search(r"transformer\..*norm1.*linear\.bias", name):
            values[name] += 1.0
        if re.search(r"(attn|linear_cond_proj|mlp_net|shs).*weight$", name):
            values[name] *= 6.0


def _body_values(mesh: TemplateMesh, points) -> dict:
    return {
        LAYER + "v_template": mesh.vertices,
        LAYER + "lbs_weights": mesh.skin_weights,
        LAYER + "shapedirs": mesh.shape_dirs,
        LAYER + "J_regressor": _regressor(mesh),
        LAYER + "parents": np.array(PARENTS),
        LAYER + "faces_tensor": mesh.faces,
        BODY + "skinning_weight": points.skin_weights,
        BODY + "shape_dirs": points.shape_dirs,
        BODY + "is_upper_body": points.upper_body,
        BODY + "is_constrain_body": points.constrained,
    }


def _regressor(mesh: TemplateMesh) -> np.ndarray:
    """Weights of vertices that give the joints for every shape.  # [55, V]"""
    count = len(mesh.vertices)
    known = torch.cat([mesh.vertices, mesh.shape_dirs.reshape(count, -1), torch.ones(count, 1)], 1)
    wanted = torch.cat([mesh.joints, mesh.joint_dirs.reshape(55, -1), torch.ones(55, 1)], 1)
    return (wanted.double() @ torch.linalg.pinv(known.double())).numpy()
