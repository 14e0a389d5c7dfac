# SPDX-License-Identifier: Apache-2.0
"""Splat files of all makers -> Gaussians of the scene frame, and how many of them were none.

PLY and .splat are read here; compressed PLY and SPZ through gsply (MIT, optional). What a file
announces is compared with the limit before it is read.
"""

import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from crowdgaussian_shared.errors import DamagedFileError, InputError, MissingFileError
from crowdgaussian_shared.formats.atomic import read_error
from crowdgaussian_shared.formats.splat_ply import SplatFile, read_splat_file
from crowdgaussian_shared.geometry.avatar import Gaussians
from crowdgaussian_shared.geometry.axes import Frame, convert_gaussians
from crowdgaussian_shared.geometry.sh import colour_to_sh

from .sog import META, read_sog

MOST_SPLATS = 10_000_000  # of one file; Niantic's own reader of SPZ has the same limit
_PLY_HEAD = 1 << 12  # bytes in which a compressed PLY names its first fields
_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"
_SPZ, _SPZ_HEAD = b"NGSP", 16
_SPZ_VERSIONS = (2, 3, 4)  # 4 is not compressed as a whole, and begins by itself
# Of antimatter15's .splat: https://github.com/antimatter15/splat, convert.py
SPLAT_DTYPE = np.dtype(
    [("xyz", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("quat", "u1", 4)]
)
_MIDDLE = 128.0  # of a byte that is a quaternion's number: (q + 1) * 128
_DAMAGED = (OSError, ValueError, EOFError, LookupError, TypeError, ArithmeticError, zlib.error)


def read_splats(path: Path, axes: Frame) -> SplatFile:
    """The splats of a PLY, compressed PLY, SPZ of versions 2 to 4, or .splat file.

    Args:
        path: the file; its content says what it is, only .splat has to be called so.
        axes: of the file; SPZ says itself that y is up.

    Raises:
        CrowdGaussianError: unreadable, of another kind, too large, or a package is missing.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(_PLY_HEAD)
    except OSError as error:
        raise read_error(path, error) from error
    if head.startswith((_GZIP, _SPZ)):
        return _read_spz(path, head)
    if path.suffix.lower() == ".splat":
        read = _read_dot_splat(path)
    elif head.startswith(_ZIP) or path.name == META:
        read = _only_sound(read_sog(path, partial(_check_count, path)))
    elif head.startswith(b"ply") and b"packed_position" in head:
        read = _only_sound(_gaussians(_through_gsply(path, "a compressed PLY", "plyread")))
    else:
        read = read_splat_file(path, MOST_SPLATS)
    return replace(read, gaussians=convert_gaussians(read.gaussians, axes, "scene"))


def _read_spz(path: Path, head: bytes) -> SplatFile:
    start = head
    if head.startswith(_GZIP):
        try:
            start = zlib.decompressobj(wbits=31).decompress(head, _SPZ_HEAD)
        except zlib.error as error:
            raise DamagedFileError(f"{path} is damaged; export it again.") from error
    version, count = (int.from_bytes(start[at : at + 4], "little") for at in (4, 8))
    if start[:4] != _SPZ or len(start) < _SPZ_HEAD:
        raise InputError(f"{path} is compressed and no SPZ; unpack it first.")
    if version not in _SPZ_VERSIONS:
        raise InputError(f"{path} is SPZ of version {version}; save it as version 3, or as PLY.")
    _check_count(path, count)
    return _only_sound(_gaussians(_through_gsply(path, "an SPZ", "read_spz")))


def _through_gsply(path: Path, kind: str, function: str) -> Any:
    try:
        import gsply
        import zstandard  # noqa: F401  # gsply reads SPZ 4 with it
    except ImportError as error:
        raise MissingFileError(
            f"{path} is {kind}; to read it, run `pip install 'crowdgaussian[export]'`."
        ) from error
    read: Callable[[Path], Any] = getattr(gsply, function)
    try:
        return read(path)
    except _DAMAGED as error:
        why = " ".join(str(error).split())[:100]
        raise DamagedFileError(f"{path} is damaged ({why}); export it again.") from error


def _gaussians(data: Any) -> Gaussians:
    """gsply's logarithms and logits as we have them."""
    rest = data.shN if data.shN is not None and data.shN.size else np.empty((len(data.means), 0, 3))
    logits = np.clip(data.opacities.astype(np.float64).reshape(-1), -700, 700)
    return Gaussians(
        means=np.ascontiguousarray(data.means, np.float32),
        quats=np.ascontiguousarray(data.quats, np.float32),
        scales=np.exp(data.scales).astype(np.float32),
        opacities=(1 / (1 + np.exp(-logits))).astype(np.float32),
        sh=np.concatenate([data.sh0[:, None], rest], axis=1).astype(np.float32),
    )


def _read_dot_splat(path: Path) -> SplatFile:
    size = path.stat().st_size
    if size % SPLAT_DTYPE.itemsize:
        raise DamagedFileError(
            f"{path} is cut off: {size} bytes are no multiple of {SPLAT_DTYPE.itemsize}; copy it "
            "again."
        )
    _check_count(path, size // SPLAT_DTYPE.itemsize)
    try:
        rows = np.fromfile(path, SPLAT_DTYPE)
    except OSError as error:
        raise read_error(path, error) from error
    return _only_sound(Gaussians(
        means=rows["xyz"].astype(np.float32),
        quats=((rows["quat"] - _MIDDLE) / _MIDDLE).astype(np.float32),
        scales=rows["scale"].astype(np.float32),
        opacities=(rows["rgba"][:, 3] / 255).astype(np.float32),
        sh=colour_to_sh(rows["rgba"][:, :3] / 255).astype(np.float32),
    ))  # fmt: skip


def _check_count(path: Path, count: int) -> None:
    if count > MOST_SPLATS:
        raise InputError(
            f"{path} holds {count} splats, more than the {MOST_SPLATS} that are read; make it "
            "smaller first, as with PlayCanvas' splat-transform (--decimate)."
        )


def _only_sound(cloud: Gaussians) -> SplatFile:
    """Without what is no splat: values that are not finite, rotations of length zero."""
    lengths = np.linalg.norm(cloud.quats.astype(np.float64), axis=1, keepdims=True)
    sound = lengths[:, 0] > 0
    for values in vars(cloud).values():
        sound &= np.isfinite(values).reshape(len(sound), -1).all(axis=1)
    cloud = replace(cloud, quats=(cloud.quats / np.maximum(lengths, 1e-12)).astype(np.float32))
    kept = Gaussians(**{name: values[sound] for name, values in vars(cloud).items()})
    return SplatFile(kept, None, int(len(sound) - sound.sum()))
