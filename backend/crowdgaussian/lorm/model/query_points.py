# SPDX-License-Identifier: Apache-2.0
"""The points on the body that ask the network what they look like, and their embedding.

Every point owns the skin weights, shape directions and flags of its nearest template vertex. The
first three quarters lie on the body, the rest on the head (Qiu et al. 2025, section 3.2).
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from crowdgaussian_shared.errors import InputError
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX, JOINT_NAMES
from scipy.spatial import cKDTree
from torch import Tensor, nn

from ...body.model import BodyModel

_UPPER = (
    "pelvis",
    "spine",
    "collar",
    "shoulder",
    "elbow",
    "wrist",
    "index",
    "middle",
    "pinky",
    "ring",
    "thumb",
)
_HEAD = ("neck", "head", "jaw", "left_eye_smplhf", "right_eye_smplhf")


@dataclass(frozen=True)
class TemplateMesh:
    """The T-pose body that the points lie on, at betas 0."""

    vertices: Tensor  # [V, 3] metres, canonical frame
    faces: Tensor  # [F, 3] int64
    shape_dirs: Tensor  # [V, 3, S] metres per unit beta
    skin_weights: Tensor  # [V, 55]
    joints: Tensor  # [55, 3]
    joint_dirs: Tensor  # [55, 3, S]

    @classmethod
    def from_body(cls, body: BodyModel) -> "TemplateMesh":
        """The template of a body model, on the CPU."""
        return cls(
            vertices=body.template.cpu(),
            faces=body.faces.cpu(),
            shape_dirs=body.directions.permute(1, 2, 0).contiguous().cpu(),
            skin_weights=body.skin_weights.cpu(),
            joints=body.joint_template.cpu(),
            joint_dirs=body.joint_directions.permute(1, 2, 0).contiguous().cpu(),
        )

    @property
    def parts(self) -> np.ndarray:
        """The joint with the largest weight.  # [V]"""
        return self.skin_weights.argmax(dim=1).numpy()


@dataclass(frozen=True)
class QueryPoints:
    """N points of the template with what posing needs to know about each."""

    template: Tensor  # [N, 3] metres, T-pose, betas 0
    skin_weights: Tensor  # [N, 55] rows sum to 1
    shape_dirs: Tensor  # [N, 3, S]
    upper_body: Tensor  # [N] bool: Gaussians here are at most 2 cm
    constrained: Tensor  # [N] bool: Gaussians here keep their orientation in every pose
    mesh: TemplateMesh

    def __len__(self) -> int:
        return len(self.template)

    @property
    def num_betas(self) -> int:
        """S."""
        return self.shape_dirs.shape[2]


def is_upper_body(parts: np.ndarray) -> np.ndarray:
    """Torso, arms and hands, by the joint with the largest weight.  # [N] -> [N] bool"""
    upper = np.array([any(word in name for word in _UPPER) for name in JOINT_NAMES])
    return upper[parts]


def is_head(parts: np.ndarray) -> np.ndarray:
    """Head and neck, by the joint with the largest weight.  # [N] -> [N] bool"""
    return np.isin(parts, [JOINT_INDEX[name] for name in _HEAD])


def sample_points(
    mesh: TemplateMesh,
    count: int,
    head: np.ndarray | None = None,
    constrained: np.ndarray | None = None,
    seed: int = 0,
) -> QueryPoints:
    """Points drawn evenly by area: three quarters on the body, one quarter on the head.

    Faces on the border of head and body get none, as in the published points.

    Args:
        mesh: the template.
        count: N.
        head: [V] bool, vertices of the head; those of head, neck, jaw and eyes when None.
        constrained: [V] bool, vertices whose Gaussians keep their orientation; none when None.
        seed: of the random numbers; the same seed gives the same points.
    """
    head = is_head(mesh.parts) if head is None else head
    random, on_head = np.random.default_rng(seed), head[mesh.faces.numpy()]  # [F, 3]
    numbers = (int(0.75 * count), count - int(0.75 * count))
    groups = (~on_head.any(axis=1), on_head.all(axis=1))
    points = [
        _on_faces(mesh, np.flatnonzero(group), number, random)
        for group, number in zip(groups, numbers, strict=True)
    ]
    return points_at(mesh, torch.cat(points), constrained)


def points_at(
    mesh: TemplateMesh, points: Tensor, constrained: np.ndarray | None = None
) -> QueryPoints:
    """Points with the attributes of their nearest vertices.  # [N, 3] metres, on the template"""
    nearest = cKDTree(mesh.vertices.numpy()).query(points.numpy())[1]
    flags = np.zeros(len(mesh.vertices), bool) if constrained is None else constrained
    index = torch.from_numpy(nearest)
    return QueryPoints(
        template=points,
        skin_weights=mesh.skin_weights[index],
        shape_dirs=mesh.shape_dirs[index],
        upper_body=torch.from_numpy(is_upper_body(mesh.parts[nearest])),
        constrained=torch.from_numpy(flags[nearest]),
        mesh=mesh,
    )


def _on_faces(
    mesh: TemplateMesh, faces: np.ndarray, count: int, random: np.random.Generator
) -> Tensor:
    if not len(faces):
        raise InputError("The body template has no faces on the head to put points on.")
    corners = mesh.vertices.numpy()[mesh.faces.numpy()[faces]].astype(np.float64)  # [F, 3, 3]
    sides = corners[:, 1:] - corners[:, :1]
    area = np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1)
    chosen = random.choice(len(faces), size=count, p=area / area.sum())
    u, v = random.random((2, count))
    root = np.sqrt(u)
    shares = np.stack([1 - root, root * (1 - v), root * v], axis=1)  # [N, 3]
    return torch.from_numpy((corners[chosen] * shares[:, :, None]).sum(1)).float()


class PointEmbedding(nn.Module):
    """Sines and cosines of the coordinates at doubling frequencies, then a linear layer."""

    basis: Tensor  # [3, 3F]

    def __init__(self, width: int, frequencies: int):
        super().__init__()
        octaves = math.pi * 2.0 ** torch.arange(frequencies)
        self.register_buffer("basis", torch.kron(torch.eye(3), octaves[None].float()))
        self.mlp = nn.Linear(6 * frequencies + 3, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, points: Tensor) -> Tensor:
        """# [..., 3] metres -> [..., width]"""
        with torch.autocast(points.device.type, enabled=False):  # angles reach 400 radians
            angles = points.float() @ self.basis.float()
            waves = torch.cat([angles.sin(), angles.cos(), points], dim=-1)
        return self.norm(self.mlp(waves.to(self.mlp.weight.dtype)))
