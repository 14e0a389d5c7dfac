# SPDX-License-Identifier: Apache-2.0
"""Every kind of photo loads; every bad one is refused in one sentence."""

import io
import math
import re
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from crowdgaussian.pipeline.photo import exif_focal_px, load_photo, parse_focal
from crowdgaussian_shared.errors import CrowdGaussianError
from PIL import Image, ImageCms


def gradient(width=120, height=80):
    """Red grows to the right, green downwards, blue is constant."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return np.stack([x, y, np.full_like(x, 60)], axis=-1).astype(np.uint8)  # [H, W, 3]


def one_sentence(error):
    text = str(error.value)
    assert "\n" not in text and text.endswith("."), text
    return text


def test_plain_photo_is_unchanged(tmp_path):
    Image.fromarray(gradient()).save(tmp_path / "a.png")
    photo = load_photo(tmp_path / "a.png")
    np.testing.assert_array_equal(photo.pixels, gradient())
    assert (photo.width, photo.height, photo.reduction, photo.focal_px) == (120, 80, 1.0, None)


def test_grey_is_repeated_over_channels(tmp_path):
    grey = Image.fromarray(gradient()).convert("L")
    grey.save(tmp_path / "a.png")
    pixels = load_photo(tmp_path / "a.png").pixels
    for channel in range(3):
        np.testing.assert_array_equal(pixels[..., channel], np.asarray(grey))


def test_transparency_is_laid_on_white(tmp_path):
    rgba = np.dstack([gradient(), np.full((80, 120), 255, np.uint8)])
    rgba[:40, :, 3] = 0
    Image.fromarray(rgba).save(tmp_path / "a.png")
    pixels = load_photo(tmp_path / "a.png").pixels
    assert (pixels[:40] == 255).all()
    np.testing.assert_array_equal(pixels[40:], gradient()[40:])


def test_palette_with_transparency(tmp_path):
    image = Image.new("P", (80, 80), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.paste(1, (0, 0, 80, 40))
    image.save(tmp_path / "a.png", transparency=0)
    pixels = load_photo(tmp_path / "a.png").pixels
    assert pixels[10, 10].tolist() == [200, 100, 50]
    assert pixels[70, 10].tolist() == [255, 255, 255]


def test_sixteen_bit_grey(tmp_path):
    values = np.linspace(0, 65535, 80 * 80).reshape(80, 80).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    pixels = load_photo(tmp_path / "a.png").pixels
    assert np.abs(pixels[..., 0].astype(float) - values / 257.0).max() <= 0.51


def write_png_16_bit_rgb(path, rgb):
    """A PNG with 16 bits a channel, which Pillow does not write."""
    height, width, _ = rgb.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rgb)

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def test_sixteen_bit_colour(tmp_path):
    write_png_16_bit_rgb(tmp_path / "a.png", gradient().astype(np.uint16) * 257)
    pixels = load_photo(tmp_path / "a.png").pixels
    assert np.abs(pixels.astype(int) - gradient()).max() <= 1


def test_cmyk_jpeg(tmp_path):
    Image.fromarray(gradient()).convert("CMYK").save(tmp_path / "a.jpg", quality=98)
    pixels = load_photo(tmp_path / "a.jpg").pixels
    assert np.abs(pixels.astype(int) - gradient()).mean() < 4


def test_broken_colour_profile_is_ignored(tmp_path):
    Image.fromarray(gradient()).save(tmp_path / "a.png", icc_profile=b"not a profile")
    np.testing.assert_array_equal(load_photo(tmp_path / "a.png").pixels, gradient())


def test_srgb_profile_changes_nothing(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(gradient()).save(tmp_path / "a.png", icc_profile=profile)
    pixels = load_photo(tmp_path / "a.png").pixels
    assert np.abs(pixels.astype(int) - gradient()).max() <= 2


def swapped_profile():
    """A profile whose red is sRGB's green, and the other way round."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swap = {b"rXYZ": b"gXYZ", b"gXYZ": b"rXYZ"}
    return re.sub(b"[rg]XYZ", lambda tag: swap[tag[0]], profile)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_a_profile_counts_in_every_mode(tmp_path, mode):
    red = Image.new("RGB", (80, 80), (204, 51, 51)).convert(mode)
    red.save(tmp_path / "a.png", icc_profile=swapped_profile())
    pixels = load_photo(tmp_path / "a.png").pixels
    np.testing.assert_allclose(pixels[40, 40].astype(int), (51, 204, 51), atol=8)


def test_a_heic_photo_is_told_from_rubbish(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"\0\0\0\x18ftypheic" + bytes(200))
    with pytest.raises(CrowdGaussianError) as error:
        load_photo(tmp_path / "a.jpg")
    assert "HEIC" in one_sentence(error) and "export" in str(error.value)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotated_photo_comes_out_upright(tmp_path, orientation):
    undo = {
        2: "FLIP_LEFT_RIGHT",
        3: "ROTATE_180",
        4: "FLIP_TOP_BOTTOM",
        5: "TRANSPOSE",
        6: "ROTATE_90",
        7: "TRANSVERSE",
        8: "ROTATE_270",
    }
    upright = Image.fromarray(gradient())
    stored = upright
    if orientation in undo:
        stored = upright.transpose(getattr(Image.Transpose, undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(load_photo(tmp_path / "a.png").pixels, gradient())


def test_large_photo_is_reduced_and_focal_follows(tmp_path):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 50
    Image.fromarray(gradient(900, 600)).save(tmp_path / "a.jpg", exif=exif)
    full, half = load_photo(tmp_path / "a.jpg"), load_photo(tmp_path / "a.jpg", max_side=450)
    assert full.focal_px == pytest.approx(50 / 36 * 900, rel=1e-6)
    assert (half.width, half.height, half.reduction) == (450, 300, 0.5)
    assert half.focal_px == pytest.approx(full.focal_px / 2)
    assert half.file_size == (900, 600)


def test_focal_from_focal_plane_resolution():
    exif = Image.Exif()
    tags = exif.get_ifd(0x8769)
    # 36 mm wide sensor, 6000 pixels wide, 50 mm lens, photo since reduced to 3000 pixels
    tags.update({0x920A: 50.0, 0xA20E: 6000 / 36 * 25.4, 0xA210: 2, 0xA002: 6000, 0xA003: 4000})
    assert exif_focal_px(exif, (3000, 2000)) == pytest.approx(50 / 36 * 3000)
    # a portrait photo has its long side upright
    assert exif_focal_px(exif, (2000, 3000)) == pytest.approx(50 / 36 * 3000)


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {0xA405: 0},
        {0xA405: 60000},
        {0x920A: 50.0},
        {0x920A: "?", 0xA20E: 1.0},
        {0x920A: 50.0, 0xA20E: 100.0, 0xA210: 9},
        {0xA405: math.inf},
    ],
)
def test_unbelievable_exif_gives_no_focal(tags):
    exif = Image.Exif()
    exif.get_ifd(0x8769).update(tags)
    assert exif_focal_px(exif, (3000, 2000)) is None


def test_parse_focal():
    assert parse_focal("2100", 3000, 2000) == 2100
    assert parse_focal(" 2100.5 px", 3000, 2000) == 2100.5
    assert parse_focal("36mm", 3000, 2000) == pytest.approx(3000)
    for bad in ("", "wide", "-5", "0", "35 cm", "nan"):
        with pytest.raises(CrowdGaussianError) as error:
            parse_focal(bad, 3000, 2000)
        assert "35mm" in one_sentence(error)


def test_missing_file(tmp_path):
    with pytest.raises(CrowdGaussianError) as error:
        load_photo(tmp_path / "none.jpg")
    assert "no such file" in one_sentence(error)


def test_folder(tmp_path):
    with pytest.raises(CrowdGaussianError) as error:
        load_photo(tmp_path)
    assert "not a file" in one_sentence(error)


@pytest.mark.parametrize("data", [b"", b"hello, I am text" * 100, b"%PDF-1.4\n", b"\xff\xd8\xff"])
def test_not_an_image(tmp_path, data):
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(CrowdGaussianError) as error:
        load_photo(tmp_path / "a.jpg")
    assert "image" in one_sentence(error)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_truncated_file(tmp_path, suffix, kept):
    noise = np.random.default_rng(0).integers(0, 255, (200, 300, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG" if suffix == "jpg" else "PNG")
    data = buffer.getvalue()
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(CrowdGaussianError) as error:
        load_photo(path)
    assert "damaged or cut off" in one_sentence(error)


@pytest.mark.parametrize("size", [(1, 1), (63, 500), (500, 63)])
def test_too_small(tmp_path, size):
    Image.new("RGB", size).save(tmp_path / "a.png")
    with pytest.raises(CrowdGaussianError) as error:
        load_photo(tmp_path / "a.png")
    assert f"{size[0]} x {size[1]}" in one_sentence(error)


def png_header_only(path, width, height):
    """A PNG that claims a size and holds no pixels: decoding it would fail."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    idat = b"IDAT" + zlib.compress(b"")
    chunks = b"".join(
        struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part))
        for part in (body, idat)
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


@pytest.mark.parametrize("size", [(20000, 300), (12000, 12000), (100_000, 100_000)])
def test_too_large_is_refused_before_decoding(tmp_path, size):
    png_header_only(tmp_path / "a.png", *size)
    with pytest.raises(CrowdGaussianError) as error:
        load_photo(tmp_path / "a.png")
    assert "pixels" in one_sentence(error) and "damaged" not in one_sentence(error)


def test_the_public_face_is_light_until_it_is_used():
    code = (
        "import sys, crowdgaussian\n"
        "assert not {'torch', 'numpy'} & set(sys.modules)\n"
        "from crowdgaussian import Config, Job, preset, reconstruct, with_setting\n"
        "assert isinstance(preset('open'), Config) and callable(reconstruct)\n"
        "assert not hasattr(crowdgaussian, 'nothing')\n"
        "import crowdgaussian.refiner.networks.small_unet\n"  # of the preset open
        "assert not {'diffusers', 'peft', 'transformers'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
