# SPDX-License-Identifier: Apache-2.0
"""The size of a photo from its first bytes, without a decoder and with a bounded effort.

Enough to refuse a picture that would be huge before any memory is taken for it. The decoder in the
worker checks again.
"""

import struct
from pathlib import Path
from typing import BinaryIO

_JPEG_SEGMENTS = 500  # before the frame header; Exif, colour profiles and previews come first
_TIFF_ENTRIES = 200
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def photo_size(path: Path) -> tuple[int, int] | None:
    """Width and height that the header of a JPEG, PNG, WebP, GIF, BMP or TIFF claims.

    Returns:
        (width, height), or None when the format is another one or the header is damaged.
    """
    with path.open("rb") as stream:
        head = stream.read(32)
        try:
            return _size(head, stream)
        except (struct.error, IndexError):
            return None


def _size(head: bytes, stream: BinaryIO) -> tuple[int, int] | None:
    if head.startswith(b"\xff\xd8\xff"):
        return _jpeg(stream)
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return struct.unpack(">II", head[16:24])
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return _webp(head)
    if head.startswith((b"GIF87a", b"GIF89a")):
        return struct.unpack("<HH", head[6:10])
    if head.startswith(b"BM"):
        width, height = struct.unpack("<ii", head[18:26])
        return abs(width), abs(height)
    if head.startswith((b"II*\0", b"MM\0*")):
        return _tiff(head, stream)
    return None


def _jpeg(stream: BinaryIO) -> tuple[int, int] | None:
    stream.seek(2)
    for _ in range(_JPEG_SEGMENTS):
        marker = stream.read(2)
        while marker[1] == 0xFF:  # fill bytes
            marker = b"\xff" + stream.read(1)
        if marker[0] != 0xFF:
            return None
        if marker[1] in _JPEG_FRAMES:
            height, width = struct.unpack(">3xHH", stream.read(7))
            return width, height
        (length,) = struct.unpack(">H", stream.read(2))
        stream.seek(max(0, length - 2), 1)
    return None


def _webp(head: bytes) -> tuple[int, int] | None:
    kind = head[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", head[26:30])
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        (bits,) = struct.unpack("<I", head[21:25])
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return None


def _tiff(head: bytes, stream: BinaryIO) -> tuple[int, int] | None:
    order = "<" if head.startswith(b"II") else ">"
    (offset,) = struct.unpack(order + "I", head[4:8])
    stream.seek(offset)
    (count,) = struct.unpack(order + "H", stream.read(2))
    found = {}
    for _ in range(min(count, _TIFF_ENTRIES)):
        entry = stream.read(12)
        tag, kind = struct.unpack(order + "HH", entry[:4])
        if tag in (256, 257):  # ImageWidth, ImageLength
            (found[tag],) = struct.unpack(order + ("H2x" if kind == 3 else "I"), entry[8:])
    return (found[256], found[257]) if len(found) == 2 else None
