# SPDX-License-Identifier: Apache-2.0
"""One body at rest and in the photo, with the four-weight skinning the avatar keeps."""

from dataclasses import dataclass

import numpy as np
import torch
from crowdgaussian_shared.geometry.avatar import BodyParams

from .model import BodyModel


@dataclass(frozen=True)
class PosedBody:
    """A body whose surface can be displaced at rest and then posed."""

    params: BodyParams
    rest: np.ndarray  # [V, 3] float64, canonical frame
    joints: np.ndarray  # [55, 3] float64, canonical frame
    faces: np.ndarray  # [F, 3] int
    skin_joints: np.ndarray  # [V, 4] int
    skin_weights: np.ndarray  # [V, 4] float64
    transforms: np.ndarray  # [55, 4, 4] float64, canonical -> scene

    @property
    def matrices(self) -> np.ndarray:
        """Each vertex's blended canonical -> scene transform.  # [V, 3, 4]"""
        return blend(self.transforms, self.skin_joints, self.skin_weights)

    def pose_points(self, points: np.ndarray) -> np.ndarray:
        """Canonical points, one per vertex, in the scene.  # [V, 3]"""
        return apply(self.matrices, points)


def blend(transforms: np.ndarray, joints: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Linear blend of four joint transforms per point.  # [N, 3, 4]"""
    return np.einsum("nk,nkij->nij", weights, transforms[joints][:, :, :3])


def apply(matrices: np.ndarray, points: np.ndarray) -> np.ndarray:
    """One affine map [N, 3, 4] per point.  # [N, 3]"""
    return np.einsum("nij,nj->ni", matrices[:, :, :3], points) + matrices[:, :, 3]


def pose_body(body: BodyModel, params: BodyParams) -> PosedBody:
    """Run the body model once."""
    with torch.no_grad():
        betas = torch.as_tensor(np.asarray(params.betas, np.float32))[None]
        rest, joints = body.rest(betas, torch.tensor([float(params.scale)]))
    weights = np.asarray(body.skin_weights4, np.float64)
    return PosedBody(
        params,
        rest[0].double().numpy(),
        joints[0].double().numpy(),
        np.asarray(body.faces, np.int64),
        np.asarray(body.skin_joints, np.int64),
        weights / weights.sum(1, keepdims=True),
        body.posed(params).transforms.astype(np.float64),
    )
