# SPDX-License-Identifier: Apache-2.0
"""Files that are either whole or not there: written beside, flushed to disk, then renamed."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ..errors import DamagedFileError, DiskFullError, MissingFileError, ResourceError, is_full


@contextmanager
def atomic_file(path: str | Path) -> Iterator[BinaryIO]:
    """Open a new file that takes the place of `path` only when the block ends well.

    Raises:
        ResourceError: the disk is full (DiskFullError) or the folder cannot be written; an older
            file at `path` is untouched.
    """
    path = Path(path)
    temp: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.parent / f".{path.name}.{secrets.token_hex(4)}.tmp"
        with beside.open("xb") as stream:
            temp = beside
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temp, path)
        temp = None
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        if temp is not None:
            temp.unlink(missing_ok=True)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a whole file atomically; errors as in atomic_file."""
    with atomic_file(path) as stream:
        stream.write(data)


def read_bytes(path: str | Path, limit: int) -> bytes:
    """Read a whole file of at most `limit` bytes.

    Raises:
        MissingFileError: there is no such file.
        ResourceError: it cannot be read.
        DamagedFileError: it is larger than the limit.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            data = stream.read(limit + 1)
    except OSError as error:
        raise read_error(path, error) from error
    if len(data) > limit:
        raise DamagedFileError(f"{path} is larger than {limit} bytes, which no such file can be.")
    return data


def read_error(path: Path, error: OSError) -> MissingFileError | ResourceError:
    """Why a file could not be read, to raise from the system's error."""
    if isinstance(error, FileNotFoundError):
        return MissingFileError(
            f"{path} does not exist; check the path or reconstruct the photo again."
        )
    return ResourceError(
        f"{path} cannot be read ({error.strerror or error}); check the file and its permissions."
    )


def write_error(path: Path, error: OSError) -> ResourceError:
    """Why a file could not be written, to raise from the system's error."""
    if is_full(error):
        return DiskFullError(
            f"The disk is full: {path} was not written; free some space and run again."
        )
    return ResourceError(
        f"{path} cannot be written ({error.strerror or error}); choose another folder."
    )
