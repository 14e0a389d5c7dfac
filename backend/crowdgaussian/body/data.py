# SPDX-License-Identifier: Apache-2.0
"""The arrays that make a body, whatever file they come from."""

from dataclasses import dataclass, field

import numpy as np


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
