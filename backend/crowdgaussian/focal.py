# SPDX-License-Identifier: Apache-2.0
"""Focal lengths in pixels: from EXIF, and from what a user types."""

import math
import re

from crowdgaussian_shared.errors import CrowdGaussianError
from PIL import Image

FULL_FRAME_DIAGONAL = math.hypot(36.0, 24.0)  # mm; CIPA DCG-001 defines the 35 mm equivalent by it
EXIF_IFD = 0x8769
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


def _from_equivalent(tags: dict, width: int, height: int) -> float | None:
    focal_mm = _number(tags, FOCAL_LENGTH_35)
    return equivalent_focal_px(focal_mm, width, height) if focal_mm else None


def _from_sensor(tags: dict, width: int, height: int) -> float | None:
    """Focal length in mm times pixels per mm on the sensor, scaled to the photo's present size."""
    focal_mm = _number(tags, FOCAL_LENGTH)
    resolution = _number(tags, PLANE_X_RESOLUTION)
    unit = UNIT_MM.get(tags.get(PLANE_UNIT, 2))
    if not (focal_mm and resolution and unit):
        return None
    taken = max(_number(tags, PIXEL_WIDTH) or 0.0, _number(tags, PIXEL_HEIGHT) or 0.0)
    scale = max(width, height) / taken if taken else 1.0
    return focal_mm * resolution / unit * scale


def _number(tags: dict, tag: int) -> float | None:
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
        CrowdGaussianError: the text is neither.
    """
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*(px|mm)?\s*", text)
    if match is None or float(match.group(1)) <= 0:
        raise CrowdGaussianError(
            f"'{text}' is not a focal length; write pixels as 2100 or a 35 mm equivalent as 35mm."
        )
    value = float(match.group(1))
    return equivalent_focal_px(value, width, height) if match.group(2) == "mm" else value
