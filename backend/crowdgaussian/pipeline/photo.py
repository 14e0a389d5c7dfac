# SPDX-License-Identifier: Apache-2.0
"""Any photo a user has -> upright sRGB pixels of a working size, and its focal length.

decode.py turns the file into a picture; here it gets its size, its colours and its focal length.
"""

import io
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from crowdgaussian_shared.errors import SettingError
from crowdgaussian_shared.scene.schema import FocalSource, hash_bytes
from PIL import Image, ImageCms, ImageOps

from .decode import EXIF_IFD, decode, read_file

# Focal lengths in pixels: from EXIF, and from what a user types

FULL_FRAME_DIAGONAL = math.hypot(36.0, 24.0)  # mm; CIPA DCG-001 defines the 35 mm equivalent by it
FOCAL_LENGTH, FOCAL_LENGTH_35 = 0x920A, 0xA405
PLANE_X_RESOLUTION, PLANE_UNIT = 0xA20E, 0xA210
PIXEL_WIDTH, PIXEL_HEIGHT = 0xA002, 0xA003
UNIT_MM = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}  # EXIF FocalPlaneResolutionUnit
PLAUSIBLE = (0.2, 30.0)  # focal length / photo diagonal: from fish-eye to super-telephoto


def equivalent_focal_px(focal_mm: float, width: int, height: int) -> float:
    """A 35-mm equivalent focal length in pixels of a photo of that size, by the diagonal."""
    return focal_mm * math.hypot(width, height) / FULL_FRAME_DIAGONAL


def exif_focal_px(exif: Image.Exif, size: tuple[int, int]) -> float | None:
    """Focal length in pixels from EXIF, or None when it says nothing believable.

    Args:
        exif: the photo's EXIF.
        size: width and height of the upright photo, pixels.
    """
    tags = exif.get_ifd(EXIF_IFD)
    width, height = size
    focal = _from_equivalent(tags, width, height) or _from_sensor(tags, width, height)
    if focal is None or not math.isfinite(focal):
        return None
    low, high = (bound * math.hypot(width, height) for bound in PLAUSIBLE)
    return focal if low < focal < high else None


def _from_equivalent(tags: dict[int, Any], width: int, height: int) -> float | None:
    focal_mm = _number(tags, FOCAL_LENGTH_35)
    return equivalent_focal_px(focal_mm, width, height) if focal_mm else None


def _from_sensor(tags: dict[int, Any], width: int, height: int) -> float | None:
    """Focal length in mm times pixels per mm on the sensor, scaled to the photo's present size."""
    focal_mm = _number(tags, FOCAL_LENGTH)
    resolution = _number(tags, PLANE_X_RESOLUTION)
    unit = UNIT_MM.get(tags.get(PLANE_UNIT, 2))
    if not (focal_mm and resolution and unit):
        return None
    taken = max(_number(tags, PIXEL_WIDTH) or 0.0, _number(tags, PIXEL_HEIGHT) or 0.0)
    scale = max(width, height) / taken if taken else 1.0
    return focal_mm * resolution / unit * scale


def _number(tags: dict[int, Any], tag: int) -> float | None:
    try:
        value = float(tags[tag])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return value if value > 0 and math.isfinite(value) else None


def parse_focal(text: str, width: int, height: int) -> float:
    """What a user typed -> focal length in pixels: "2100" or "2100px", or "35mm" (equivalent).

    Args:
        text: the option's value.
        width: photo width in the file, pixels.
        height: photo height in the file, pixels.

    Raises:
        SettingError: the text is neither.
    """
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*(px|mm)?\s*", text)
    if match is None or float(match.group(1)) <= 0:
        raise SettingError(
            f"'{text}' is not a focal length; write pixels as 2100 or a 35 mm equivalent as 35mm."
        )
    value = float(match.group(1))
    return equivalent_focal_px(value, width, height) if match.group(2) == "mm" else value


_GREY = ("L", "LA", "La")  # modes
BACKDROP = (255, 255, 255)  # what shows through transparent pixels


@dataclass(frozen=True)
class Photo:
    """A photo as the stages see it.

    All later pixel coordinates and every K are in pixels of `pixels`, which is also what the scene
    folder keeps as photo.jpg; `reduction` leads back to the file the user gave.
    """

    path: Path
    pixels: np.ndarray  # [H, W, 3] uint8 sRGB, upright
    focal_px: float | None  # EXIF focal length in pixels of `pixels`; None when unknown
    file_size: tuple[int, int]  # width, height of the upright photo in the file, pixels
    digest: str  # hash_bytes of the file the user gave

    @property
    def width(self) -> int:
        return self.pixels.shape[1]

    @property
    def height(self) -> int:
        return self.pixels.shape[0]

    @property
    def reduction(self) -> float:
        """Working width / width in the file; 1 when the photo was not made smaller."""
        return self.width / self.file_size[0]


def chosen_focal(photo: Photo, text: str) -> tuple[float | None, FocalSource]:
    """The focal length in pixels of the working size, and where it is from.

    Args:
        photo: as it was read.
        text: the option photo.focal; empty: that of EXIF, or None where there is none.

    Raises:
        SettingError: the text is no focal length.
    """
    if text:
        return parse_focal(text, *photo.file_size) * photo.reduction, "option"
    return photo.focal_px, "exif" if photo.focal_px else "default"


def load_photo(path: str | Path, max_side: int = 2048) -> Photo:
    """Reads any photo that decode can: grey, RGBA, palette, 16-bit, CMYK, RAW, EXIF-rotated.

    Args:
        path: the photo.
        max_side: longest side of the working size, pixels; larger photos are reduced to it.

    Raises:
        CrowdGaussianError: as of read_file and decode.
    """
    path = Path(path)
    data = read_file(path)
    with decode(path, data) as image:
        exif = image.getexif()
        upright = ImageOps.exif_transpose(image)
        focal = exif_focal_px(exif, upright.size)
        rgb = _to_rgb(upright)
    working = _reduce(rgb, max_side)
    return Photo(
        path=path,
        pixels=np.asarray(working, dtype=np.uint8),
        focal_px=None if focal is None else focal * working.width / rgb.width,
        file_size=rgb.size,
        digest=hash_bytes(data),
    )


def _to_rgb(image: Image.Image) -> Image.Image:
    """8-bit sRGB; colour profiles are applied, transparency is laid on white."""
    profile = image.info.get("icc_profile")
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        image = _from_deep_grey(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        colours = _apply_profile(rgba.convert("L" if image.mode in _GREY else "RGB"), profile)
        colours.putalpha(rgba.getchannel("A"))
        backdrop = Image.new("RGBA", rgba.size, (*BACKDROP, 255))
        return Image.alpha_composite(backdrop, colours).convert("RGB")
    return _apply_profile(image, profile)


def _from_deep_grey(image: Image.Image) -> Image.Image:
    """16-bit, 32-bit or float grey values to 8 bits by the range their format stands for."""
    values = np.asarray(image, dtype=np.float64)
    peak = values.max(initial=0.0)
    full = 1.0 if image.mode == "F" and peak <= 1.0 else 255.0 if peak <= 255.0 else 65535.0
    return Image.fromarray((values / full * 255.0).clip(0, 255).round().astype(np.uint8))


def _apply_profile(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Converts an embedded ICC profile to sRGB -> RGB; a profile that does not fit is ignored."""
    if not profile or image.mode not in ("RGB", "CMYK", "P", "L"):
        return image.convert("RGB")
    if image.mode == "P":
        image = image.convert("RGB")
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(
            image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image.convert("RGB")
    return converted or image.convert("RGB")


def _reduce(image: Image.Image, max_side: int) -> Image.Image:
    factor = max_side / max(image.size)
    if factor >= 1.0:
        return image
    width, height = (max(1, round(side * factor)) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)
