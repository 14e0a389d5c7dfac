# SPDX-License-Identifier: Apache-2.0
"""A body that takes the pose and the size of another one, told by its joints."""

from dataclasses import dataclass

import torch
from crowdgaussian_shared.skeleton import BODY_JOINTS
from torch import Tensor

from ..body.kinematics import axis_angle_to_matrix, joint_transforms
from ..body.model import BodyModel
from .energy import extreme_shape
from .fit import Bodies

_BODY = len(BODY_JOINTS)
_RATES = {"turn": 0.02, "body_pose": 0.02, "pelvis": 0.02, "betas": 0.05, "scale": 0.02}
_REACH = 0.05  # metres at which an error counts one
_STAY = 0.02  # weight of pose changes, which only serve other rest poses
_SHAPE = 2e-3
_SIZE = 0.5  # weight of a scale other than 1: betas tell size first


@dataclass(frozen=True)
class StartBodies:
    """Where a fit begins, scene axes with the camera at the origin."""

    bodies: Bodies
    hands: Tensor  # [P, 33, 3] axis-angle of jaw, eyes and fingers


def fit_to_joints(body: BodyModel, joints: Tensor, start: Bodies, hands: Tensor,
                  steps: int = 100) -> Bodies:
    """Shape, size and small changes of pose so that joints come to lie on given ones.

    Args:
        body: the model that is fitted.
        joints: [P, 55, 3] metres; the 22 of the body count.
        start: the pose to keep to, and a first place, in the frame of the joints.
        hands: [P, 33, 3] axis-angle of jaw, eyes and fingers, which stay.
        steps: of the optimiser.

    Returns:
        Bodies in the same frame.
    """
    people = len(joints)
    fixed = axis_angle_to_matrix(hands)
    free = {"turn": torch.zeros(people, 3), "body_pose": start.body_pose.clone(),
            "pelvis": start.pelvis.clone(), "betas": start.betas.clone(),
            "scale": start.scale.log()}
    optimiser = torch.optim.Adam([{"params": [tensor.requires_grad_()], "lr": _RATES[name]}
                                  for name, tensor in free.items()])
    cooling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        optimiser.zero_grad()
        turn = axis_angle_to_matrix(free["turn"]) @ start.orientation
        limbs = axis_angle_to_matrix(free["body_pose"])
        rest = body.joint_template + torch.tensordot(free["betas"], body.joint_directions, dims=1)
        rest = rest * free["scale"].exp()[:, None, None]
        rotations = torch.cat([turn[:, None], limbs, fixed], dim=1)
        _, posed = joint_transforms(rest, rotations, free["pelvis"] - rest[:, 0])
        apart = (posed - joints)[:, :_BODY].square().sum(dim=-1) / _REACH**2
        moved = (free["body_pose"] - start.body_pose).square().sum(dim=(1, 2))
        energy = apart.mean(dim=1) + _STAY * (moved + free["turn"].square().sum(dim=1))
        energy = energy + _SHAPE * extreme_shape(free["betas"]) + _SIZE * free["scale"].square()
        energy.sum().backward()
        optimiser.step()
        cooling.step()
    done = {name: tensor.detach() for name, tensor in free.items()}
    return Bodies(axis_angle_to_matrix(done["turn"]) @ start.orientation, done["body_pose"],
                  done["pelvis"], done["betas"], done["scale"].exp())
