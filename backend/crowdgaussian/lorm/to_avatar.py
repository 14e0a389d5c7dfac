# SPDX-License-Identifier: Apache-2.0
"""From the network's output to the avatar that Blender imports.

An avatar is posed by linear blend skinning with four weights a Gaussian. Its centres then are the
network's own posed centres, but for the weights beyond the four largest. Two things cannot be
equal: the network turns a Gaussian by a quaternion read off the blended matrix and never shears or
scales it, skinning applies the blended matrix itself (they differ near bent joints only); and the
network keeps the orientation of its `constrained` points fixed in space in every pose, which no
skinning does, so their orientation is right in one pose, that of the photo or else the T-pose.
"""

from dataclasses import dataclass

import numpy as np
import torch
from crowdgaussian_shared.geometry.avatar import BodyMesh, BodyParams, Gaussians, HoldsBodyParams
from crowdgaussian_shared.geometry.sh import SH_C0
from crowdgaussian_shared.geometry.skeleton import BODY_JOINTS
from torch import Tensor

from ..body.model import BodyModel
from ..core.device import float_array
from ..core.rotations import (
    axis_angle_to_matrix,
    blend_transforms,
    joint_transforms,
    matrices_to_quats,
    multiply_quats,
)
from ..people.types import Person
from .model.posing import Attributes, Posing
from .model.query_points import TemplateMesh


@dataclass(frozen=True)
class CanonicalPerson:
    """The parts of an Avatar that do not depend on pose and place."""

    gaussians: Gaussians  # N, T-pose, shaped by betas
    skin_joints: np.ndarray  # [N, 4] uint8
    skin_weights: np.ndarray  # [N, 4] float32, rows sum to 1
    rest_joints: np.ndarray  # [55, 3] float32, metres
    body: BodyMesh


@torch.no_grad()
def canonical_person(
    posing: Posing,
    mesh: TemplateMesh,
    attributes: Attributes,
    betas: Tensor,
    pose: Tensor | None = None,
    scale: float = 1.0,
) -> CanonicalPerson:
    """Gaussians on the shaped T-pose body.

    Args:
        posing: of the model.
        mesh: the template.
        attributes: of one person.
        betas: [S].
        pose: [55, 3] in which constrained Gaussians are to have the network's own orientation;
            the T-pose when None.
        scale: uniform, applied to everything about the canonical origin.
    """
    betas = betas.reshape(1, -1).to(posing.query)
    means = posing.t_pose(attributes.offsets, betas)[0] * scale
    turns = matrices_to_quats(posing.unpose[..., :3])
    if posing.constrained.any():
        turns = torch.where(posing.constrained[:, None], _counter_turns(posing, betas, pose), turns)
    gaussians = Gaussians(
        means=float_array(means),
        quats=float_array(multiply_quats(turns, attributes.quats[0])),
        scales=float_array(attributes.scales[0] * scale),
        opacities=float_array(attributes.opacities[0]),
        sh=float_array(((attributes.rgb[0] - 0.5) / SH_C0)[:, None]),
    )
    joints, weights = _four(posing.skin_weights)
    rest = posing.rest_joints(betas)[0] * scale
    return CanonicalPerson(gaussians, joints, weights, float_array(rest), _body(mesh, betas, scale))


def _counter_turns(posing: Posing, betas: Tensor, pose: Tensor | None) -> Tensor:
    """Turns that the given pose undoes.  # [N, 4] wxyz"""
    if pose is None:
        return posing.query.new_tensor([1.0, 0.0, 0.0, 0.0]).expand(len(posing.query), 4)
    rotations = axis_angle_to_matrix(pose.reshape(1, -1, 3).to(posing.query))
    transforms, _ = joint_transforms(posing.rest_joints(betas), rotations, betas.new_zeros(1, 3))
    quats = matrices_to_quats(blend_transforms(posing.skin_weights, transforms[0])[..., :3])
    return quats * quats.new_tensor([1.0, -1.0, -1.0, -1.0])


def _body(mesh: TemplateMesh, betas: Tensor, scale: float) -> BodyMesh:
    shaped = mesh.vertices + torch.einsum("vcs,s->vc", mesh.shape_dirs, betas[0].cpu())
    joints, weights = _four(mesh.skin_weights)
    return BodyMesh(
        float_array(shaped * scale), mesh.faces.numpy().astype(np.int32), joints, weights
    )


def _four(skin_weights: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The four largest weights of each row, made to sum to one.  # [N, 4] uint8, [N, 4] float32"""
    top = skin_weights.topk(4, dim=1)
    shares = top.values / top.values.sum(dim=1, keepdim=True)
    return top.indices.cpu().numpy().astype(np.uint8), float_array(shares)


# From a fitted person's body to the network's own body: betas, scale and place

_REACH = 0.01  # metres at which a joint's error weighs as much as a beta of one
_SIZE_REACH = 0.15  # deviation of the scale from 1 that does


@dataclass(frozen=True)
class Shape(HoldsBodyParams):
    """The network's body for one person."""

    params: BodyParams  # the person's pose; transl keeps the pelvis where it was
    error: float  # metres, root mean square of the body's rest joints


def same_body(mesh: TemplateMesh, body: BodyModel) -> bool:
    """Whether betas of one mean the same to the other (its first ones where it has fewer)."""
    count = mesh.shape_dirs.shape[2]
    return (
        mesh.vertices.shape == body.template.shape
        and count <= body.num_betas
        and torch.allclose(mesh.vertices, body.template.cpu(), atol=1e-4)
        and torch.allclose(
            mesh.joint_dirs, body.joint_directions[:count].permute(1, 2, 0).cpu(), atol=1e-4
        )
    )


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
    apart = (joints - joints[0] - (wanted - wanted[0]))[: len(BODY_JOINTS)]
    error = float(apart.square().sum(-1).mean().sqrt())
    transl = (np.asarray(person.transl) + shift).astype(np.float32)
    return Shape(
        BodyParams(own.numpy().astype(np.float32), person.pose, transl, float(scale)), error
    )


def fit_rest_joints(mesh: TemplateMesh, wanted: Tensor) -> tuple[Tensor, float]:
    """Betas [S] and scale whose rest joints, moved as a whole, lie best on the wanted [55, 3].

    Linear in the scale s, s * betas and the shift; the pull of the betas to zero and of the scale
    to one are further rows.
    """
    body, count = slice(0, len(BODY_JOINTS)), mesh.joint_dirs.shape[2]
    joints, directions = mesh.joints[body].double(), mesh.joint_dirs[body].double()
    columns = [
        joints.reshape(-1, 1),
        directions.reshape(-1, count),
        torch.eye(3).double().repeat(len(joints), 1),
    ]
    rows = torch.cat(columns, 1) / _REACH  # [66, 1 + S + 3]
    values = wanted[body].double().reshape(-1) / _REACH
    pulls = torch.diag(
        torch.cat([torch.tensor([1 / _SIZE_REACH]), torch.ones(count), torch.zeros(3)]).double()
    )
    pulled = torch.zeros(count + 4).double()
    pulled[0] = 1 / _SIZE_REACH
    solution = torch.linalg.lstsq(torch.cat([rows, pulls]), torch.cat([values, pulled])).solution
    return (solution[1 : 1 + count] / solution[0]).float(), float(solution[0])
