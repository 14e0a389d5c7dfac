# SPDX-License-Identifier: Apache-2.0
"""Splat files of all makers -> Gaussians of the scene frame, and how many of them were none.

PLY, .splat, .ksplat and glTF are read here, SOG in sog.py; compressed PLY and SPZ through gsply
(MIT, optional). What a file announces is compared with the limit before it is read.
"""

import struct
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
from crowdgaussian_shared.geometry.skinning import join_gaussians

from .gltf import GLB, read_gltf
from .interchange import scratch_file
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


@np.errstate(all="ignore")  # what overflows or is no number is no splat, and is left out
def read_splats(path: str | Path, axes: Frame = "opencv") -> SplatFile:
    """The splats of a PLY, compressed PLY, SPZ of versions 2 to 4, SOG, .splat, .ksplat or glTF.

    Args:
        path: the file; its content says what it is, only .splat and .ksplat have to be called so,
            and the meta.json of an unpacked SOG.
        axes: of the file; SPZ and glTF say themselves that y is up.

    Raises:
        CrowdGaussianError: unreadable, of another kind, too large, or a package is missing.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            head = stream.read(_PLY_HEAD)
    except OSError as error:
        raise read_error(path, error) from error
    if head.startswith((_GZIP, _SPZ)):
        return _read_spz(path, head)
    if head.startswith(GLB) or path.suffix.lower() in (".gltf", ".glb"):
        return _read_gltf(path)
    if path.suffix.lower() == ".splat":
        read = _read_dot_splat(path)
    elif path.suffix.lower() == ".ksplat":
        read = _read_ksplat(path)
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


def _read_gltf(path: Path) -> SplatFile:
    try:
        return _only_sound(
            *read_gltf(path, partial(_check_count, path), partial(_unpack_spz, path))
        )
    except OSError as error:
        raise read_error(path, error) from error
    except (*_DAMAGED, AttributeError, RecursionError, struct.error) as error:
        why = " ".join(str(error).split())[:100]
        raise DamagedFileError(f"{path} is a damaged glTF ({why}); export it again.") from error


def _unpack_spz(path: Path, data: bytes) -> Gaussians:
    """An SPZ inside a file at path, which gsply reads from a file of its own."""
    with scratch_file(".spz") as temp:
        temp.write_bytes(data)
        try:
            return _read_spz(temp, data[:_PLY_HEAD]).gaussians
        except DamagedFileError as error:
            raise DamagedFileError(
                f"{path} holds packed splats that are damaged; export it again."
            ) from error


# .ksplat of GaussianSplats3D. Source of the layout: mkkellogg/GaussianSplats3D (SplatBuffer.js): a
# head, heads of all sections, then for each section the sizes of its buckets that are not full, the
# middles of all buckets, and the splats. Centres are numbers around the middle of their bucket.

_KSPLAT_HEAD, _SECTION_HEAD = 4096, 1024  # bytes
_KSPLAT_KINDS = (("<f4", "<f4", "<f4"), ("<u2", "<f2", "<f2"), ("<u2", "<f2", "u1"))
_BANDS = (3, 5, 7)  # coefficients of degree 1, 2, 3
_SH_RANGE = (-1.5, 1.5)  # of harmonics in bytes, where the file gives none
_STEPS = 32767  # of a centre on either side of its bucket's middle, where the file gives none
_MIDDLE_BYTES = 12


def _read_ksplat(path: Path) -> SplatFile:
    try:
        data = np.memmap(path, "u1", "r")
        words = np.frombuffer(data, "<u4", 6)
        sections, count, kind = int(words[2]), int(words[4]), int(words[5]) & 0xFFFF
        if data[0] != 0 or data[1] < 1 or kind >= len(_KSPLAT_KINDS):
            raise InputError(f"{path} is no .ksplat of version 0.1; save it as SOG, SPZ or PLY.")
        _check_count(path, count)
        ends = np.frombuffer(data, "<f4", 2, 36)
        start = _KSPLAT_HEAD + _SECTION_HEAD * int(words[1])
        parts = []
        for section in range(sections):
            head = np.frombuffer(data, "<u4", 11, _KSPLAT_HEAD + _SECTION_HEAD * section)
            rows, means, start = _ksplat_section(data, head, start, kind)
            parts.append(_ksplat_gaussians(rows, means, ends if ends.any() else _SH_RANGE))
        return _only_sound(join_gaussians(parts))
    except OSError as error:
        raise read_error(path, error) from error
    except _DAMAGED as error:
        raise DamagedFileError(f"{path} is a damaged .ksplat; export it again.") from error


def _ksplat_section(
    data: np.ndarray, head: np.ndarray, start: int, kind: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """A section whose data begin at byte start -> its rows, their centres [N, 3], where it ends."""
    count, most, capacity, buckets = (int(word) for word in head[:4])
    middle_bytes, degree = int(head[5]) & 0xFFFF, int(head[10]) & 0xFFFF
    full, others = int(head[8]), int(head[9])  # buckets that are full, and not
    place, half, harmonic = _KSPLAT_KINDS[kind]
    row = np.dtype([
        ("xyz", place, 3), ("scale", half, 3), ("quat", half, 4), ("rgba", "u1", 4),
        ("sh", harmonic, (3 * sum(_BANDS[:degree]),)),
    ])  # fmt: skip
    middles_at = start + 4 * others
    rows_at = middles_at + middle_bytes * buckets
    end = rows_at + most * row.itemsize
    if count > most or degree > len(_BANDS) or end > len(data):
        raise ValueError("it ends too early")
    rows = np.frombuffer(data, row, count, rows_at)
    if not kind:
        return rows, rows["xyz"], end
    if middle_bytes != _MIDDLE_BYTES or full + others > buckets:
        raise ValueError("its buckets make no sense")
    sizes = np.r_[np.full(full, capacity), np.frombuffer(data, "<u4", others, start)]
    bucket = np.searchsorted(np.cumsum(sizes), np.arange(count), side="right")
    middles = np.frombuffer(data, "<f4", 3 * buckets, middles_at).reshape(-1, 3)
    steps = int(head[6]) or _STEPS
    step = float(head[4:5].view("<f4")[0]) / 2 / steps
    return rows, (rows["xyz"].astype(np.float64) - steps) * step + middles[bucket], end


def _ksplat_gaussians(rows: np.ndarray, means: np.ndarray, ends: Any) -> Gaussians:
    rest = rows["sh"].astype(np.float64)
    if rows["sh"].dtype == np.uint8:
        rest = ends[0] + rest / 255 * (ends[1] - ends[0])
    bands = [colour_to_sh(rows["rgba"][:, :3] / 255)]
    while rest.shape[1]:  # red, green and blue of a band one after the other
        size = _BANDS[len(bands) - 1]
        bands.append(rest[:, : 3 * size].reshape(-1, 3, size).transpose(0, 2, 1))
        rest = rest[:, 3 * size :]
    return Gaussians(
        means=means.astype(np.float32),
        quats=rows["quat"].astype(np.float32),
        scales=rows["scale"].astype(np.float32),
        opacities=(rows["rgba"][:, 3] / 255).astype(np.float32),
        sh=np.concatenate(bands, axis=1).astype(np.float32),
    )


def _check_count(path: Path, count: int) -> None:
    if count > MOST_SPLATS:
        raise InputError(
            f"{path} holds {count} splats, more than the {MOST_SPLATS} that are read; make it "
            "smaller first, as with PlayCanvas' splat-transform (--decimate)."
        )


def _only_sound(cloud: Gaussians, labels: np.ndarray | None = None) -> SplatFile:
    """Without what is no splat: values that are not finite, rotations of length zero."""
    lengths = np.linalg.norm(cloud.quats.astype(np.float64), axis=1, keepdims=True)
    sound = lengths[:, 0] > 0
    for values in vars(cloud).values():
        sound &= np.isfinite(values).reshape(len(sound), -1).all(axis=1)
    cloud = replace(cloud, quats=(cloud.quats / np.maximum(lengths, 1e-12)).astype(np.float32))
    kept = Gaussians(**{name: values[sound] for name, values in vars(cloud).items()})
    shown = None if labels is None else labels[sound]
    return SplatFile(kept, shown, int(len(sound) - sound.sum()))
