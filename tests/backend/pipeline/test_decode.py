# SPDX-License-Identifier: Apache-2.0
"""What cameras and phones write is read whole, or refused in one sentence: never a thumbnail."""

import base64
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from crowdgaussian.pipeline.photo import load_photo
from crowdgaussian_shared.errors import CrowdGaussianError, DamagedFileError
from PIL import Image

# 120 x 80 pixels: red from 0 to 255 to the right, green downwards, blue 60; quality 60, stored on
# its side with orientation 6 and a focal length of 50 mm (35 mm equivalent). Encoded by libheif.
HEIC = """
AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAaFtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAA
AADRpbG9jAAAAAERAAAIAAQAAAAABxQABAAAAAAAAAT8AAgAAAAADBAABAAAAAAAAAEIAAAA4aWluZgAAAAAAAgAAABVpbmZlAg
AAAAABAABodmMxAAAAABVpbmZlAgAAAQACAABFeGlmAAAAAA5waXRtAAAAAAABAAAA4GlwcnAAAADAaXBjbwAAAHhodmNDAQNwA
AAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQArQgEBA3AAAAMAkAAAAwAAAwAeoCiB
5ZbqSSmubgIaDAgAAAMAyAAAAwAIQGIAAQAHRAHBcrAiQAAAABNjb2xybmNseAABAA0ABoAAAAAUaXNwZQAAAAAAAABQAAAAeAA
AABBwaXhpAAAAAAMICAgAAAAJaXJvdAMAAAAYaXBtYQAAAAAAAAABAAEFgQIDBIUAAAAaaXJlZgAAAAAAAAAOY2RzYwACAAEAAQ
AAAYltZGF0AAABOygBrwng1kfUVY72jMdco92N0bxNXdNB+TBDv3ZbjAxQyKHOlE9VbaYpkp4OlY0PPccc8vNN8tsUruQgJauiH
4DPL4/eJbIctKPUKoD3Mj1cT+N9P7nNnNgTshY7UVqZrGcCulD9L/e0tIicglnXeqFnCaJVvmfgfNeOhS9n5jMtbQu9faFnh63S
QQn36kTIiV4+OIMK+3UCAba/AV4V2o9RVoRfDMAhheUPILjVGOcZb5pelJregPGB56UsGW7Zk1UcdoEJMT8Xk6f67JXwofJ/DyM
gkHcP+u/fZAxicTtY2jrVIX3hFbXRkCvg2ALpE6Etl3H296wzJy1JVKRcMYQ4U3squqawsPfI6i2wdDYiBshruGFMl3LOoJuEjF
PSEvKx5eqOnG5VcLh/erNj0g5qB3HucEPxc78/+AAAAAZFeGlmAABNTQAqAAAACAACARIAAwAAAAEABgAAh2kABAAAAAEAAAAmA
AAAAAABpAUAAwAAAAEAMgAAAAAAAA==
"""


def gradient(width=120, height=80):
    """Red grows to the right, green downwards, blue is constant."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return np.stack([x, y, np.full_like(x, 60)], axis=-1).astype(np.uint8)  # [H, W, 3]


def refused(path):
    with pytest.raises(CrowdGaussianError) as error:
        load_photo(path)
    text = str(error.value)
    assert "\n" not in text and text.endswith(".") and text.startswith(str(path)), text
    return text


# HEIC


def test_heic(tmp_path):
    pytest.importorskip("pi_heif", reason="pi-heif, of the extra heic, is not installed")
    (tmp_path / "a.jpg").write_bytes(base64.b64decode(HEIC))  # named as many programs do
    photo = load_photo(tmp_path / "a.jpg")
    assert photo.pixels.shape == (80, 120, 3)
    assert np.abs(photo.pixels.astype(int) - gradient()).mean() < 4
    assert photo.focal_px == pytest.approx(50 / np.hypot(36, 24) * np.hypot(120, 80))


def test_a_cut_heic(tmp_path):
    pytest.importorskip("pi_heif", reason="pi-heif, of the extra heic, is not installed")
    data = base64.b64decode(HEIC)
    for kept in (30, 300, len(data) - 100):
        (tmp_path / "a.heic").write_bytes(data[:kept])
        assert "damaged" in refused(tmp_path / "a.heic")


def test_heic_without_its_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    (tmp_path / "a.heic").write_bytes(base64.b64decode(HEIC))
    said = refused(tmp_path / "a.heic")
    assert "crowdgaussian[heic]" in said and "JPEG" in said


# Camera RAW: a DNG whose sensor sees linear sRGB


def tiff(folders, order="<"):
    """A TIFF: each folder's tags (values: numbers, rationals as pairs, bytes) and pixels.

    A folder may hold others below it, under the key "below". -> bytes
    """
    out = bytearray((b"II*\0" if order == "<" else b"MM\0*") + b"\0\0\0\0")
    link = 4
    for tags, pixels in folders:
        struct.pack_into(order + "I", out, link, len_even(out))
        link = add_folder(out, tags, pixels, order)
    return bytes(out)


def len_even(out):
    out.extend(b"\0" * (len(out) % 2))
    return len(out)


def add_folder(out, tags, pixels, order):
    """Append a folder -> the place where the next one's is written."""
    tags = dict(tags)
    below = tags.pop("below", [])
    tags |= {273: [0], 279: [len(pixels)]} | ({330: [0] * len(below)} if below else {})
    start = len_even(out)
    out.extend(struct.pack(order + "H", len(tags)) + b"\0" * (12 * len(tags) + 4))
    for number, (tag, values) in enumerate(sorted(tags.items())):
        kind, data = packed(values, order)
        count = len(values)
        at = start + 2 + 12 * number
        struct.pack_into(order + "HHI", out, at, tag, kind, count)
        if len(data) > 4:
            struct.pack_into(order + "I", out, at + 8, len_even(out))
            out.extend(data)
        else:
            out[at + 8 : at + 8 + len(data)] = data
        if tag == 273:
            struct.pack_into(order + "I", out, at + 8, len_even(out))
            out.extend(pixels)
        if tag == 330:
            places = []
            for inner, inner_pixels in below:
                places.append(len_even(out))
                add_folder(out, inner, inner_pixels, order)
            where = at + 8
            if len(places) > 1:
                (where,) = struct.unpack_from(order + "I", out, where)
            struct.pack_into(f"{order}{len(places)}I", out, where, *places)
    return start + 2 + 12 * len(tags)


def packed(values, order):
    if isinstance(values, bytes):
        return 1, values
    if isinstance(values[0], tuple):
        return 10, b"".join(struct.pack(order + "ii", *pair) for pair in values)
    return 4, struct.pack(f"{order}{len(values)}I", *values)


def grey_page(width, height, value=200, **more):
    tags = {256: [width], 257: [height], 258: [8], 259: [1], 262: [1], 277: [1], 278: [height]}
    return tags | more, bytes([value]) * (width * height)


# To XYZ from linear sRGB is IEC 61966-2-1; a DNG's matrix leads the other way, to the sensor.
TO_SENSOR = np.linalg.inv(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
)


def sensor_page(colours, turned=1):
    """A mosaic (red, green / green, blue) of linear colours.  # [H, W, 3] 0..1 -> a folder"""
    height, width, _ = colours.shape
    mosaic = np.empty((height, width))
    for (row, column), channel in {(0, 0): 0, (0, 1): 1, (1, 0): 1, (1, 1): 2}.items():
        mosaic[row::2, column::2] = colours[row::2, column::2, channel]
    tags = {256: [width], 257: [height], 258: [16], 259: [1], 262: [32803], 277: [1]}
    tags |= {278: [height], 274: [turned], 33422: bytes([0, 1, 1, 2]), 254: [0]}
    return tags, np.round(mosaic * 65535).astype("<u2").tobytes()


def colour_tags():
    """What a DNG says of its colours, in the first folder."""
    matrix = [(round(value * 10000), 10000) for value in TO_SENSOR.ravel()]
    return {50706: bytes([1, 4, 0, 0]), 50708: b"A camera\0", 50721: matrix, 50778: [21],
            50728: [(1, 1)] * 3, 50717: [65535], 271: b"Maker\0", 272: b"A camera\0"}  # fmt: skip


@pytest.fixture
def linear():
    """The left half is white, the right one orange.  # [200, 300, 3] linear"""
    picture = np.ones((200, 300, 3))
    picture[:, 150:] = (0.5, 0.2, 0.05)
    return picture


def srgb(values):
    return 255 * (1.055 * np.asarray(values) ** (1 / 2.4) - 0.055)


def dng(linear, thumbnail, turned=1):
    tags, pixels = sensor_page(linear, turned)
    tags |= {33421: [2 | 2 << 16]}  # two SHORTs as one LONG: see below
    if thumbnail:
        preview, grey = grey_page(120, 80)
        data = tiff([(preview | colour_tags() | {254: [1], "below": [(tags, pixels)]}, grey)])
    else:
        data = tiff([(tags | colour_tags(), pixels)])
    wrong, right = struct.pack("<HHI", 33421, 4, 1), struct.pack("<HHI", 33421, 3, 2)
    assert data.count(wrong) == 1
    return data.replace(wrong, right)


@pytest.mark.parametrize("thumbnail", [False, True])
def test_raw(tmp_path, linear, thumbnail):
    pytest.importorskip("rawpy", reason="rawpy, of the extra raw, is not installed")
    (tmp_path / "a.dng").write_bytes(dng(linear, thumbnail))
    photo = load_photo(tmp_path / "a.dng")
    assert photo.pixels.shape == (200, 300, 3)
    np.testing.assert_allclose(photo.pixels[100, 40].astype(float), 255, atol=3)
    np.testing.assert_allclose(photo.pixels[100, 250], srgb((0.5, 0.2, 0.05)), atol=4)


def test_raw_comes_out_upright(tmp_path, linear):
    pytest.importorskip("rawpy", reason="rawpy, of the extra raw, is not installed")
    (tmp_path / "a.dng").write_bytes(dng(linear, False, turned=6))
    photo = load_photo(tmp_path / "a.dng")
    assert photo.pixels.shape == (300, 200, 3)
    assert photo.pixels[40, 100].min() > 250 > photo.pixels[250, 100].min()


@pytest.mark.parametrize("thumbnail", [False, True])
def test_raw_without_its_package(tmp_path, linear, thumbnail, monkeypatch):
    monkeypatch.setitem(sys.modules, "rawpy", None)
    (tmp_path / "a.tif").write_bytes(dng(linear, thumbnail))
    said = refused(tmp_path / "a.tif")
    assert "RAW" in said and "crowdgaussian[raw]" in said


@pytest.mark.parametrize("start", [b"FUJIFILMCCD-RAW 0201", b"II*\0\x10\0\0\0CR\2\0", b"IIRO\b\0"])
def test_damaged_raw(tmp_path, start):
    pytest.importorskip("rawpy", reason="rawpy, of the extra raw, is not installed")
    (tmp_path / "a").write_bytes(start + bytes(3000))
    with pytest.raises(DamagedFileError, match="cannot be developed"):
        load_photo(tmp_path / "a")


# Files with several pictures


@pytest.mark.parametrize("sizes", [[(160, 107), (400, 267)], [(400, 267), (160, 107)],
                                   [(80, 80), (90, 70), (400, 267), (400, 267)]])  # fmt: skip
def test_the_largest_page_is_taken(tmp_path, sizes):
    pages = [Image.fromarray(gradient(*size)) for size in sizes]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(load_photo(tmp_path / "a.tif").pixels, gradient(400, 267))


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_picture_below_a_page(tmp_path, order):
    tags, pixels = grey_page(160, 107)
    small, large = grey_page(80, 53, 90), grey_page(640, 480, 10)
    (tmp_path / "a.tif").write_bytes(tiff([(tags | {"below": [small, large]}, pixels)], order))
    said = refused(tmp_path / "a.tif")
    assert "160 x 107" in said and "640 x 480" in said
    (tmp_path / "a.tif").write_bytes(tiff([(tags | {"below": [small, small]}, pixels)], order))
    assert (load_photo(tmp_path / "a.tif").pixels == 200).all()


def test_folders_in_a_circle_end(tmp_path):
    data = bytearray(tiff([grey_page(160, 107)]))
    (first,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, first)
    struct.pack_into("<I", data, first + 2 + 12 * count, first)
    (tmp_path / "a.tif").write_bytes(data)
    assert load_photo(tmp_path / "a.tif").pixels.shape == (107, 160, 3)


def test_the_first_of_a_stereo_pair(tmp_path):
    left, right = Image.fromarray(gradient()), Image.fromarray(255 - gradient())
    left.save(tmp_path / "a.mpo", format="MPO", quality=95, save_all=True, append_images=[right])
    pixels = load_photo(tmp_path / "a.mpo").pixels
    assert np.abs(pixels.astype(int) - gradient()).mean() < 4


# Colours


def grey_profile(gamma):
    """An ICC profile of grey values with that gamma (ICC.1:2022, 7 to 10)."""
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)  # D50, s15Fixed16
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    tags = {b"wtpt": white, b"kTRC": curve, b"cprt": b"text\0\0\0\0none"}
    tags[b"desc"] = b"desc\0\0\0\0" + struct.pack(">I", 2) + b"g\0" + bytes(78)
    table, body, start = b"", b"", 132 + 12 * len(tags)
    for name, data in tags.items():
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    head = struct.pack(">I4x", start + len(body)) + struct.pack(">I", 0x02400000)
    head += b"mntrGRAYXYZ " + struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp"
    head += bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_a_profile_of_grey(tmp_path, mode):
    grey = Image.new("L", (80, 80), 128)
    grey = Image.fromarray(np.full((80, 80), 128 * 257, np.uint16)) if "I" in mode else grey
    if mode == "LA":
        grey.putalpha(255)
    grey.save(tmp_path / "a.png", icc_profile=grey_profile(1.0))
    pixels = load_photo(tmp_path / "a.png").pixels
    np.testing.assert_allclose(pixels[40, 40].astype(float), srgb([128 / 255] * 3), atol=2)


# What is no photo


def test_addresses_folders_and_zips(tmp_path):
    for address in ("https://example.org/a.jpg", "s3://bucket/a.jpg"):
        said = refused(Path(address))
        assert "is an address" in said and "download" in said
    assert "is a folder, not a file" in refused(tmp_path)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.jpg", b"")
    assert "unpack it" in refused(tmp_path / "a.zip")


@pytest.mark.parametrize("start, kind", [
    (b"%PDF-1.7", "PDF"), (b"\xff\x0a\0", "JPEG XL"), (b"\0\0\0\x0cJXL \r\n", "JPEG XL"),
    (b"\0\0\0\x20ftypisom", "video"), (b"8BPS\0\1", "Photoshop"), (b"#?RADIANCE\n", "HDR"),
    (b"\n<!DOCTYPE html>", "web page"), (b"\0\0\0\x18ftypqt  ", "video"),
])  # fmt: skip
def test_other_files_are_called_by_their_names(tmp_path, start, kind):
    (tmp_path / "a.jpg").write_bytes(start + bytes(500))
    said = refused(tmp_path / "a.jpg")
    assert kind in said and "not an image" in said
