# SPDX-License-Identifier: Apache-2.0
"""avatar.npz: one person on disk. Every array's type, shape and range is checked both ways."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DamagedFileError
from ..geometry.avatar import MATERIALS, Avatar, BodyMesh, BodyParams, Gaussians, Materials
from ..geometry.skeleton import NUM_JOINTS
from .npz import ArrayHeader, read_npz, write_npz

AVATAR_VERSION = 1
_FAR = 1e4  # metres: nothing of a person lies farther away
_UNIT = 1e-3  # how far a quaternion's length or a weight sum may lie from 1

# Named sizes: N Gaussians, V vertices, F faces, K SH coefficients, B betas.
_LIMITS = {"N": 5_000_000, "V": 1_000_000, "F": 2_000_000, "K": 16, "B": 1000}


@dataclass(frozen=True)
class ArraySpec:
    """What one array of the file must be."""

    dtype: str
    shape: tuple[int | str, ...]  # numbers, or the named sizes above
    low: float
    high: float


_SPECS: dict[str, ArraySpec] = {
    "version": ArraySpec("int32", (), 1, AVATAR_VERSION),
    "means": ArraySpec("float32", ("N", 3), -_FAR, _FAR),
    "quats": ArraySpec("float32", ("N", 4), -2, 2),
    "scales": ArraySpec("float32", ("N", 3), 0, _FAR),
    "opacities": ArraySpec("float32", ("N",), 0, 1),
    "sh": ArraySpec("float32", ("N", "K", 3), -1e4, 1e4),
    "skin_joints": ArraySpec("uint8", ("N", 4), 0, NUM_JOINTS - 1),
    "skin_weights": ArraySpec("float32", ("N", 4), 0, 1 + _UNIT),
    "rest_joints": ArraySpec("float32", (NUM_JOINTS, 3), -_FAR, _FAR),
    "body_vertices": ArraySpec("float32", ("V", 3), -_FAR, _FAR),
    "body_faces": ArraySpec("int32", ("F", 3), 0, _LIMITS["V"]),
    "body_skin_joints": ArraySpec("uint8", ("V", 4), 0, NUM_JOINTS - 1),
    "body_skin_weights": ArraySpec("float32", ("V", 4), 0, 1 + _UNIT),
    "pose": ArraySpec("float32", (NUM_JOINTS, 3), -1e3, 1e3),
    "transl": ArraySpec("float32", (3,), -_FAR, _FAR),
    "betas": ArraySpec("float32", ("B",), -1e3, 1e3),
    "scale": ArraySpec("float32", (), 1e-3, 1e3),
}
# Files of before materials have neither, all others both.
_MATERIALS: dict[str, ArraySpec] = {
    "material": ArraySpec("uint8", ("N",), 0, len(MATERIALS) - 1),
    "material_confidence": ArraySpec("float32", ("N",), 0, 1),
}
_ALL = {**_SPECS, **_MATERIALS}


def write_avatar(path: str | Path, avatar: Avatar) -> None:
    """Write avatar.npz atomically.

    Raises:
        DamagedFileError: an array is not what it must be.
        ResourceError: the disk is full or the folder cannot be written.
    """
    arrays = {
        name: np.ascontiguousarray(value, dtype=_ALL[name].dtype).reshape(np.shape(value))
        for name, value in _to_arrays(avatar).items()
    }
    _check_headers(path, {name: ArrayHeader(a.dtype, a.shape) for name, a in arrays.items()})
    _check_values(path, arrays)
    write_npz(path, arrays)


def read_avatar(path: str | Path) -> Avatar:
    """Read and check avatar.npz.

    Raises:
        MissingFileError: there is no such file.
        ResourceError: it cannot be read.
        DamagedFileError: it is damaged or newer, or an array is not what it must be; the sentence
            names the file and the array.
    """
    arrays = read_npz(
        path, lambda headers: _check_headers(path, headers), _SPECS, optional=_MATERIALS
    )
    _check_values(path, arrays)
    return _from_arrays(arrays)


def _to_arrays(avatar: Avatar) -> dict[str, np.ndarray]:
    cloud, body, materials = avatar.gaussians, avatar.body, avatar.materials
    told = (materials.label, materials.confidence) if materials is not None else ()
    return {
        "version": np.array(AVATAR_VERSION),
        "means": cloud.means,
        "quats": cloud.quats,
        "scales": cloud.scales,
        "opacities": cloud.opacities,
        "sh": cloud.sh,
        "skin_joints": avatar.skin_joints,
        "skin_weights": avatar.skin_weights,
        "rest_joints": avatar.rest_joints,
        "body_vertices": body.vertices,
        "body_faces": body.faces,
        "body_skin_joints": body.skin_joints,
        "body_skin_weights": body.skin_weights,
        "pose": avatar.pose,
        "transl": avatar.transl,
        "betas": avatar.betas,
        "scale": np.array(avatar.scale),
        **dict(zip(_MATERIALS, told)),
    }


def _from_arrays(arrays: Mapping[str, np.ndarray]) -> Avatar:
    cloud = ("means", "quats", "scales", "opacities", "sh")
    body = ("vertices", "faces", "skin_joints", "skin_weights")
    own = ("skin_joints", "skin_weights", "rest_joints")
    shape = ("betas", "pose", "transl")
    told = [arrays[name] for name in _MATERIALS if name in arrays]
    return Avatar(
        gaussians=Gaussians(**{name: arrays[name] for name in cloud}),
        body=BodyMesh(**{name: arrays[f"body_{name}"] for name in body}),
        params=BodyParams(**{name: arrays[name] for name in shape}, scale=float(arrays["scale"])),
        **{name: arrays[name] for name in own},
        materials=Materials(*told) if told else None,
    )


def _check_headers(path: str | Path, headers: Mapping[str, ArrayHeader]) -> None:
    """Types and shapes, before any array is read."""
    sizes: dict[str, int] = {}
    for name, spec in _present(headers).items():
        if name not in headers:
            raise DamagedFileError(f"{path}: {name} is missing; reconstruct the person again.")
        header = headers[name]
        if header.dtype.newbyteorder("=") != np.dtype(spec.dtype):
            raise DamagedFileError(f"{path}: {name} must be {spec.dtype}, not {header.dtype}.")
        if not _shape_fits(header.shape, spec.shape, sizes):
            wanted = ", ".join(_size_words(size, sizes) for size in spec.shape)
            raise DamagedFileError(
                f"{path}: {name} must have the shape [{wanted}], not {list(header.shape)}."
            )
    if sizes["K"] not in (1, 4, 9, 16):
        raise DamagedFileError(f"{path}: sh must have 1, 4, 9 or 16 coefficients.")


def _present(arrays: Mapping[str, object]) -> dict[str, ArraySpec]:
    """What the arrays of a file must be, those of its materials among them if it has any."""
    return _ALL if any(name in arrays for name in _MATERIALS) else _SPECS


def _size_words(size: int | str, sizes: Mapping[str, int]) -> str:
    if isinstance(size, int) or size in sizes:
        return str(size if isinstance(size, int) else sizes[size])
    return f"{size} up to {_LIMITS[size]}"


def _shape_fits(
    shape: tuple[int, ...], wanted: tuple[int | str, ...], sizes: dict[str, int]
) -> bool:
    """Compare a shape; named sizes are bound in `sizes` at first sight."""
    if len(shape) != len(wanted):
        return False
    for size, want in zip(shape, wanted, strict=True):
        if isinstance(want, str) and want not in sizes and size <= _LIMITS[want]:
            sizes[want] = size
        if size != (want if isinstance(want, int) else sizes.get(want)):
            return False
    return True


def _check_values(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    for name, spec in _present(arrays).items():
        array = arrays[name]
        if name == "version" and array > AVATAR_VERSION:
            raise DamagedFileError(
                f"{path} was written by a newer CrowdGaussian (avatar version {array}); "
                "update the add-on or the backend."
            )
        if array.size and not (array.min() >= spec.low and array.max() <= spec.high):
            raise DamagedFileError(
                f"{path}: {name} must be finite and lie between {spec.low:g} and {spec.high:g}."
            )
    for name in ("skin_weights", "body_skin_weights"):
        if not _all_near_one(arrays[name].sum(axis=1)):
            raise DamagedFileError(f"{path}: the rows of {name} must sum to 1.")
    if not _all_near_one(np.linalg.norm(arrays["quats"], axis=1)):
        raise DamagedFileError(f"{path}: quats must be unit quaternions.")
    faces = arrays["body_faces"]
    if faces.size and faces.max() >= len(arrays["body_vertices"]):
        raise DamagedFileError(f"{path}: body_faces name vertices that do not exist.")


def _all_near_one(values: np.ndarray) -> bool:
    return bool((np.abs(values - 1) <= _UNIT).all())
