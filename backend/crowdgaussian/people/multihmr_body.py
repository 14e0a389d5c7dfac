# SPDX-License-Identifier: Apache-2.0
"""Multi-HMR's people as SMPL-X meshes and 127 joints in front of their camera."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from crowdgaussian_shared.rotations import matrix_to_axis_angle
from crowdgaussian_shared.skeleton import JOINT_INDEX, NUM_JOINTS
from torch import Tensor

from ..body.files import read_arrays
from ..body.model import BodyModel
from ..body.smplx_body import find_smplx, read_smplx, smplx_vertex_ids
from .multihmr_head import NUM_EXPRESSIONS
from .multihmr_network import Humans

HEAD = JOINT_INDEX["head"]
# Multi-HMR's rotation k turns our joint FROM_NETWORK[k]; the eyes keep still.
FROM_NETWORK = (*range(22), *range(25, 40), *range(40, 55), JOINT_INDEX["jaw"])
_SHAPE_SPACE = 300  # leading columns of SMPL-X's shape directions, when the file is complete
_VERTICES = (
    "nose", "reye", "leye", "rear", "lear", "LBigToe", "LSmallToe", "LHeel", "RBigToe",
    "RSmallToe", "RHeel", *(f"{side}{finger}" for side in "lr"
                            for finger in ("thumb", "index", "middle", "ring", "pinky")),
)


@dataclass(frozen=True)
class PlacedHumans:
    """P people in OpenCV camera axes, metres; pixels are those of the K that placed them."""

    v3d: Tensor  # [P, 10475, 3]
    j3d: Tensor  # [P, 127, 3]
    j2d: Tensor  # [P, 127, 2]
    transl: Tensor  # [P, 3] of the head joint
    transl_pelvis: Tensor  # [P, 1, 3]


def full_pose(rotations: Tensor) -> Tensor:
    """53 rotations of the network -> the skeleton's 55 as axis-angle, eyes still.  # [P, 55, 3]"""
    pose = np.zeros((len(rotations), NUM_JOINTS, 3))
    pose[:, list(FROM_NETWORK)] = matrix_to_axis_angle(rotations.double().numpy())
    return torch.as_tensor(pose, dtype=torch.float32)


class SmplxPeople:
    """SMPL-X with expression and the smplx package's 127 points, read without pickle."""

    def __init__(self, path: Path | None) -> None:
        """path: SMPLX_NEUTRAL.npz or a folder that holds it.

        Raises:
            CrowdGaussianError: it is missing or not SMPL-X.
        """
        data = read_smplx(path)
        file = find_smplx(path)
        arrays = read_arrays(file, ("shapedirs", "J_regressor", "lmk_faces_idx",
                                    "lmk_bary_coords"), "SMPL-X")
        directions = arrays["shapedirs"]
        first = _SHAPE_SPACE if directions.shape[2] > _SHAPE_SPACE else len(data.directions)
        face = directions[:, :, first:first + NUM_EXPRESSIONS].transpose(2, 0, 1)
        face = face.astype(np.float32)
        on_joints = np.einsum("jv,bvc->bjc", arrays["J_regressor"].astype(np.float32), face)
        self.num_betas, self.num_expressions = len(data.directions), len(face)
        self.model = BodyModel(replace(
            data, directions=np.concatenate([data.directions, face]),
            joint_directions=np.concatenate([data.joint_directions, on_joints])))
        names = smplx_vertex_ids()
        self.vertex_ids = torch.tensor([names[name] for name in _VERTICES])
        self.face_ids = torch.as_tensor(
            data.faces[arrays["lmk_faces_idx"].astype(np.int64)])  # [51, 3]
        self.face_weights = torch.as_tensor(arrays["lmk_bary_coords"].astype(np.float32))

    def place(self, humans: Humans, K: Tensor) -> PlacedHumans:
        """Poses everybody about the pelvis and moves the head joint to where it was seen.

        Args:
            humans: of one image, on the CPU.
            K: [3, 3] of that image.
        """
        betas = humans.betas[:, :self.num_betas]
        shape = torch.cat([betas, humans.expression[:, :self.num_expressions]], dim=1)
        posed = self.model(shape, full_pose(humans.rotations), torch.zeros(len(shape), 3))
        corners = posed.vertices[:, self.face_ids]  # [P, 51, 3, 3]
        landmarks = (corners * self.face_weights[..., None]).sum(dim=2)
        points = torch.cat([posed.joints, posed.vertices[:, self.vertex_ids], landmarks], dim=1)
        shift = (humans.transl - posed.joints[:, HEAD])[:, None]
        points = points + shift
        flat = points @ K.T
        return PlacedHumans(posed.vertices + shift, points, flat[..., :2] / flat[..., 2:],
                            humans.transl, points[:, :1])
