# SPDX-License-Identifier: Apache-2.0
"""People that another program found, as bodies of the model that a run uses."""

from dataclasses import replace

import numpy as np
import torch
from crowdgaussian_shared.axes import SCENE_FROM_OPENCV
from torch import Tensor

from ..body.kinematics import axis_angle_to_matrix
from ..body.model import BodyModel
from .body_points import BodyPoints
from .fit import Bodies
from .fit_points import fit_to_keypoints
from .results.types import FoundPeople
from .transfer import StartBodies, fit_to_joints

_BODY = 22  # pelvis and body joints; jaw, eyes and fingers follow


def bodies_of(found: FoundPeople, body: BodyModel) -> StartBodies:
    """The run's own body model in the pose, place and size that were found.

    Keypoints are fitted; SMPL-X poses are taken over, and another body model takes the size from
    the joints where the program told them.

    Args:
        found: people in camera axes.
        body: the model of the run.
    """
    to_scene = _float(SCENE_FROM_OPENCV)
    if found.keypoints is not None:
        return fit_to_keypoints(body, BodyPoints(body), found.keypoints @ SCENE_FROM_OPENCV.T)
    pose, people = _float(found.pose), len(found)
    betas = torch.zeros(people, body.num_betas)
    own = body.name == "smplx"
    if own and found.betas is not None:
        shared = min(body.num_betas, found.betas.shape[1])
        betas[:, :shared] = _float(found.betas[:, :shared])
    pelvis = _pelvis(found, body, betas)
    bodies = Bodies(to_scene @ axis_angle_to_matrix(pose[:, 0]), pose[:, 1:_BODY],
                    pelvis @ to_scene.T, betas, torch.ones(people))
    hands = pose[:, _BODY:]
    if found.joints is not None and not own:
        joints = torch.zeros(people, pose.shape[1], 3)
        joints[:, :_BODY] = _float(found.joints) @ to_scene.T
        bodies = fit_to_joints(body, joints, replace(bodies, pelvis=joints[:, 0]), hands)
    return StartBodies(bodies, hands)


def _pelvis(found: FoundPeople, body: BodyModel, betas: Tensor) -> Tensor:
    """Where the pelvis joint is, camera axes.  # [P, 3]"""
    if found.joints is not None:
        return _float(found.joints[:, 0])
    rest = body.joint_template + torch.tensordot(betas, body.joint_directions, dims=1)
    return _float(found.transl) + rest[:, 0]


def _float(array: np.ndarray) -> Tensor:
    return torch.as_tensor(np.asarray(array), dtype=torch.float32)
