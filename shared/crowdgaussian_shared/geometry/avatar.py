# SPDX-License-Identifier: Apache-2.0
"""One person: canonical Gaussians bound to the 55 joints, the body mesh and the photo's pose."""

from dataclasses import dataclass

import numpy as np

from .gaussians import Gaussians


@dataclass(frozen=True)
class BodyMesh:
    """The naked body in the canonical T-pose, already shaped by betas and scale."""

    vertices: np.ndarray  # [V, 3] float32, metres, canonical frame
    faces: np.ndarray  # [F, 3] int32, counter-clockwise seen from outside
    skin_joints: np.ndarray  # [V, 4] uint8
    skin_weights: np.ndarray  # [V, 4] float32, rows sum to 1


@dataclass(frozen=True)
class Avatar:
    """A person that can be posed; the canonical frame is SMPL-X (y up, z forward) in T-pose.

    Posing: A = joint_transforms(rest_joints, pose, transl); a point p with weights w goes to
    (sum_j w_j A_j) p. pose[0] is the orientation in the scene frame, transl is added last.
    """

    gaussians: Gaussians  # N canonical Gaussians
    skin_joints: np.ndarray  # [N, 4] uint8, indices into the 55 joints
    skin_weights: np.ndarray  # [N, 4] float32, rows sum to 1
    rest_joints: np.ndarray  # [55, 3] float32, metres, canonical frame, betas and scale applied
    body: BodyMesh
    pose: np.ndarray  # [55, 3] float32, axis-angle, radians: the pose of the photo
    transl: np.ndarray  # [3] float32, metres, scene frame
    betas: np.ndarray  # [B] float32, shape coefficients of the body model named in the scene
    scale: float  # uniform scale already applied to rest_joints, body and gaussians
