# SPDX-License-Identifier: Apache-2.0
"""The vertex table of a PLY file as a structured numpy array.

What is written here, packed little-endian numbers with the vertices first, is read here too; every
other PLY (text, big-endian, other elements in front) is read through plyfile, an optional package.
No header is believed before its claims are compared with the size of the file.

Source of the format: Turk, "The PLY Polygon File Format" (1994): a text header, then each element's
rows in the header's order, as text or as packed binary of either byte order.
"""

import io
import os
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import DamagedFileError, InputError, MissingFileError
from .atomic import read_error

_HEADER_LIMIT = 1 << 16  # bytes
_LINE_LIMIT = 1 << 20  # characters of a text's row
_READ_LIMIT = 1 << 20  # bytes that are asked for without a look at how many are left
_LIST_LIMIT = 10_000_000  # rows with lists, of which plyfile makes some 160 bytes each
_SHOWN = 100  # characters of a file's own words in a sentence
_KINDS = {  # of the numbers, as numpy calls them
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
}
_TEXT, _LITTLE = "=", "<"
_ORDERS = {"ascii": _TEXT, "binary_little_endian": _LITTLE, "binary_big_endian": ">"}
VERTEX = "vertex"


@dataclass
class _Element:
    """One table that the header announces: its properties by name, of lists the kind of the count.

    A kind is numpy's, without the byte order.
    """

    name: str
    count: int
    kinds: dict[str, str] = field(default_factory=dict)
    lists: list[str] = field(default_factory=list)

    def least(self, text: bool) -> int:
        """Bytes that a row takes at least: lists are empty, a text's values have one character."""
        return sum(2 if text else int(kind[1:]) for kind in self.kinds.values())


def read_vertices(path: Path, most: int | None = None) -> np.ndarray:
    """The rows of the element vertex, each property in the type of the file.  # [N] structured

    Args:
        path: the file.
        most: rows that are accepted.

    Raises:
        MissingFileError: no such file; or it is not of our own layout, and plyfile is missing.
        ResourceError: unreadable.
        DamagedFileError: truncated or damaged, without vertices, or with lists in them.
        InputError: more rows than are accepted, or so many lists that memory is at risk.
    """
    try:
        with path.open("rb") as stream:
            order, elements = _layout(path, _read_header(path, stream))
            _check_size(path, stream, order == _TEXT, elements)
            vertex = next((element for element in elements if element.name == VERTEX), None)
            if vertex is None:
                raise DamagedFileError(
                    f"{path}: the element vertex is missing, so there are no splats."
                )
            if most is not None and vertex.count > most:
                raise InputError(
                    f"{path} holds {vertex.count} splats, more than the {most} that are read here; "
                    "make it smaller first, as with PlayCanvas' splat-transform (--decimate)."
                )
            if vertex.lists:
                raise DamagedFileError(
                    f"{path}: the vertex field {_shown(vertex.lists[0])} is a list, not a number."
                )
            if order == _LITTLE and vertex is elements[0]:
                dtype = np.dtype([(name, order + kind) for name, kind in vertex.kinds.items()])
                return np.frombuffer(stream.read(dtype.itemsize * vertex.count), dtype)
            header_size = stream.tell()
        return _read_foreign(path, order, elements, header_size)
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
    stream.write(np.ascontiguousarray(rows).data)


# The header, before any memory is taken: what does it announce, and can the file hold it?


def _read_header(path: Path, stream: BinaryIO) -> list[list[str]]:
    """The header lines, split into words, without the first and the last; the body comes next."""
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


def _layout(path: Path, header: list[list[str]]) -> tuple[str, list[_Element]]:
    """The byte order ("=" for text) and the elements."""
    order = ""
    elements: list[_Element] = []
    for words in header:
        if words[0] == "format":
            order = _ORDERS.get(words[1] if len(words) > 1 else "", "")
        elif words[0] == "element":
            element = _element(path, words)
            if any(element.name == other.name for other in elements):
                raise _damaged(path, f"the element {_shown(element.name)} is there twice")
            elements.append(element)
        elif words[0] == "property":
            if not elements:
                raise _damaged(path, "a property stands before the first element")
            _add_property(path, elements[-1], words)
    if not order:
        raise _damaged(path, "its format is none that is known")
    return order, elements


def _element(path: Path, words: list[str]) -> _Element:
    if len(words) != 3 or not words[2].isdecimal() or len(words[2]) > 18:
        raise _damaged_line(path, words)
    return _Element(words[1], int(words[2]))


def _add_property(path: Path, element: _Element, words: list[str]) -> None:
    if words[1:2] == ["list"]:
        sound = len(words) == 5 and words[3] in _KINDS and _KINDS.get(words[2], "f")[0] != "f"
    else:
        sound = len(words) == 3 and words[1] in _KINDS
    if not sound:
        raise _damaged_line(path, words)
    name = words[-1]
    if name in element.kinds:
        raise _damaged(path, f"the property {_shown(name)} is there twice")
    if words[1] == "list":
        element.lists.append(name)
    element.kinds[name] = _KINDS[words[2] if words[1] == "list" else words[1]]


def _check_size(path: Path, stream: BinaryIO, text: bool, elements: list[_Element]) -> None:
    """Compare what the header announces with the bytes that follow it; refuses no sound file."""
    body = os.fstat(stream.fileno()).st_size - stream.tell()
    needed = 0
    for element in elements:
        name, count = _shown(element.name), element.count
        if not element.kinds and (count or name == VERTEX):
            raise _damaged(path, f"the element {name} has no properties")
        # the last separator of a text may be missing
        needed += max(count * element.least(text) - text, 0)
        if needed > body:
            raise DamagedFileError(
                f"{path} is truncated: its header announces {count} {name} rows "
                f"({needed} bytes or more), but only {body} bytes follow."
            )


# Every layout but our own, through plyfile; which is kept from taking memory that no file can fill


class _Packed(io.BufferedReader):
    """Bytes for plyfile, which asks for as many as a list in the file claims to have."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= _READ_LIMIT:
            left = os.fstat(self.fileno()).st_size - self.tell()
            if size is None or not 0 <= size <= left:
                raise EOFError("it ends too early")
        return super().read(size)


class _Lines(io.TextIOWrapper):
    """Text for plyfile, which splits each line into as many strings as there are."""

    def readline(self, size: int = -1, /) -> str:  # type: ignore[override]
        line = super().readline(_LINE_LIMIT)
        if len(line) == _LINE_LIMIT:
            raise ValueError("one of its lines has no end")
        return line


def _read_foreign(path: Path, order: str, elements: list[_Element], header_size: int) -> np.ndarray:
    """read_vertices for what plyfile has to read; the header is one that was checked."""
    try:
        from plyfile import PlyData, PlyParseError
    except ImportError as error:
        raise MissingFileError(
            f"{path} is no binary little-endian PLY with its vertices first; to read it, run "
            "`pip install 'crowdgaussian[ply]'`, which brings plyfile, or convert it to one."
        ) from error
    lists = sum(element.count * len(element.lists) for element in elements)
    if lists > _LIST_LIMIT:
        raise InputError(
            f"{path} holds {lists} lists beside its vertices, more than fit into memory safely; "
            "leave out its faces."
        )
    with path.open("rb", buffering=0) as raw:
        packed = _Packed(raw)
        _check_ends(path, packed.read(header_size))
        packed.seek(0)
        # errors: plyfile finds an ASCII word where a number should be
        stream = _Lines(packed, "ascii", "backslashreplace", "\n") if order == _TEXT else packed
        try:
            with warnings.catch_warnings():  # numpy's, on empty lists
                warnings.simplefilter("ignore")
                rows = PlyData.read(stream)[VERTEX].data
                return np.frombuffer(rows.tobytes(), rows.dtype)  # it may have mapped the file
        except (PlyParseError, ValueError, ArithmeticError, LookupError, EOFError) as error:
            raise _damaged(path, _shown(" ".join(str(error).split()))) from error


def _check_ends(path: Path, header: bytes) -> None:
    """plyfile splits the header's lines as the first one ends; be sure that it finds the last."""
    end = b"\r\n" if header.startswith(b"ply\r\n") else b"\n"
    mixed = end == b"\r\n" and header.count(b"\n") != header.count(end)
    if mixed or not (header.startswith(b"ply" + end) and header.endswith(b"\nend_header" + end)):
        raise _damaged(path, "its header's lines do not end alike")


def _damaged(path: Path, reason: str) -> DamagedFileError:
    return DamagedFileError(f"{path} is a damaged PLY file ({reason}); export it again.")


def _damaged_line(path: Path, words: list[str]) -> DamagedFileError:
    return DamagedFileError(f"{path}: the PLY header line {_shown(' '.join(words))!r} is damaged.")


def _shown(words: str) -> str:
    """Words of a file as a sentence may hold them: printable and short."""
    printable = "".join(c if c.isprintable() else "?" for c in words)
    return printable if len(printable) <= _SHOWN else printable[:_SHOWN] + "..."
