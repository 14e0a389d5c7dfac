# SPDX-License-Identifier: Apache-2.0
"""Greyscale PNG with zlib alone: masks must not pull an image library into Blender.

Source: the PNG specification (W3C, third edition), sections 5, 9 and 11.
"""

import struct
import zlib

import numpy as np

from ..errors import DamagedFileError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_PIXELS = 200_000_000


def encode_grey(image: np.ndarray) -> bytes:
    """[H, W] uint8 -> PNG bytes, 8-bit greyscale."""
    height, width = image.shape
    rows = np.zeros((height, width + 1), dtype=np.uint8)  # filter 0 (none) before every row
    rows[:, 1:] = image
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 6)), (b"IEND", b""))
    return _SIGNATURE + b"".join(_chunk(kind, data) for kind, data in chunks)


def decode_grey(data: bytes, source: str) -> np.ndarray:
    """PNG bytes -> [H, W] uint8; reads 8-bit greyscale that is not interlaced.

    Raises:
        DamagedFileError: damaged, or another kind of PNG.
    """
    width, height, packed = _parse_chunks(data, source)
    if width * height > _MAX_PIXELS:
        raise DamagedFileError(f"{source} is larger than any mask.")
    size = height * (width + 1)
    try:
        raw = zlib.decompressobj().decompress(packed, size)
    except zlib.error as error:
        raise _damaged(source) from error
    if len(raw) != size:
        raise _damaged(source)
    rows = np.frombuffer(raw, dtype=np.uint8).reshape(height, width + 1)
    if rows[:, 0].any():
        rows = _unfilter(rows, source)
    return rows[:, 1:].copy()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _parse_chunks(data: bytes, source: str) -> tuple[int, int, bytes]:
    """Width, height and the joined IDAT data."""
    if not data.startswith(_SIGNATURE):
        raise DamagedFileError(f"{source} is not a PNG file.")
    packed, header, place = [], b"", len(_SIGNATURE)
    while place + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        body = data[place + 8 : place + 8 + length]
        if data[place + 8 + length : place + 12 + length] != struct.pack(
            ">I", zlib.crc32(kind + body)
        ):
            raise _damaged(source)
        if kind == b"IHDR":
            header = body
        elif kind == b"IDAT":
            packed.append(body)
        place += 12 + length
    if len(header) != 13 or header[8:] != b"\x08\x00\x00\x00\x00":
        raise DamagedFileError(f"{source} must be an 8-bit greyscale PNG without interlacing.")
    width, height = struct.unpack(">II", header[:8])
    return width, height, b"".join(packed)


def _unfilter(rows: np.ndarray, source: str) -> np.ndarray:
    """Undo the row filters of PNG section 9.2.  # [H, W + 1] -> [H, W + 1]"""
    result = rows.copy()
    above = bytes(rows.shape[1])
    for number, row in enumerate(rows):
        if row[0] > 4:
            raise _damaged(source)
        line = bytearray(row.tobytes())
        kind, line[0] = line[0], 0
        for x in range(1, len(line)):
            line[x] = (line[x] + _predict(kind, line[x - 1], above[x], above[x - 1])) & 255
        result[number] = np.frombuffer(line, dtype=np.uint8)
        above = bytes(line)
    return result


def _predict(kind: int, left: int, up: int, corner: int) -> int:
    if kind == 4:  # Paeth
        return min((left, up, corner), key=lambda value: abs(left + up - corner - value))
    return (0, left, up, (left + up) // 2)[kind]


def _damaged(source: str) -> DamagedFileError:
    return DamagedFileError(f"{source} is damaged; reconstruct the photo again.")
