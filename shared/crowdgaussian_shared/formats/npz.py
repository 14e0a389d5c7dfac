# SPDX-License-Identifier: Apache-2.0
"""Reading .npz files from anywhere: sizes and types are checked before memory is taken.

numpy.load trusts the headers inside the archive; this reader looks at every header first, takes no
pickles, and reports damage in one sentence that names the file and the array.
"""

import struct
import zipfile
import zlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import IO

import numpy as np

from ..errors import DamagedFileError, InputError
from .atomic import atomic_file, read_error

MAX_BYTES = 8 << 30  # of all arrays of one file
MAX_ARRAYS = 1000
_KINDS = "biufU"  # bool, integers, floats, texts
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    LookupError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    ValueError,
)
# A header is a Python literal: what numpy's parser raises on the worst of them.
_HEADER_DAMAGE = (*_DAMAGE, AttributeError, MemoryError, SyntaxError, TokenError, TypeError)
_HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@dataclass(frozen=True)
class ArrayHeader:
    """What an array says it is, before it is read."""

    dtype: np.dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        count = 1
        for size in self.shape:
            count *= size
        return count * self.dtype.itemsize


HeaderCheck = Callable[[Mapping[str, ArrayHeader]], None]


def write_npz(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays atomically; the same arrays give the same bytes, whenever they are written.

    Raises:
        CrowdGaussianError: an array holds Python objects, or the disk is full.
    """
    with atomic_file(path) as stream, zipfile.ZipFile(stream, "w") as archive:
        for name, array in arrays.items():
            array = np.asarray(array)
            if array.dtype.kind not in _KINDS:
                raise InputError(f"{path}: {name} of type {array.dtype} cannot be stored.")
            member = zipfile.ZipInfo(f"{name}.npy")  # dated 1980
            with archive.open(member, "w", force_zip64=True) as target:
                np.lib.format.write_array(target, array, version=(1, 0), allow_pickle=False)


def read_npz(
    path: str | Path,
    check: HeaderCheck | None = None,
    names: Collection[str] | None = None,
    ours: bool = True,
    optional: Collection[str] = (),
) -> dict[str, np.ndarray]:
    """Read the arrays of an .npz file.

    Args:
        path: the file.
        check: called with all headers before any array is read; raises to refuse the file.
        names: the arrays to read, None for all; others stay unread.
        ours: a file that this project wrote holds every name and nothing strange. In a file from
            elsewhere names may be missing, and arrays that are not wanted may be of any type.
        optional: further arrays to read where the file has them.

    Raises:
        MissingFileError: there is no such file.
        ResourceError: it cannot be read.
        DamagedFileError: it is truncated, damaged, too large, or holds pickles.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream, zipfile.ZipFile(stream) as archive:
            headers = _read_headers(path, archive, None if ours else names)
            if check is not None:
                check(headers)
            wanted = headers if names is None or not ours else names
            wanted = [*wanted, *(n for n in optional if n in headers and n not in wanted)]
            return {name: _read_array(path, archive, name) for name in wanted}
    except OSError as error:
        raise read_error(path, error) from error
    except _DAMAGE as error:
        raise DamagedFileError(f"{path} is damaged or truncated; {_advice(ours)}.") from error


def _read_headers(
    path: Path, archive: zipfile.ZipFile, wanted: Collection[str] | None
) -> dict[str, ArrayHeader]:
    members = archive.infolist()
    if len(members) > MAX_ARRAYS or sum(member.file_size for member in members) > MAX_BYTES:
        raise DamagedFileError(f"{path} is larger than any file of its kind.")
    headers: dict[str, ArrayHeader] = {}
    for member in members:
        name = member.filename.removesuffix(".npy")
        if wanted is not None and name not in wanted:
            continue
        strange = member.flag_bits & 1 or member.compress_type not in _COMPRESSIONS
        if name == member.filename or name in headers or strange:
            raise DamagedFileError(f"{path}: {member.filename} does not belong in the file.")
        headers[name] = _read_header(path, archive, member)
    return headers


def _read_header(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> ArrayHeader:
    name = member.filename.removesuffix(".npy")
    try:
        with archive.open(member) as stream:
            shape, dtype = _parse_header(stream)
            start = stream.tell()
    except _HEADER_DAMAGE as error:
        raise _damaged(path, name) from error
    header = ArrayHeader(dtype, shape)
    if dtype.hasobject or dtype.kind not in _KINDS or dtype.itemsize == 0:
        raise DamagedFileError(f"{path}: {name} has the type {dtype}, which is not allowed.")
    if start + header.nbytes != member.file_size:
        raise DamagedFileError(f"{path}: {name} is damaged, its size does not fit its header.")
    return header


def _parse_header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    reader = _HEADER_READERS.get(np.lib.format.read_magic(stream))
    if reader is None:
        raise ValueError("unknown .npy version")
    shape, _, dtype = reader(stream)
    if any(size < 0 for size in shape):
        raise ValueError("negative size")
    return shape, dtype


def _read_array(path: Path, archive: zipfile.ZipFile, name: str) -> np.ndarray:
    try:
        with archive.open(f"{name}.npy") as stream:
            array = np.lib.format.read_array(stream, allow_pickle=False)
            stream.read()  # to the end, where the checksum is compared
    except _DAMAGE as error:
        raise _damaged(path, name) from error
    return array


def _advice(ours: bool) -> str:
    return "reconstruct the person again" if ours else "get a whole copy of the file"


def _damaged(path: Path, name: str) -> DamagedFileError:
    return DamagedFileError(f"{path}: {name} is damaged or truncated; get a whole copy of it.")
