# SPDX-License-Identifier: Apache-2.0
"""Reading and writing splats as 3D Gaussian Splatting PLY files.

Source of the layout: GaussianModel.save_ply of graphdeco-inria/gaussian-splatting: one `vertex`
element with x y z, nx ny nz (unused), f_dc_0..2, f_rest_* (all red, then all green, then all blue),
opacity (logit), scale_0..2 (natural log of metres) and rot_0..3 (wxyz). Frames are the caller's
business: 3DGS viewers expect OpenCV world axes, see axes.convert_gaussians. One property of our own
may follow, material: what a splat shows, a place in MATERIALS.
"""

from pathlib import Path

import numpy as np

from ..errors import DamagedFileError, InputError
from ..geometry.avatar import MATERIALS, Gaussians
from ..geometry.sh import MAX_DEGREE, num_coefficients
from .atomic import atomic_file
from .ply import read_vertices, write_vertices

_COMPRESSED = "packed_position"  # a field of PlayCanvas' compressed PLY
_REQUIRED = (
    "x",
    "y",
    "z",
    "f_dc_0",
    "f_dc_1",
    "f_dc_2",
    "opacity",
    "scale_0",
    "scale_1",
    "scale_2",
    "rot_0",
    "rot_1",
    "rot_2",
    "rot_3",
)
_MATERIAL = "material"
_MIN_SCALE = 1e-12  # metres; keeps log(scale) finite
_MIN_ODDS = 1e-7  # keeps logit(opacity) finite
_MAX_LOG_SCALE = 40.0  # e^40 metres: a larger value cannot be a length


def write_splat_ply(
    path: str | Path,
    gaussians: Gaussians,
    comments: tuple[str, ...] = (),
    labels: np.ndarray | None = None,
) -> None:
    """Write a standard 3DGS PLY, binary little-endian float32, atomically.

    Args:
        path: where to write.
        gaussians: N Gaussians of SH degree 0..3; centres are written as they are.
        comments: one-line ASCII header comments.
        labels: [N] what each shows, places in MATERIALS; None leaves the property out.

    Raises:
        InputError: a value is not finite.
        ResourceError: the disk is full or the folder cannot be written.
    """
    columns = _columns(gaussians)
    if labels is not None:
        columns[_MATERIAL] = labels
    vertex = np.empty(len(gaussians), dtype=[(name, "<f4") for name in columns])
    for name, values in columns.items():
        if not np.isfinite(values).all():
            raise InputError(f"{path}: {name} holds values that are not finite.")
        vertex[name] = values
    with atomic_file(path) as stream:
        write_vertices(stream, vertex, comments)


def read_splat_ply(path: str | Path) -> Gaussians:
    """Read a splat PLY of any common tool.

    Binary of either byte order and ASCII, properties of any order and numeric type, further
    properties and elements (faces) are accepted. Missing normals do not matter; missing f_rest
    means degree 0; quaternions need not be unit. Coefficients above degree 3 are dropped.

    Args:
        path: the file.

    Returns:
        N Gaussians, float32, in the axes of the file.

    Raises:
        CrowdGaussianError: names the file and the missing, truncated or impossible field.
    """
    vertex = read_vertices(Path(path))
    names = set(vertex.dtype.names or ())
    if _COMPRESSED in names:
        raise InputError(
            f"{path} is a compressed PLY; convert it to a plain one first, with PlayCanvas' "
            "splat-transform or the tool that wrote it."
        )
    for name in _REQUIRED:
        if name not in names:
            raise DamagedFileError(
                f"{path}: the vertex field {name} is missing, so this is not a Gaussian splat PLY."
            )
    return Gaussians(
        means=_finite(path, vertex, ("x", "y", "z")),
        quats=_unit_quats(path, vertex),
        scales=_scales(path, vertex),
        opacities=_opacities(path, vertex),
        sh=_sh(path, vertex, names),
    )


def read_labels(path: str | Path) -> np.ndarray | None:
    """What each splat of a PLY shows; None if the file does not say so, or not as we do.

    Returns:
        [N] uint8, places in MATERIALS.

    Raises:
        CrowdGaussianError: as read_splat_ply.
    """
    vertex = read_vertices(Path(path))
    if _MATERIAL not in (vertex.dtype.names or ()):
        return None
    labels = vertex[_MATERIAL].astype(np.float64)
    ours = np.isfinite(labels) & (labels >= 0) & (labels < len(MATERIALS))
    return labels.astype(np.uint8) if (ours & (labels % 1 == 0)).all() else None


def _columns(gaussians: Gaussians) -> dict[str, np.ndarray]:
    bands = gaussians.sh[:, 1:]
    rest = bands.transpose(0, 2, 1).reshape(len(bands), 3 * bands.shape[1])  # channel-major
    opacities = np.clip(gaussians.opacities.astype(np.float64), _MIN_ODDS, 1 - _MIN_ODDS)
    log_scales = np.log(np.maximum(gaussians.scales, _MIN_SCALE))
    columns = {axis: gaussians.means[:, i] for i, axis in enumerate("xyz")}
    columns |= {f"n{axis}": np.zeros(len(gaussians)) for axis in "xyz"}
    columns |= {f"f_dc_{c}": gaussians.sh[:, 0, c] for c in range(3)}
    columns |= {f"f_rest_{k}": rest[:, k] for k in range(rest.shape[1])}
    columns["opacity"] = np.log(opacities) - np.log1p(-opacities)
    columns |= {f"scale_{k}": log_scales[:, k] for k in range(3)}
    columns |= {f"rot_{k}": gaussians.quats[:, k] for k in range(4)}
    return columns


def _stack(path: str | Path, vertex: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """Columns as float64 without NaN.  # [N, len(names)]"""
    values = np.empty((len(vertex), len(names)))
    for column, name in enumerate(names):
        values[:, column] = vertex[name]
        if np.isnan(values[:, column]).any():
            raise DamagedFileError(f"{path}: the vertex field {name} holds NaN; export it again.")
    return values


def _finite(path: str | Path, vertex: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    values = _stack(path, vertex, names)
    limit = np.finfo(np.float32).max
    bad = np.flatnonzero((np.abs(values) > limit).any(axis=0))
    if len(bad):
        raise DamagedFileError(
            f"{path}: the vertex field {names[bad[0]]} holds values too large for a splat."
        )
    return values.astype(np.float32)


def _unit_quats(path: str | Path, vertex: np.ndarray) -> np.ndarray:
    quats = _finite(path, vertex, ("rot_0", "rot_1", "rot_2", "rot_3")).astype(np.float64)
    lengths = np.linalg.norm(quats, axis=1, keepdims=True)
    if (lengths == 0).any():
        raise DamagedFileError(
            f"{path}: the vertex fields rot_0 to rot_3 are all zero at splat "
            f"{int(np.argmin(lengths))}, which is no rotation."
        )
    return (quats / lengths).astype(np.float32)


def _scales(path: str | Path, vertex: np.ndarray) -> np.ndarray:
    logs = _stack(path, vertex, ("scale_0", "scale_1", "scale_2"))
    bad = np.flatnonzero((logs > _MAX_LOG_SCALE).any(axis=0))
    if len(bad):
        raise DamagedFileError(
            f"{path}: the vertex field scale_{bad[0]} holds values above {_MAX_LOG_SCALE:g}, "
            "which cannot be the logarithm of a length."
        )
    return np.exp(logs).astype(np.float32)


def _opacities(path: str | Path, vertex: np.ndarray) -> np.ndarray:
    logits = np.clip(_stack(path, vertex, ("opacity",))[:, 0], -700, 700)
    return (1 / (1 + np.exp(-logits))).astype(np.float32)


def _sh(path: str | Path, vertex: np.ndarray, names: set[str]) -> np.ndarray:
    rest = sum(name.startswith("f_rest_") for name in names)
    per_channel = rest // 3
    degree = round((per_channel + 1) ** 0.5) - 1
    complete = all(f"f_rest_{k}" in names for k in range(rest))
    if rest != 3 * (num_coefficients(degree) - 1) or not complete:
        raise DamagedFileError(
            f"{path}: {rest} vertex fields f_rest_* do not make whole bands of spherical harmonics."
        )
    kept = num_coefficients(min(degree, MAX_DEGREE)) - 1
    columns = [f"f_rest_{c * per_channel + k}" for c in range(3) for k in range(kept)]
    sh = np.empty((len(vertex), 1 + kept, 3), dtype=np.float32)
    sh[:, 0] = _finite(path, vertex, ("f_dc_0", "f_dc_1", "f_dc_2"))
    bands = _finite(path, vertex, tuple(columns)).reshape(len(vertex), 3, kept)
    sh[:, 1:] = bands.transpose(0, 2, 1)
    return sh
