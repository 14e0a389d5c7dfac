# SPDX-License-Identifier: Apache-2.0
"""Greyscale PNG: our own files, every row filter, and damage."""

import struct
import zlib

import numpy as np
import pytest
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.formats.png import decode_grey, encode_grey


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, rows: bytes, form: bytes = b"\x08\x00\x00\x00\x00") -> bytes:
    header = chunk(b"IHDR", struct.pack(">II", width, height) + form)
    half = zlib.compress(rows)
    parts = chunk(b"IDAT", half[:5]) + chunk(b"tEXt", b"hi") + chunk(b"IDAT", half[5:])
    return b"\x89PNG\r\n\x1a\n" + header + parts + chunk(b"IEND", b"")


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (40, 64)])
def test_round_trip(shape):
    image = np.random.default_rng(0).integers(0, 256, size=shape).astype(np.uint8)
    np.testing.assert_array_equal(decode_grey(encode_grey(image), "a.png"), image)


def test_an_image_library_agrees():
    pil = pytest.importorskip("PIL.Image", reason="Pillow is missing; .venv/backend runs this test")
    import io

    image = np.random.default_rng(1).integers(0, 256, size=(9, 13)).astype(np.uint8)
    np.testing.assert_array_equal(np.asarray(pil.open(io.BytesIO(encode_grey(image)))), image)
    smooth = np.add.outer(np.arange(60), np.arange(80)).astype(np.uint8)
    buffer = io.BytesIO()
    pil.fromarray(smooth).save(buffer, "png")
    np.testing.assert_array_equal(decode_grey(buffer.getvalue(), "a.png"), smooth)


def test_every_row_filter():
    """Rows filtered as PNG section 9.2 says; decoded they are the same image."""
    image = np.random.default_rng(2).integers(0, 256, size=(5, 7))
    rows = bytearray()
    for y in range(5):
        rows.append(y)  # none, sub, up, average, Paeth
        for x in range(7):
            a = int(image[y, x - 1]) if x else 0
            b = int(image[y - 1, x]) if y else 0
            c = int(image[y - 1, x - 1]) if x and y else 0
            p = a + b - c
            nearest = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
            rows.append((int(image[y, x]) - (0, a, b, (a + b) // 2, nearest)[y]) % 256)
    np.testing.assert_array_equal(decode_grey(png(7, 5, bytes(rows)), "a.png"), image)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"JFIF", "not a PNG"),
        (png(2, 2, b"\0ab\0cd")[:-30], "damaged"),
        (png(2, 2, b"\0ab\0c"), "damaged"),
        (png(2, 2, b"\0ab\7cd"), "damaged"),
        (png(2, 2, b"\0ab\0cd").replace(b"tEXt", b"tEXX"), "damaged"),
        (png(2, 2, b"\0abcdef", b"\x08\x02\x00\x00\x00"), "8-bit greyscale"),
        (png(2, 2, b"\0ab\0cd", b"\x08\x00\x00\x00\x01"), "interlacing"),
        (png(60_000, 60_000, b"\0ab"), "larger than any mask"),
        (b"\x89PNG\r\n\x1a\n", "greyscale"),
    ],
)
def test_damage_and_other_kinds(data, match):
    with pytest.raises(CrowdGaussianError, match=f"mask.png.*{match}"):
        decode_grey(data, "mask.png")


def test_a_zip_bomb_stops_at_the_announced_size():
    bomb = png(2, 2, bytes(50_000_000))
    assert decode_grey(bomb, "a.png").shape == (2, 2)
