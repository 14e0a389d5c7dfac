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
from crowdgaussian_shared.avatar import BodyMesh
from crowdgaussian_shared.gaussians import Gaussians
from crowdgaussian_shared.sh import SH_C0
from torch import Tensor

from ..body.kinematics import axis_angle_to_matrix, joint_transforms
from .decoder import Attributes
from .points import TemplateMesh
from .posing import Posing, blend, matrices_to_quats, multiply_quats


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
    posing: Posing, mesh: TemplateMesh, attributes: Attributes, betas: Tensor,
    pose: Tensor | None = None, scale: float = 1.0,
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
        means=_array(means), quats=_array(multiply_quats(turns, attributes.quats[0])),
        scales=_array(attributes.scales[0] * scale), opacities=_array(attributes.opacities[0]),
        sh=_array(((attributes.rgb[0] - 0.5) / SH_C0)[:, None]),
    )
    joints, weights = _four(posing.skin_weights)
    rest = posing.rest_joints(betas)[0] * scale
    return CanonicalPerson(gaussians, joints, weights, _array(rest), _body(mesh, betas, scale))


def _counter_turns(posing: Posing, betas: Tensor, pose: Tensor | None) -> Tensor:
    """Turns that the given pose undoes.  # [N, 4] wxyz"""
    if pose is None:
        return posing.query.new_tensor([1.0, 0.0, 0.0, 0.0]).expand(len(posing.query), 4)
    rotations = axis_angle_to_matrix(pose.reshape(1, -1, 3).to(posing.query))
    transforms, _ = joint_transforms(posing.rest_joints(betas), rotations, betas.new_zeros(1, 3))
    quats = matrices_to_quats(blend(posing.skin_weights, transforms[0])[..., :3])
    return quats * quats.new_tensor([1.0, -1.0, -1.0, -1.0])


def _body(mesh: TemplateMesh, betas: Tensor, scale: float) -> BodyMesh:
    shaped = mesh.vertices + torch.einsum("vcs,s->vc", mesh.shape_dirs, betas[0].cpu())
    joints, weights = _four(mesh.skin_weights)
    return BodyMesh(_array(shaped * scale), mesh.faces.numpy().astype(np.int32), joints, weights)


def _four(skin_weights: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The four largest weights of each row, made to sum to one.  # [N, 4] uint8, [N, 4] float32"""
    top = skin_weights.topk(4, dim=1)
    shares = top.values / top.values.sum(dim=1, keepdim=True)
    return top.indices.cpu().numpy().astype(np.uint8), _array(shares)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.cpu().numpy().astype(np.float32)
