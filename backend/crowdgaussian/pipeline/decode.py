# SPDX-License-Identifier: Apache-2.0
"""The bytes of a photo's file -> a picture, by what the file is, not by what it is called.

Pillow reads most; HEIC is read by pi-heif and camera RAW by rawpy, both optional. The full picture
is given or one sentence, never a file's thumbnail in its place.
"""

import io
import re
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from crowdgaussian_shared.errors import DamagedFileError, InputError, MissingFileError
from PIL import Image, UnidentifiedImageError

MIN_SIDE = 64  # pixels: nobody can be fitted in less
MAX_SIDE = 16384  # pixels
MAX_PIXELS = 120_000_000
# What Pillow decodes: none of these starts another program, as EPS does Ghostscript.
_FORMATS = ("JPEG", "MPO", "PNG", "TIFF", "WEBP", "AVIF", "BMP", "GIF", "PPM")
_WANTED = "give a JPEG, PNG, TIFF, WebP, AVIF or HEIC photo"
_HEIC = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")  # brands of its files
_RAW = (  # how files of cameras begin that are no TIFFs: Fuji, Panasonic, Olympus, Sigma, Minolta
    *(b"FUJIFILMCCD-RAW", b"IIU\0", b"IIRO", b"IIRS", b"MMOR", b"FOVb", b"\0MRM"),
)
_ZIP, _LINK = b"PK\x03\x04", re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)
_KINDS = (  # what else people give, by how it begins at which byte
    (0, b"%PDF", "a PDF document"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"\xff\x0a", "a JPEG XL photo"),
    (4, b"JXL ", "a JPEG XL photo"),
    (0, b"#?RADIANCE", "an HDR picture"),
    (0, b"v/1\x01", "an OpenEXR picture"),
    (4, b"ftyp", "a video"),
    (0, b"\x1aE\xdf\xa3", "a video"),
)
EXIF_IFD = 0x8769  # tag of the folder with what the camera says
DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, IndexError)


def read_file(path: Path) -> bytes:
    """The bytes of a photo's file.

    Raises:
        MissingFileError: there is no such file.
        InputError: an address of the web, a folder, or unreadable.
    """
    if not path.exists():
        if _LINK.match(str(path)):
            raise InputError(f"{path} is an address, not a file; download the photo first.")
        raise MissingFileError(f"{path}: there is no such file; give the path of a photo.")
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a file; give the path of one photo in it.")
    if not path.is_file():
        raise InputError(f"{path} is not a file; give the path of one photo.")
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); check its permissions."
        ) from error


def decode(path: Path, data: bytes) -> Image.Image:
    """The picture, whole in memory, as stored: not turned upright, in the file's own colours.

    Of several pictures in a TIFF the largest is taken, of other files the first or the one that the
    file calls its own.

    Args:
        path: the file's, for sentences.
        data: its bytes.

    Raises:
        DamagedFileError: the image is damaged or cut off.
        MissingFileError: a package that reads such files is missing.
        InputError: no image, too small or too large, or the full picture cannot be read.
    """
    folders = _tiff_folders(data)
    if _is_raw(data, folders):
        return _develop(path, data)
    image = _open(path, data)
    if image.format == "TIFF":
        _turn_to_largest(path, image, folders)
    _check_size(path, image.size)
    try:
        image.load()
    except DECODE_ERRORS as error:
        raise DamagedFileError(
            f"{path} is damaged or cut off; copy or export the photo again."
        ) from error
    return image


def _open(path: Path, data: bytes) -> Image.Image:
    formats: tuple[str, ...] = _FORMATS
    if data[4:8] == b"ftyp" and data[8:12] in _HEIC and b"avif" not in data[8:64]:
        _prepare_heif(path)
        formats = ("HEIF",)
    try:
        with warnings.catch_warnings():  # _check_size refuses in our own words
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            Image.init()
            return Image.open(io.BytesIO(data), formats=[f for f in formats if f in Image.OPEN])
    except UnidentifiedImageError as error:
        raise _no_image(path, data) from error
    except Image.DecompressionBombError as error:
        raise InputError(
            f"{path} has too many pixels; make it at most {MAX_SIDE} pixels a side."
        ) from error
    except DECODE_ERRORS as error:
        raise DamagedFileError(f"{path} is a damaged image; export the photo again.") from error


def _prepare_heif(path: Path) -> None:
    """Teaches Pillow to read HEIC."""
    try:
        import pi_heif
    except ImportError as error:
        raise MissingFileError(
            f"{path} is a HEIC photo; to read it, run `pip install 'crowdgaussian[heic]'`, or "
            "export it from the phone or viewer as JPEG."
        ) from error
    pi_heif.register_heif_opener(thumbnails=False)


def _no_image(path: Path, data: bytes) -> InputError:
    if data.startswith(_ZIP):
        return InputError(f"{path} is a zip file, not an image; unpack it and give one photo.")
    if data[:256].lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return InputError(f"{path} is a web page, not an image; download the photo itself.")
    if data[4:8] == b"ftyp" and data[8:12] in _HEIC:
        return InputError(f"{path} is a damaged HEIC image; export the photo again.")
    kind = next((kind for at, word, kind in _KINDS if data[at:].startswith(word)), "")
    what = f"{kind}, not an image that can be read" if kind else "not an image that can be read"
    return InputError(f"{path} is {what}; {_WANTED}.")


def _check_size(path: Path, size: tuple[int, int]) -> None:
    width, height = size
    if min(size) < MIN_SIDE:
        raise InputError(
            f"{path} is only {width} x {height} pixels; give a photo of at least "
            f"{MIN_SIDE} x {MIN_SIDE}."
        )
    if max(size) > MAX_SIDE or width * height > MAX_PIXELS:
        raise InputError(
            f"{path} is {width} x {height} pixels, more than {MAX_SIDE} a side or "
            f"{MAX_PIXELS // 1_000_000} million in all; make it smaller."
        )


# TIFFs hold several pictures: pages one after the other, and others below a page (tag SubIFDs),
# which Pillow does not show. Cameras' own formats are such TIFFs, often with a thumbnail first.
#
# Source of the numbers: TIFF 6.0, section 2 and 8; TIFF Technical Note 1 (SubIFDs); DNG 1.6.

_WIDTH, _HEIGHT, _PHOTOMETRIC, _SUB_FOLDERS, _DNG_VERSION = 256, 257, 262, 330, 50706
_OF_SENSORS = (32803, 34892)  # photometric interpretations: colour filter array, linear raw
_SHORT, _LONG, _FOLDER = 3, 4, 13  # types of a value
_MOST_FOLDERS = 100  # looked at in one file; a scanned book has as many pages
_MOST_ENTRIES = 1000  # of one folder


@dataclass(frozen=True)
class _Folder:
    """One picture of a TIFF, as its image file directory describes it."""

    size: tuple[int, int]  # width, height, pixels
    sensor: bool  # unprocessed values of a camera's sensor
    page: bool  # a page that Pillow can turn to; else below one


def _tiff_folders(data: bytes) -> list[_Folder]:
    """The pictures of a TIFF in the file's order; none of another or a damaged file."""
    if data[:4] not in (b"II*\0", b"MM\0*"):
        return []
    order = "<" if data[:2] == b"II" else ">"
    found: list[_Folder] = []
    seen: set[int] = set()
    try:
        waiting = [(struct.unpack_from(order + "I", data, 4)[0], True)]
        while waiting and len(seen) < _MOST_FOLDERS:
            offset, page = waiting.pop(0)
            if offset in seen or not offset:
                continue
            seen.add(offset)
            values, following = _entries(data, offset, order)
            picture = values.get(_PHOTOMETRIC, [0])[0] in _OF_SENSORS or _DNG_VERSION in values
            size = (values.get(_WIDTH, [0])[0], values.get(_HEIGHT, [0])[0])
            found.append(_Folder(size, picture, page))
            if page:
                waiting.append((following, True))
            waiting += [(place, False) for place in values.get(_SUB_FOLDERS, [])]
    except (struct.error, IndexError):
        pass  # a reader finds the damage, and says so
    return found


def _entries(data: bytes, offset: int, order: str) -> tuple[dict[int, list[int]], int]:
    """The whole numbers of an image file directory by tag, and where the next one lies."""
    (count,) = struct.unpack_from(order + "H", data, offset)
    values = {}
    for number in range(min(count, _MOST_ENTRIES)):
        at = offset + 2 + 12 * number
        tag, kind, many = struct.unpack_from(order + "HHI", data, at)
        values[tag] = [0]
        if kind in (_SHORT, _LONG, _FOLDER):
            letter, width = ("H", 2) if kind == _SHORT else ("I", 4)
            many = min(many, _MOST_FOLDERS)
            if many * width > 4:  # they lie elsewhere
                (at,) = struct.unpack_from(order + "I", data, at + 8)
                at -= 8
            values[tag] = list(struct.unpack_from(f"{order}{many}{letter}", data, at + 8)) or [0]
    (following,) = struct.unpack_from(order + "I", data, offset + 2 + 12 * count)
    return values, following


def _turn_to_largest(path: Path, image: Image.Image, folders: list[_Folder]) -> None:
    """Turns to the largest page; refuses a file whose full picture is no page."""
    areas = [folder.size[0] * folder.size[1] for folder in folders if folder.page]
    if not areas:
        return
    largest = int(np.argmax(areas))
    try:
        image.seek(largest)
    except DECODE_ERRORS as error:
        raise DamagedFileError(f"{path} is a damaged TIFF; export the photo again.") from error
    hidden = max((folder.size for folder in folders if not folder.page), default=(0, 0))
    if hidden[0] * hidden[1] > areas[largest]:
        raise InputError(
            f"{path} shows {image.size[0]} x {image.size[1]} pixels and keeps its picture of "
            f"{hidden[0]} x {hidden[1]} where it cannot be read; export it as JPEG or plain TIFF."
        )


def _is_raw(data: bytes, folders: list[_Folder]) -> bool:
    """Whether a file is what a camera's sensor saw, before it is a picture."""
    if data.startswith(_RAW) or data[4:12] == b"ftypcrx ":
        return True
    return any(folder.sensor for folder in folders) or (bool(folders) and data[8:10] == b"CR")


def _develop(path: Path, data: bytes) -> Image.Image:
    """A RAW photo as an upright 8-bit sRGB picture, by the white balance that the camera chose."""
    try:
        import rawpy
    except ImportError as error:
        raise MissingFileError(
            f"{path} is a RAW photo of a camera; to read it, run `pip install "
            "'crowdgaussian[raw]'`, or give the JPEG or TIFF that camera or program made of it."
        ) from error
    try:
        with rawpy.imread(io.BytesIO(data)) as raw:
            _check_size(path, (raw.sizes.width, raw.sizes.height))
            pixels = raw.postprocess(  # [H, W, 3] uint8; gamma: sRGB's, as LibRaw writes it
                use_camera_wb=True, output_color=rawpy.ColorSpace.sRGB, gamma=(2.4, 12.92)
            )
    except (rawpy.LibRawError, ValueError, MemoryError) as error:
        raise DamagedFileError(
            f"{path} is a RAW photo that cannot be developed ({_words(error)}); export it as JPEG."
        ) from error
    image = Image.fromarray(pixels)
    image.info["exif"] = _exif_of(data)
    return image


def _exif_of(data: bytes) -> bytes:
    """EXIF of a RAW photo that is a TIFF, without its orientation, which is done; else nothing."""
    try:
        with Image.open(io.BytesIO(data), formats=("TIFF",)) as outside:
            exif = outside.getexif()
            kept = Image.Exif()
            kept.get_ifd(EXIF_IFD).update(exif.get_ifd(EXIF_IFD))
            return kept.tobytes()
    except (*DECODE_ERRORS, UnidentifiedImageError, TypeError):
        return b""


def _words(error: BaseException) -> str:
    said = error.args[0] if error.args else ""
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
    return " ".join(text.split())[:100] or "no reason is given"
