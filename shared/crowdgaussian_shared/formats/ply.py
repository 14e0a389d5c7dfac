# SPDX-License-Identifier: Apache-2.0
"""The vertex table of a PLY file as a structured numpy array, read and written without a library.

Source of the format: Turk, "The PLY Polygon File Format" (1994): a text header, then each element's
rows in the header's order, as text or as packed binary of either byte order.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import DamagedFileError
from .atomic import read_error

# A look at a PLY header before any memory is taken: can the file hold what it claims?

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
        DamagedFileError: no PLY header, or the file is too short for its elements.
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
                raise DamagedFileError(
                    f"{path} is truncated: its header announces {count} {name} rows "
                    f"({needed} bytes or more), but only {body} bytes follow."
                )
            name, count, row = _element(path, line)
        elif line[0] == "property":
            row += 2 if text else _property_size(path, line)


def read_header(path: Path, stream: BinaryIO) -> list[list[str]]:
    """The header lines, split into words, without the first and the last; the body comes next.

    Raises:
        DamagedFileError: no PLY header.
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
    raise DamagedFileError(f"{path} is not a PLY file; choose a splat file that ends in .ply.")


def _element(path: Path, words: list[str]) -> tuple[str, int, int]:
    if len(words) != 3 or not words[2].isdecimal():
        raise DamagedFileError(f"{path}: the PLY header line {' '.join(words)!r} is damaged.")
    return words[1], int(words[2]), 0


def _property_size(path: Path, words: list[str]) -> int:
    kind = words[2] if words[1:2] == ["list"] and len(words) == 5 else words[1]
    if len(words) not in (3, 5) or kind not in _SIZES:
        raise DamagedFileError(f"{path}: the PLY header line {' '.join(words)!r} is damaged.")
    return _SIZES[kind]


_TYPES = {
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
}
_ORDERS = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}
VERTEX = "vertex"


@dataclass
class _Element:
    """One table that the header announces: a property is (name, dtype, dtype of a list's size)."""

    name: str
    count: int
    properties: list[tuple[str, str, str]]

    @property
    def lists(self) -> list[str]:
        return [name for name, _, size in self.properties if size]

    def dtype(self, order: str) -> np.dtype:
        return np.dtype([(name, order + kind) for name, kind, _ in self.properties])


def read_vertices(path: Path) -> np.ndarray:
    """The rows of the element vertex, each property in the type of the file.  # [N] structured

    Raises:
        CrowdGaussianError: missing, unreadable, truncated or damaged, without vertices, or with
            lists in them.
    """
    try:
        with path.open("rb") as stream:
            check_size(path, stream)
            order, elements = _layout(path, read_header(path, stream))
            return _read(path, stream, order, elements)
    except OSError as error:
        raise read_error(path, error) from error


def write_vertices(stream: BinaryIO, rows: np.ndarray, comments: tuple[str, ...] = ()) -> None:
    """Write a PLY of one element, vertex, of float32 properties.

    Args:
        stream: takes the bytes.
        rows: [N] structured, every field "<f4".
        comments: one-line ASCII header comments.
    """
    header = ["ply", "format binary_little_endian 1.0", *(f"comment {text}" for text in comments)]
    header.append(f"element {VERTEX} {len(rows)}")
    header += [f"property float {name}" for name in rows.dtype.names or ()]
    stream.write("\n".join([*header, "end_header", ""]).encode("ascii", errors="replace"))
    stream.write(rows.tobytes())


def _layout(path: Path, header: list[list[str]]) -> tuple[str, list[_Element]]:
    """The byte order ("=" for text) and the elements."""
    order, elements = "", []
    for words in header:
        if words[0] == "format":
            order = _ORDERS.get(words[1] if len(words) > 1 else "", "")
        elif words[0] == "element":
            elements.append(_Element(words[1], int(words[2]), []))
        elif words[0] == "property":
            if not elements:
                raise _damaged(path, "a property stands before the first element")
            size = _TYPES[words[2]] if words[1] == "list" else ""
            kind = words[3] if size else words[1]
            if kind not in _TYPES or words[-1] in (p[0] for p in elements[-1].properties):
                raise _damaged(path, f"the property {words[-1]} is of no type or there twice")
            elements[-1].properties.append((words[-1], _TYPES[kind], size))
    if not order:
        raise _damaged(path, "its format is none that is known")
    return order, elements


def _read(path: Path, stream: BinaryIO, order: str, elements: list[_Element]) -> np.ndarray:
    lines = stream.read().splitlines() if order == "=" else None
    skipped = 0  # lines of a text
    for element in elements:
        if element.name != VERTEX:
            skipped += element.count
            if lines is None:
                _skip(path, stream, order, element)
            continue
        if element.lists:
            raise DamagedFileError(
                f"{path}: the vertex field {element.lists[0]} is a list, not a number."
            )
        if lines is None:
            return _read_binary(path, stream, element.dtype(order), element.count)
        return _read_text(path, lines[skipped : skipped + element.count], element)
    raise DamagedFileError(f"{path}: the element vertex is missing, so there are no splats.")


def _read_binary(path: Path, stream: BinaryIO, dtype: np.dtype, count: int) -> np.ndarray:
    data = stream.read(dtype.itemsize * count)
    if len(data) < dtype.itemsize * count:
        raise _damaged(path, "it ends too early")
    return np.frombuffer(data, dtype) if dtype.itemsize else np.empty(count, dtype)


def _read_text(path: Path, lines: list[bytes], element: _Element) -> np.ndarray:
    rows = np.empty(element.count, element.dtype("="))
    try:
        table = np.array([line.split() for line in lines], dtype=np.float64)
        if element.count and table.shape != (element.count, len(element.properties)):
            raise ValueError("rows are missing or of the wrong length")
    except ValueError as error:
        raise _damaged(path, " ".join(str(error).split())) from error
    for column, (name, _, _) in enumerate(element.properties):
        rows[name] = table[:, column] if element.count else 0
    return rows


def _skip(path: Path, stream: BinaryIO, order: str, element: _Element) -> None:
    """Pass over the rows of another element in front of the vertices."""
    if not element.lists:
        stream.seek(element.dtype(order).itemsize * element.count, 1)
        return
    kinds = [(np.dtype(order + k), np.dtype(order + s) if s else None)
             for _, k, s in element.properties]  # fmt: skip
    for _ in range(element.count):
        for kind, size in kinds:
            length = 1
            if size is not None:
                head = stream.read(size.itemsize)
                length = int(np.frombuffer(head, size)[0]) if len(head) == size.itemsize else -1
            if length < 0:
                raise _damaged(path, "it ends too early")
            stream.seek(kind.itemsize * length, 1)


def _damaged(path: Path, reason: str) -> DamagedFileError:
    return DamagedFileError(f"{path} is a damaged PLY file ({reason}); export it again.")
