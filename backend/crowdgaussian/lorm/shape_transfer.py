# SPDX-License-Identifier: Apache-2.0
"""From a fitted person's body to the network's own body: betas, scale and place.

Both bodies have the same 55 joints, so the pose is taken over as it is. Where the people stage
fitted another body model (the open one), its betas mean nothing to the network: the network's betas
and one uniform scale are those whose rest joints lie best on the person's rest joints (least
squares, betas standard normal). Outlines differ: soft tissue is not transferred.
"""

from dataclasses import dataclass

import numpy as np
import torch
from crowdgaussian_shared.skeleton import BODY_JOINTS
from torch import Tensor

from ..body.model import BodyModel
from ..people.types import Person
from .points import TemplateMesh

_REACH = 0.01  # metres at which a joint's error weighs as much as a beta of one
_SIZE_REACH = 0.15  # deviation of the scale from 1 that does


@dataclass(frozen=True)
class Shape:
    """The network's body for one person."""

    betas: np.ndarray  # [S] float32
    scale: float
    transl: np.ndarray  # [3] float32, metres, scene frame: keeps the pelvis where it was
    error: float  # metres, root mean square of the body's rest joints


def same_body(mesh: TemplateMesh, body: BodyModel) -> bool:
    """Whether betas of one mean the same to the other (its first ones where it has fewer)."""
    count = mesh.shape_dirs.shape[2]
    return (mesh.vertices.shape == body.template.shape and count <= body.num_betas
            and torch.allclose(mesh.vertices, body.template.cpu(), atol=1e-4)
            and torch.allclose(mesh.joint_dirs, body.joint_directions[:count].permute(1, 2, 0)
                               .cpu(), atol=1e-4))


def shape_of(mesh: TemplateMesh, body: BodyModel, person: Person) -> Shape:
    """The network's betas, scale and translation for a person fitted with ``body``."""
    betas = torch.as_tensor(np.asarray(person.betas, np.float32))
    _, rest = body.rest(betas[None], torch.tensor([float(person.scale)]))
    wanted = rest[0].detach().cpu()  # [55, 3]
    count = mesh.shape_dirs.shape[2]
    if same_body(mesh, body):
        own, scale = betas[:count], float(person.scale)
    else:
        own, scale = fit_rest_joints(mesh, wanted)
    joints = (mesh.joints + mesh.joint_dirs @ own) * scale
    shift = (wanted[0] - joints[0]).numpy()
    apart = (joints - joints[0] - (wanted - wanted[0]))[:len(BODY_JOINTS)]
    error = float(apart.square().sum(-1).mean().sqrt())
    return Shape(own.numpy().astype(np.float32), float(scale),
                 (np.asarray(person.transl) + shift).astype(np.float32), error)


def fit_rest_joints(mesh: TemplateMesh, wanted: Tensor) -> tuple[Tensor, float]:
    """Betas [S] and scale whose rest joints, moved as a whole, lie best on the wanted [55, 3].

    Linear in the scale s, s * betas and the shift; the pull of the betas to zero and of the scale
    to one are further rows.
    """
    body, count = slice(0, len(BODY_JOINTS)), mesh.joint_dirs.shape[2]
    joints, directions = mesh.joints[body].double(), mesh.joint_dirs[body].double()
    columns = [joints.reshape(-1, 1), directions.reshape(-1, count),
               torch.eye(3).double().repeat(len(joints), 1)]
    rows = torch.cat(columns, 1) / _REACH  # [66, 1 + S + 3]
    values = wanted[body].double().reshape(-1) / _REACH
    pulls = torch.diag(torch.cat([torch.tensor([1 / _SIZE_REACH]), torch.ones(count),
                                  torch.zeros(3)]).double())
    pulled = torch.zeros(count + 4).double()
    pulled[0] = 1 / _SIZE_REACH
    solution = torch.linalg.lstsq(torch.cat([rows, pulls]), torch.cat([values, pulled])).solution
    return (solution[1:1 + count] / solution[0]).float(), float(solution[0])
