# SPDX-License-Identifier: Apache-2.0
"""One body model for every source: betas, 55 joint rotations and a position -> a posed mesh."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from crowdgaussian_shared.errors import DamagedFileError, MissingFileError, SettingError
from crowdgaussian_shared.geometry.avatar import BodyParams
from crowdgaussian_shared.geometry.skinning import blend_transforms, move_points
from torch import Tensor

from ..core.rotations import axis_angle_to_matrix, joint_transforms, skin

# The arrays that make a body, whatever file they come from


@dataclass(frozen=True)
class BetasTable:
    """Betas of bodies at the ends of describable sliders, for multilinear interpolation."""

    axes: tuple[np.ndarray, ...]  # slider values of sex, age, muscle, weight, height
    betas: np.ndarray  # [sex, age, muscle, weight, height, B]
    age_years: np.ndarray  # [A] years at which ...
    age_slider: np.ndarray  # [A] ... the age slider has this value


@dataclass(frozen=True)
class BodyData:
    """A linear-shape, linear-blend-skinned body on the 55 joints, in its T-pose."""

    name: str
    licence: str
    commercial: bool  # may results be used commercially
    source: str
    template: np.ndarray  # [V, 3] metres, betas = 0
    directions: np.ndarray  # [B, V, 3] metres per unit beta
    joints: np.ndarray  # [55, 3]
    joint_directions: np.ndarray  # [B, 55, 3]
    faces: np.ndarray  # [F, 3] int64, counter-clockwise seen from outside
    uv: np.ndarray  # [T, 2] 0..1
    uv_faces: np.ndarray  # [F, 3] int64 into uv
    skin_weights: np.ndarray  # [V, 55] rows sum to 1
    mirror_vertices: np.ndarray  # [V] int64, left-right counterpart
    interior: np.ndarray  # [V] bool: mouth, tongue, eye sockets
    eyes: np.ndarray  # [V] bool: eyeballs
    landmark_ids: np.ndarray  # [33, K] int64 into vertices followed by joints
    landmark_weights: np.ndarray  # [33, K] rows sum to 1
    pose_directions: np.ndarray | None = None  # [486, V, 3] SMPL-X pose correctives
    table: BetasTable | None = field(default=None)


# Betas of a described person: multilinear interpolation between tabulated bodies


def _hat(value: float, nodes: np.ndarray) -> np.ndarray:
    """Linear interpolation weights of a value between nodes, clamped to their range.  # [N]"""
    return np.array([np.interp(value, nodes, row) for row in np.eye(len(nodes))])


def interpolate_betas(
    table: BetasTable, sex: float, age: float, weight: float, height: float, muscle: float
) -> np.ndarray:
    """Betas of a person: age in years, the others 0..1 (sex 0 male, 1 female).  # [B]"""
    slider = np.interp(age, table.age_years, table.age_slider)
    betas = table.betas
    for value, nodes in zip((sex, slider, muscle, weight, height), table.axes, strict=True):
        betas = np.tensordot(_hat(value, nodes), betas, axes=1)
    return betas


# Read named arrays from a .npz, never running code that the file may carry


def read_arrays(path: Path, keys: Sequence[str], what: str) -> dict[str, np.ndarray]:
    """The arrays of a .npz.

    Args:
        path: the file.
        keys: the arrays that must be there.
        what: what the file should be, for the message.

    Raises:
        MissingFileError: there is no such file.
        DamagedFileError: it is unreadable or lacks a key.
    """
    if not path.is_file():
        raise MissingFileError(f"The file of {what} is missing: {path}.")
    try:
        # numpy leaves a file open that it opened itself and cannot read
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            missing = [key for key in keys if key not in archive]
            arrays = {key: archive[key] for key in keys if key in archive}
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise DamagedFileError(f"{path} cannot be read as {what}: {error}.") from error
    if missing:
        raise DamagedFileError(
            f"{path} is not {what}: it lacks {', '.join(missing)}; use the original .npz file."
        )
    return arrays


# The model itself

_TALL, _TALL_SPREAD = 1.95, 0.05  # metres


@dataclass(frozen=True)
class BodyOutput:
    """Posed bodies; scale is already in vertices, joints and transforms."""

    vertices: Tensor  # [B, V, 3] metres, scene frame
    joints: Tensor  # [B, 55, 3]
    transforms: Tensor  # [B, 55, 4, 4] scaled rest pose -> scene


@dataclass(frozen=True)
class PosedMesh:
    """One posed body in the scene frame; float32, as the body model computes."""

    vertices: np.ndarray  # [V, 3] metres
    joints: np.ndarray  # [55, 3] metres
    transforms: np.ndarray  # [55, 4, 4] scaled rest pose -> scene
    landmarks: np.ndarray  # [33, 3] metres, see BodyModel.landmarks

    @property
    def lowest(self) -> float:
        """Height of the lowest vertex, metres."""
        return float(self.vertices[:, 1].min())


class BodyModel(torch.nn.Module):
    """A body in T-pose (arms along x, y up, facing +z, its left at +x), shaped by betas and posed.

    betas are standard normal over the people a photo may show. Shapes: V vertices, F faces, B a
    batch. Everything that returns tensors is differentiable in its arguments.

    Attributes:
        name, licence, commercial, source: where the body comes from and what it allows.
        num_betas: length of betas.
        faces [F, 3] int64, counter-clockwise seen from outside; uv [T, 2]; uv_faces [F, 3].
        skin_weights [V, 55]; skin_joints [V, 4] int64 and skin_weights4 [V, 4]: its four largest.
        mirror_vertices [V] int64: the left-right counterpart of each vertex.
        parts [V] int64: the joint with the largest weight.
        interior [V] bool: mouth cavity, tongue, eye sockets; never seen.
        eyes [V] bool: eyeballs.
    """

    template: Tensor
    joint_template: Tensor
    directions: Tensor
    joint_directions: Tensor
    uv: Tensor
    skin_weights: Tensor
    landmark_weights: Tensor
    pose_directions: Tensor | None
    faces: Tensor
    uv_faces: Tensor
    mirror_vertices: Tensor
    landmark_ids: Tensor
    interior: Tensor
    eyes: Tensor
    skin_joints: Tensor
    skin_weights4: Tensor
    parts: Tensor

    def __init__(self, data: BodyData):
        super().__init__()
        self.name, self.licence = data.name, data.licence
        self.commercial, self.source = data.commercial, data.source
        self.num_betas = len(data.directions)
        self._table = data.table
        arrays = {
            "template": data.template,
            "joint_template": data.joints,
            "directions": data.directions,
            "joint_directions": data.joint_directions,
            "uv": data.uv,
            "skin_weights": data.skin_weights,
            "landmark_weights": data.landmark_weights,
            "pose_directions": data.pose_directions,
        }
        for name, array in arrays.items():
            tensor = None if array is None else torch.as_tensor(array, dtype=torch.float32)
            self.register_buffer(name, tensor)
        for name in ("faces", "uv_faces", "mirror_vertices", "landmark_ids"):
            self.register_buffer(name, torch.as_tensor(getattr(data, name), dtype=torch.int64))
        for name in ("interior", "eyes"):
            self.register_buffer(name, torch.as_tensor(getattr(data, name), dtype=torch.bool))
        heaviest = self.skin_weights.topk(4, dim=1)
        self.register_buffer("skin_joints", heaviest.indices)
        self.register_buffer(
            "skin_weights4", heaviest.values / heaviest.values.sum(dim=1, keepdim=True)
        )
        self.register_buffer("parts", heaviest.indices[:, 0])

    @property
    def num_vertices(self) -> int:
        """V."""
        return len(self.template)

    def rest(self, betas: Tensor, scale: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The shaped body in T-pose.

        Args:
            betas: [B, num_betas].
            scale: [B] factor about the canonical origin; 1 when None.

        Returns:
            vertices [B, V, 3] and joints [B, 55, 3], metres, canonical frame.
        """
        vertices = self.template + torch.tensordot(betas, self.directions, dims=1)
        joints = self.joint_template + torch.tensordot(betas, self.joint_directions, dims=1)
        if scale is None:
            return vertices, joints
        factor = scale.reshape(-1, 1, 1)
        return vertices * factor, joints * factor

    def forward(
        self, betas: Tensor, pose: Tensor, transl: Tensor, scale: Tensor | None = None
    ) -> BodyOutput:
        """Pose bodies by linear blend skinning.

        Args:
            betas: [B, num_betas].
            pose: [B, 55, 3] axis-angle, radians, relative to the parent; pose[:, 0] turns the
                body about its rest pelvis.
            transl: [B, 3] metres, added last.
            scale: [B] applied to the rest body about the canonical origin; 1 when None.
        """
        vertices, rest_joints = self.rest(betas, scale)
        rotations = axis_angle_to_matrix(pose)
        if self.pose_directions is not None:
            vertices = vertices + self._corrections(rotations, scale)
        transforms, joints = joint_transforms(rest_joints, rotations, transl)
        return BodyOutput(skin(vertices, self.skin_weights, transforms), joints, transforms)

    def posed(self, params: BodyParams) -> PosedMesh:
        """Pose one body, in float32 and without gradients; see forward."""
        values = (
            torch.as_tensor(np.asarray(v, np.float32), device=self.template.device)[None]
            for v in (params.betas, params.pose, params.transl, params.scale)
        )
        with torch.no_grad():
            output = self(*values)
            arrays = (output.vertices, output.joints, output.transforms, self.landmarks(output))
        return PosedMesh(*(array[0].cpu().numpy() for array in arrays))

    def _corrections(self, rotations: Tensor, scale: Tensor | None) -> Tensor:
        """SMPL-X pose blend shapes of the 54 relative rotations.  # [B, V, 3]"""
        identity = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
        feature = (rotations[:, 1:] - identity).flatten(1)  # [B, 486]
        offsets = torch.tensordot(feature, self.pose_directions, dims=1)
        return offsets if scale is None else offsets * scale.reshape(-1, 1, 1)

    def landmarks(self, output: BodyOutput) -> Tensor:
        """The 33 MediaPipe pose landmarks on posed bodies.  # [B, 33, 3]

        11 is the subject's left shoulder, 12 the right one; the face, heels and toes are points
        of the skin, limbs are joints.
        """
        points = torch.cat([output.vertices, output.joints], dim=1)
        return (points[:, self.landmark_ids] * self.landmark_weights[..., None]).sum(dim=2)

    def stature(self, betas: Tensor, scale: Tensor | None = None) -> Tensor:
        """Height of the standing body, metres.  # [B, num_betas] -> [B]"""
        height = self.template[:, 1] + betas @ self.directions[..., 1]  # [B, V]
        extent = height.amax(dim=1) - height.amin(dim=1)
        return extent if scale is None else extent * scale

    def height(self, params: BodyParams) -> float:
        """Stature of one body, metres."""
        betas = torch.as_tensor(np.asarray(params.betas, np.float32), device=self.template.device)
        return float(self.stature(betas[None])) * float(params.scale)

    def shape_prior(self, betas: Tensor) -> Tensor:
        """Negative log-likelihood of betas, up to a constant.  # [B, num_betas] -> [B]

        Standard normal, and hardly anybody taller than 2 m: children make the crowd's stature
        lean to the small side, which a normal distribution alone would mirror into giants.
        """
        excess = (self.stature(betas) - _TALL).clamp(min=0) / _TALL_SPREAD
        return 0.5 * (betas.square().sum(dim=-1) + excess.square())

    def betas_from(
        self,
        sex: float = 0.5,
        age: float = 30.0,
        weight: float = 0.5,
        height: float = 0.5,
        muscle: float = 0.5,
    ) -> Tensor:
        """Betas of a described person.  # [num_betas]

        Args:
            sex: 0 male to 1 female.
            age: years, 1 to 100.
            weight, height, muscle: 0..1, least to most for that sex and age; 0.5 is average.

        Raises:
            SettingError: this body model has no such description.
        """
        if self._table is None:
            raise SettingError(
                f"The body model '{self.name}' cannot be described by sex and age; "
                "use the body model 'open'."
            )
        betas = interpolate_betas(self._table, sex, age, weight, height, muscle)
        return torch.as_tensor(betas, dtype=torch.float32, device=self.template.device)


# One body at rest and in the photo, with the four-weight skinning the avatar keeps


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
        return blend_transforms(self.skin_joints, self.skin_weights, self.transforms)

    def pose_points(self, points: np.ndarray) -> np.ndarray:
        """Canonical points, one per vertex, in the scene.  # [V, 3]"""
        return move_points(self.matrices, points)


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
