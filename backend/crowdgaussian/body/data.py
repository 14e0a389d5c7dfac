# SPDX-License-Identifier: Apache-2.0
"""The arrays that make a body, whatever file they come from."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from crowdgaussian_shared.errors import DamagedFileError, MissingFileError


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
