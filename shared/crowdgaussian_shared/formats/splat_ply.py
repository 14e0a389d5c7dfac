# SPDX-License-Identifier: Apache-2.0
"""Reading and writing splats as 3D Gaussian Splatting PLY files.

Source of the layout: GaussianModel.save_ply of graphdeco-inria/gaussian-splatting: one `vertex`
element with x y z, nx ny nz (unused), f_dc_0..2, f_rest_* (all red, then all green, then all blue),
opacity (logit), scale_0..2 (natural log of metres) and rot_0..3 (wxyz). Frames are the caller's
business: 3DGS viewers expect OpenCV world axes, see axes.convert_gaussians. One property of our own
may follow, material: what a splat shows, a place in MATERIALS.
"""

from dataclasses import dataclass
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
    *("scale_0", "scale_1", "scale_2"),
    *("rot_0", "rot_1", "rot_2", "rot_3"),
)
_QUATS = ("rot_0", "rot_1", "rot_2", "rot_3")
_SCALES = ("scale_0", "scale_1", "scale_2")
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


@dataclass(frozen=True)
class SplatFile:
    """What a splat PLY holds, in the axes of the file."""

    gaussians: Gaussians  # N, float32
    labels: np.ndarray | None  # [N] uint8, places in MATERIALS; None: the file does not say so
    dropped: int  # rows that are no splat: not a number, without rotation, too large for float32


def read_splat_file(path: str | Path, most: int | None = None) -> SplatFile:
    """Read a splat PLY of any common tool; a row that is no splat is left out and counted.

    Binary of either byte order and ASCII, properties of any order and numeric type, further
    properties and elements (faces) are accepted. Missing normals do not matter; missing f_rest
    means degree 0; quaternions need not be unit. Coefficients above degree 3 are dropped.

    Args:
        path: the file.
        most: splats that are accepted; the header is asked, before a splat is read.

    Raises:
        CrowdGaussianError: names the file and the missing or truncated field, or the limit; or no
            row is a splat.
    """
    vertex = read_vertices(Path(path), most)
    names = set(vertex.dtype.names or ())
    if _COMPRESSED in names:
        raise InputError(
            f"{path} is a compressed PLY; convert it to a plain one first, with `crowdgaussian "
            "export`, PlayCanvas' splat-transform or the tool that wrote it."
        )
    for name in _REQUIRED:
        if name not in names:
            raise DamagedFileError(
                f"{path}: the vertex field {name} is missing, so this is not a Gaussian splat PLY."
            )
    rest = _rest_columns(path, names)
    sound = _sound_rows(path, vertex, rest)
    rows = vertex if sound.all() else vertex[sound]
    gaussians = Gaussians(
        means=_stack(rows, ("x", "y", "z")),
        quats=_unit_quats(rows),
        scales=np.exp(_stack(rows, _SCALES, np.float64)).astype(np.float32),
        opacities=_opacities(rows),
        sh=_sh(rows, rest),
    )
    return SplatFile(gaussians, _labels(rows, names), len(vertex) - len(rows))


def read_splat_ply(path: str | Path) -> Gaussians:
    """The Gaussians of read_splat_file alone."""
    return read_splat_file(path).gaussians


def _labels(rows: np.ndarray, names: set[str]) -> np.ndarray | None:
    """What each splat shows; None if the file does not say so, or not as we do.  # [N] uint8"""
    if _MATERIAL not in names:
        return None
    labels = rows[_MATERIAL].astype(np.float64)
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


def _sound_rows(path: str | Path, vertex: np.ndarray, rest: tuple[str, ...]) -> np.ndarray:
    """Which rows can be splats.  # [N] bool

    Raises:
        DamagedFileError: none can.
    """
    sound = np.ones(len(vertex), bool)
    fault = ""  # the first field without a value that could be one
    for name in (*_REQUIRED, *rest):
        good = _sound_values(name, vertex[name].astype(np.float64))
        fault = fault or ("" if good.any() else name)
        sound &= good
    sound &= np.any([vertex[name] != 0 for name in _QUATS], axis=0)
    if len(vertex) and not sound.any():
        why = f"the vertex field {fault} holds" if fault else "each has a field with"
        raise DamagedFileError(
            f"{path}: none of its {len(vertex)} splats can be one, {why} no number that could be; "
            "export it again."
        )
    return sound


def _sound_values(name: str, values: np.ndarray) -> np.ndarray:
    """Where a field's values can be those of a splat.  # [N] -> [N] bool"""
    if name in _SCALES:
        return values <= _MAX_LOG_SCALE
    if name == "opacity":  # a logit may be infinite
        return ~np.isnan(values)
    return np.abs(values) <= np.finfo(np.float32).max


def _stack(rows: np.ndarray, names: tuple[str, ...], kind: type = np.float32) -> np.ndarray:
    """Columns side by side.  # [N, len(names)]"""
    return np.stack([rows[name].astype(kind) for name in names], axis=1)


def _unit_quats(rows: np.ndarray) -> np.ndarray:
    quats = _stack(rows, _QUATS, np.float64)
    return (quats / np.linalg.norm(quats, axis=1, keepdims=True)).astype(np.float32)


def _opacities(rows: np.ndarray) -> np.ndarray:
    logits = np.clip(rows["opacity"].astype(np.float64), -700, 700)
    return (1 / (1 + np.exp(-logits))).astype(np.float32)


def _rest_columns(path: str | Path, names: set[str]) -> tuple[str, ...]:
    """The fields of the higher bands up to degree 3, channel by channel."""
    rest = sum(name.startswith("f_rest_") for name in names)
    per_channel = rest // 3
    degree = round((per_channel + 1) ** 0.5) - 1
    complete = all(f"f_rest_{k}" in names for k in range(rest))
    if rest != 3 * (num_coefficients(degree) - 1) or not complete:
        raise DamagedFileError(
            f"{path}: {rest} vertex fields f_rest_* do not make whole bands of spherical harmonics."
        )
    kept = num_coefficients(min(degree, MAX_DEGREE)) - 1
    return tuple(f"f_rest_{c * per_channel + k}" for c in range(3) for k in range(kept))


def _sh(rows: np.ndarray, rest: tuple[str, ...]) -> np.ndarray:
    kept = len(rest) // 3
    sh = np.empty((len(rows), 1 + kept, 3), dtype=np.float32)
    sh[:, 0] = _stack(rows, ("f_dc_0", "f_dc_1", "f_dc_2"))
    if kept:
        sh[:, 1:] = _stack(rows, rest).reshape(len(rows), 3, kept).transpose(0, 2, 1)
    return sh
