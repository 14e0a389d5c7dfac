# SPDX-License-Identifier: Apache-2.0
"""A look at a PLY header before any memory is taken: can the file hold what it claims?"""

import os
from pathlib import Path
from typing import BinaryIO

from .errors import CrowdGaussianError

_HEADER_LIMIT = 1 << 16  # bytes
_SIZES = {
    "char": 1,
    "uchar": 1,
    "int8": 1,
    "uint8": 1,
    "short": 2,
    "ushort": 2,
    "int16": 2,
    "uint16": 2,
    "int": 4,
    "uint": 4,
    "int32": 4,
    "uint32": 4,
    "float": 4,
    "float32": 4,
    "double": 8,
    "float64": 8,
}


def check_size(path: Path, stream: BinaryIO) -> None:
    """Compare the elements a PLY header announces with the bytes that follow it.

    Leaves the stream at its start. List properties count as empty lists, text values as one
    character and a separator, so the check never refuses a sound file.

    Raises:
        CrowdGaussianError: no PLY header, or the file is too short for its elements.
    """
    header = read_header(path, stream)
    body = os.fstat(stream.fileno()).st_size - stream.tell()
    stream.seek(0)
    text = any(line[:2] == ["format", "ascii"] for line in header)
    needed = 0
    name, count, row = "", 0, 0
    for line in [*header, ["element", "end", "0"]]:
        if line[0] == "element":
            needed += max(count * row - text, 0)  # the last separator of a text may be missing
            if needed > body:
                raise CrowdGaussianError(
                    f"{path} is truncated: its header announces {count} {name} rows "
                    f"({needed} bytes or more), but only {body} bytes follow."
                )
            name, count, row = _element(path, line)
        elif line[0] == "property":
            row += 2 if text else _property_size(path, line)


def read_header(path: Path, stream: BinaryIO) -> list[list[str]]:
    """The header lines, split into words, without the first and the last; the body comes next.

    Raises:
        CrowdGaussianError: no PLY header.
    """
    lines: list[list[str]] = []
    first = stream.readline(8)
    while first.strip() == b"ply" and stream.tell() < _HEADER_LIMIT:
        line = stream.readline(_HEADER_LIMIT).decode("ascii", errors="replace")
        words = line.split()
        if words[:1] == ["end_header"]:
            return lines
        if not line:
            break
        if words:
            lines.append(words)
    raise CrowdGaussianError(f"{path} is not a PLY file; choose a splat file that ends in .ply.")


def _element(path: Path, words: list[str]) -> tuple[str, int, int]:
    if len(words) != 3 or not words[2].isdecimal():
        raise CrowdGaussianError(f"{path}: the PLY header line {' '.join(words)!r} is damaged.")
    return words[1], int(words[2]), 0


def _property_size(path: Path, words: list[str]) -> int:
    kind = words[2] if words[1:2] == ["list"] and len(words) == 5 else words[1]
    if len(words) not in (3, 5) or kind not in _SIZES:
        raise CrowdGaussianError(f"{path}: the PLY header line {' '.join(words)!r} is damaged.")
    return _SIZES[kind]
