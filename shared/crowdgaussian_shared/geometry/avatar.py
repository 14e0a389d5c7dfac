# SPDX-License-Identifier: Apache-2.0
"""One person: canonical Gaussians bound to the 55 joints, the body mesh and the photo's pose."""

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from ..errors import InputError
from .skeleton import NUM_JOINTS

# A cloud of 3D Gaussians as plain numpy arrays


@dataclass(frozen=True)
class Gaussians:
    """N anisotropic 3D Gaussians with view-dependent colour, in linear (not log, not logit) units.

    The colour of a Gaussian seen along unit direction d is 0.5 + sum_k Y_k(d) sh[k] (3DGS
    convention, sRGB values), so a constant colour c is sh[0] = (c - 0.5) / 0.28209479.
    """

    means: np.ndarray  # [N, 3] float32, metres
    quats: np.ndarray  # [N, 4] float32, wxyz, unit
    scales: np.ndarray  # [N, 3] float32, metres, standard deviations along the rotated axes
    opacities: np.ndarray  # [N] float32, 0..1
    sh: np.ndarray  # [N, K, 3] float32, K = (degree + 1)^2, degree 0..3

    def __len__(self) -> int:
        return len(self.means)

    @property
    def sh_degree(self) -> int:
        return round(self.sh.shape[1] ** 0.5) - 1


@dataclass(frozen=True)
class BodyParams:
    """Shape, pose and place of one body; body(betas, pose, transl, scale) lies in the scene frame.

    The rest body is a T-pose in the canonical frame of SMPL-X (y up, z forward), shaped by betas
    and then scaled about the origin. pose[0] turns it about its rest pelvis into the scene frame,
    transl is added last. Arrays are float32 in files; whoever computes may hold float64.

    Raises:
        InputError: an array has another shape. Values may be anything: see not_finite.
    """

    betas: np.ndarray  # [B] shape coefficients of the body model that the parameters are for
    pose: np.ndarray  # [55, 3] axis-angle, radians, each relative to the parent joint
    transl: np.ndarray  # [3] metres
    scale: float = 1.0  # uniform scale of the rest body

    def __post_init__(self) -> None:
        wanted = {"betas": (np.size(self.betas),), "pose": (NUM_JOINTS, 3), "transl": (3,)}
        for name, shape in wanted.items():
            found = np.shape(getattr(self, name))
            if found != shape:
                raise InputError(f"The {name} has shape {found}, it must be {shape}.")

    def not_finite(self) -> str:
        """Name of the first parameter that holds values that are no numbers; "" if none does."""
        names = ("pose", "betas", "transl", "scale")
        return next((n for n in names if not np.isfinite(getattr(self, n)).all()), "")

    def as_float32(self) -> Self:
        """The same parameters as files hold them."""
        betas, pose, transl = (
            np.asarray(v, np.float32) for v in (self.betas, self.pose, self.transl)
        )
        return type(self)(betas, pose, transl, float(self.scale))


class HoldsBodyParams:
    """A frozen dataclass with the field `params`, read as if the four were its own."""

    params: BodyParams

    @property
    def betas(self) -> np.ndarray:
        """params.betas.  # [B]"""
        return self.params.betas

    @property
    def pose(self) -> np.ndarray:
        """params.pose.  # [55, 3] axis-angle, radians"""
        return self.params.pose

    @property
    def transl(self) -> np.ndarray:
        """params.transl.  # [3] metres"""
        return self.params.transl

    @property
    def scale(self) -> float:
        """params.scale."""
        return self.params.scale

    def with_params(self, **changes: Any) -> Self:
        """The same with some of the four changed."""
        changed = replace(self.params, **changes)
        return replace(self, params=changed)  # type: ignore[type-var]  # every holder is one


@dataclass(frozen=True)
class BodyMesh:
    """The naked body in the canonical T-pose, already shaped by betas and scale."""

    vertices: np.ndarray  # [V, 3] float32, metres, canonical frame
    faces: np.ndarray  # [F, 3] int32, counter-clockwise seen from outside
    skin_joints: np.ndarray  # [V, 4] uint8
    skin_weights: np.ndarray  # [V, 4] float32, rows sum to 1


# What a Gaussian shows; its place here is its label in files. New ones come last.
MATERIALS = ("other", "skin", "hair", "upper", "lower", "shoes")


@dataclass(frozen=True)
class Materials:
    """What each of N Gaussians shows, and how sure that is.

    A dress is "upper" down to its hem; hats, bags and whatever else is worn or held are "other".
    """

    label: np.ndarray  # [N] uint8, indices into MATERIALS
    confidence: np.ndarray  # [N] float32, 0..1


@dataclass(frozen=True)
class Avatar(HoldsBodyParams):
    """A person that can be posed; the canonical frame is SMPL-X (y up, z forward) in T-pose.

    Posing: A = joint_transforms(rest_joints, pose, transl); a point p with weights w goes to
    (sum_j w_j A_j) p. pose[0] is the orientation in the scene frame, transl is added last.
    """

    gaussians: Gaussians  # N canonical Gaussians
    skin_joints: np.ndarray  # [N, 4] uint8, indices into the 55 joints
    skin_weights: np.ndarray  # [N, 4] float32, rows sum to 1
    rest_joints: np.ndarray  # [55, 3] float32, metres, canonical frame, betas and scale applied
    body: BodyMesh
    params: BodyParams  # float32, of the photo; of the body model named in the scene, and with
    # a scale that is in rest_joints, body and gaussians already
    materials: Materials | None = None  # of the N Gaussians; None: nobody has told
