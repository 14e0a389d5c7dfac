# SPDX-License-Identifier: Apache-2.0
"""SOG, PlayCanvas' compressed splats, both ways: lossless WebP images and meta.json, in a zip.

Source of the layout: https://developer.playcanvas.com/user-manual/gaussian-splatting/formats/sog
(version 2, and the tables of version 1, which the first writers made). A pixel is a splat. Centres
are 16 bits of sign(x) log(1 + |x|), rotations three bytes and the place of the largest component;
scales, colours and the palette of the harmonics are places in codebooks of 256 numbers. The axes
are those of a PLY.
"""

import io
import json
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from crowdgaussian_shared.errors import DamagedFileError, InputError
from crowdgaussian_shared.formats.atomic import read_bytes, read_error, write_bytes
from crowdgaussian_shared.geometry.avatar import Gaussians
from crowdgaussian_shared.geometry.sh import num_coefficients
from PIL import Image

from .interchange import check_filled

META = "meta.json"
_VERSION = 2
_META_LIMIT = 1 << 20  # bytes; three codebooks of 256 numbers take some 15,000
_IMAGE_LIMIT = 1 << 30  # bytes of one image in the file: far above what ten million splats need
_BOOK = 256  # numbers of a codebook
# Of them so many lie evenly at first. The sample's colours are then at most 0.90 / 255 off and 0.31
# in the mean square; with 128 it is 1.24 and 0.29, with 256 0.80 and 0.33
_EVEN = 192
_ROUNDS = 12  # of Lloyd's algorithm on a codebook; more change the fourth digit
_PALETTE = 1 << 16  # colour patterns at most: a label has two bytes
_ROW = 64  # patterns side by side in the palette's image
_LARGEST = 252  # alpha of a rotation whose largest component is the first; the next ones follow
_MIN_SCALE = 1e-7  # metres: smaller ones would take the codebook's numbers from the others
_DAMAGED = (
    OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, EOFError,
    zipfile.BadZipFile, RuntimeError, NotImplementedError, Image.DecompressionBombError,
)  # fmt: skip


def write_sog(path: Path, gaussians: Gaussians) -> None:
    """Write a .sog file of version 2, atomically.

    Args:
        path: where to write.
        gaussians: N Gaussians of degree 0..3, in the axes that the file shall have.

    Raises:
        CrowdGaussianError: nothing to write, or the disk is full.
    """
    check_filled(path, [gaussians])
    meta: dict[str, Any] = {
        "version": _VERSION, "asset": {"generator": "CrowdGaussian"}, "count": len(gaussians),
    }  # fmt: skip
    images: dict[str, np.ndarray] = {}
    _add_centres(meta, images, gaussians.means)
    images["quats.webp"] = _packed_quats(gaussians.quats)
    meta["quats"] = {"files": ["quats.webp"]}
    logs = np.log(np.maximum(gaussians.scales.astype(np.float64), _MIN_SCALE))
    book, labels = codebook(logs)
    images["scales.webp"] = labels
    meta["scales"] = {"codebook": book.tolist(), "files": ["scales.webp"]}
    book, labels = codebook(gaussians.sh[:, 0])
    images["sh0.webp"] = np.c_[labels, _to_bytes(gaussians.opacities)]
    meta["sh0"] = {"codebook": book.tolist(), "files": ["sh0.webp"]}
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as bundle:
        if gaussians.sh_degree:
            _add_harmonics(meta, images, bundle, gaussians)
        for name, rows in images.items():
            _store(bundle, name, _webp(_as_picture(rows)))
        _store(bundle, META, json.dumps(meta, separators=(",", ":")).encode())
    write_bytes(path, stream.getvalue())


def _store(bundle: zipfile.ZipFile, name: str, data: bytes) -> None:
    """As it is, and with the zip's first possible date: the same splats are the same file."""
    bundle.writestr(zipfile.ZipInfo(name), data)


def _webp(picture: np.ndarray) -> bytes:
    stream = io.BytesIO()
    # exact: colours under alpha 0 are numbers too
    Image.fromarray(picture).save(stream, "WEBP", lossless=True, exact=True)
    return stream.getvalue()


def _as_picture(rows: np.ndarray) -> np.ndarray:
    """Splats as the pixels of a nearly square picture.  # [N, C] uint8 -> [H, W, C]"""
    width = int(np.ceil(np.sqrt(len(rows))))
    height = -(-len(rows) // width)
    picture = np.zeros((height * width, rows.shape[1]), np.uint8)
    picture[: len(rows)] = rows
    return picture.reshape(height, width, -1)


def _to_bytes(values: np.ndarray) -> np.ndarray:
    """0..1 as bytes."""
    return np.round(255 * np.clip(values, 0, 1)).astype(np.uint8)


def _add_centres(meta: dict[str, Any], images: dict[str, np.ndarray], means: np.ndarray) -> None:
    far = means.astype(np.float64)
    logs = np.sign(far) * np.log1p(np.abs(far))
    low, high = logs.min(axis=0), logs.max(axis=0)
    steps = np.round(65535 * (logs - low) / np.maximum(high - low, 1e-12)).astype(np.uint16)
    files = ["means_l.webp", "means_u.webp"]
    images[files[0]] = (steps & 255).astype(np.uint8)
    images[files[1]] = (steps >> 8).astype(np.uint8)
    meta["means"] = {"mins": low.tolist(), "maxs": high.tolist(), "files": files}


def _packed_quats(quats: np.ndarray) -> np.ndarray:
    """The three smaller components, the largest being positive, and which it is.  # [N, 4] uint8"""
    rows = np.arange(len(quats))
    largest = np.abs(quats).argmax(axis=1)
    signs = np.where(quats[rows, largest] < 0, -1.0, 1.0)
    others = _others(len(quats), largest)
    smaller = np.take_along_axis(quats, others, axis=1) * signs[:, None]
    return np.c_[_to_bytes((smaller * np.sqrt(2) + 1) / 2), (_LARGEST + largest).astype(np.uint8)]


def _others(count: int, largest: np.ndarray) -> np.ndarray:
    """The places of the components that are not the largest, in order.  # [N, 3]"""
    places = np.tile(np.arange(4), (count, 1))
    return places[places != largest[:, None]].reshape(count, 3)


def codebook(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """256 numbers that stand for all of them, and which stands for each: one-dimensional k-means.

    Most of the first guess is even over the range, so that nothing rare lies far from its number;
    the rest follows the values. Few different values stand for themselves.

    Args:
        values: any shape.

    Returns:
        The numbers [256] in order, float32, and labels of the shape of values, uint8.
    """
    flat = np.sort(values.astype(np.float64), axis=None)
    book = np.unique(flat)
    if len(book) > _BOOK:
        even = np.linspace(flat[0], flat[-1], _EVEN)
        spread = flat[np.linspace(0, len(flat) - 1, _BOOK - _EVEN).astype(int)]
        book = np.sort(np.r_[even, spread])
        sums = np.r_[0, np.cumsum(flat)]
        for _ in range(_ROUNDS):
            ends = np.r_[0, np.searchsorted(flat, (book[1:] + book[:-1]) / 2), len(flat)]
            sizes = np.diff(ends)
            book = np.where(sizes > 0, np.diff(sums[ends]) / np.maximum(sizes, 1), book)
    book = np.r_[book, np.full(_BOOK - len(book), book[-1])].astype(np.float32)
    return book, np.searchsorted((book[1:] + book[:-1]) / 2, values).astype(np.uint8)


def _add_harmonics(
    meta: dict[str, Any], images: dict[str, np.ndarray], bundle: zipfile.ZipFile, cloud: Gaussians
) -> None:
    """Bands 1 and up: a palette of patterns, and which is whose."""
    rest = cloud.sh[:, 1:].reshape(len(cloud), -1)  # coefficient by coefficient, rgb together
    patterns, labels = palette(rest)
    book, places = codebook(patterns)
    wide = _ROW * (cloud.sh.shape[1] - 1)
    picture = np.zeros((-(-len(patterns) // _ROW) * wide, 3), np.uint8)
    picture[: places.size // 3] = places.reshape(-1, 3)
    files = ["shN_centroids.webp", "shN_labels.webp"]
    _store(bundle, files[0], _webp(picture.reshape(-1, wide, 3)))
    images[files[1]] = np.c_[labels & 255, labels >> 8, np.zeros_like(labels)].astype(np.uint8)
    meta["shN"] = {
        "count": len(patterns), "bands": cloud.sh_degree, "codebook": book.tolist(), "files": files,
    }  # fmt: skip


def palette(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most 65,536 rows that stand for all of them, and which stands for each.

    Few different rows stand for themselves. Of more, cells are halved sixteen times, each at the
    median of the axis along which it varies most; its mean stands for a cell.

    Args:
        rows: [N, D].

    Returns:
        [P, D] float64 and labels [N] int64.
    """
    different, labels = np.unique(rows, axis=0, return_inverse=True)
    if len(different) <= _PALETTE:
        return different.astype(np.float64), labels.reshape(-1)
    order = np.arange(len(rows))
    ends = np.array([0, len(rows)])
    while len(ends) <= _PALETTE:
        sizes = np.diff(ends)
        cell = np.repeat(np.arange(len(sizes)), sizes)
        sorted_rows = rows[order].astype(np.float64)
        means = np.add.reduceat(sorted_rows, ends[:-1]) / sizes[:, None]
        spread = np.add.reduceat((sorted_rows - means[cell]) ** 2, ends[:-1])
        along = sorted_rows[np.arange(len(rows)), spread.argmax(axis=1)[cell]]
        order = order[np.lexsort((along, cell))]
        ends = np.unique(np.r_[ends, ends[:-1] + sizes // 2])
    labels = np.empty(len(rows), np.int64)
    labels[order] = np.repeat(np.arange(len(ends) - 1), np.diff(ends))
    sums = np.add.reduceat(rows[order].astype(np.float64), ends[:-1])
    return sums / np.diff(ends)[:, None], labels


# Reading


def read_sog(path: Path, check_count: Callable[[int], None]) -> Gaussians:
    """The splats of a .sog file, or of the images beside a meta.json, in the axes of the file.

    Args:
        path: the .sog or the meta.json.
        check_count: raises where the file announces too many splats; asked before images are read.

    Raises:
        CrowdGaussianError: unreadable, damaged, or of an unknown version.
    """
    try:
        if path.name == META:
            return _decode(path, partial(_beside, path), check_count)
        with zipfile.ZipFile(path) as bundle:
            return _decode(path, partial(_unzip, bundle), check_count)
    except (FileNotFoundError, PermissionError) as error:
        raise read_error(path, error) from error
    except _DAMAGED as error:
        why = " ".join(str(error).split())[:100]
        raise DamagedFileError(f"{path} is a damaged SOG ({why}); export it again.") from error


def _beside(path: Path, name: str, most: int) -> bytes:
    if Path(name).name != name:
        raise ValueError("it names a file elsewhere")
    return read_bytes(path.with_name(name), most)


def _unzip(bundle: zipfile.ZipFile, name: str, most: int) -> bytes:
    inside = [entry for entry in bundle.namelist() if entry == name or entry.endswith(f"/{name}")]
    if not inside:
        raise ValueError(f"it has no {name}")
    entry = bundle.getinfo(inside[0])
    if entry.file_size > most:
        raise ValueError(f"{name} is too large")
    with bundle.open(entry) as stream:
        return stream.read(most)


_Files = Callable[[str, int], bytes]


def _decode(path: Path, files: _Files, check_count: Callable[[int], None]) -> Gaussians:
    meta = json.loads(files(META, _META_LIMIT))
    version = meta.get("version", 1)
    if version not in (1, _VERSION):
        raise InputError(f"{path} is SOG of version {version}; save it as version 2, or as PLY.")
    count = int(meta["count"] if version > 1 else meta["means"]["shape"][0])
    check_count(count)
    if count < 1:
        raise ValueError("it announces no splats")

    def pixels(part: str, file: int = 0) -> np.ndarray:
        return _pixels(files(meta[part]["files"][file], _IMAGE_LIMIT), count)

    steps = pixels("means", 0)[:, :3] + 256.0 * pixels("means", 1)[:, :3]
    logs = _between(meta["means"], steps / 65535)
    colours = pixels("sh0")
    base = _valued(meta["sh0"], colours, slice(0, 3))
    opacities = colours[:, 3] / 255
    if version == 1:  # a logit between two ends
        opacities = 1 / (1 + np.exp(-_between(meta["sh0"], colours / 255)[:, 3]))
    sh = base[:, None]
    if meta.get("shN"):
        centroids = files(meta["shN"]["files"][0], _IMAGE_LIMIT)
        sh = np.concatenate([sh, _harmonics(meta["shN"], centroids, pixels("shN", 1))], axis=1)
    return Gaussians(
        means=(np.sign(logs) * np.expm1(np.abs(logs))).astype(np.float32),
        quats=_unpacked_quats(pixels("quats")),
        scales=np.exp(_valued(meta["scales"], pixels("scales"), slice(0, 3))).astype(np.float32),
        opacities=opacities.astype(np.float32),
        sh=sh.astype(np.float32),
    )


def _pixels(data: bytes, count: int) -> np.ndarray:
    """The first pixels of an image.  # [count, 4] uint8"""
    with Image.open(io.BytesIO(data)) as image:
        if image.width * image.height < count:
            raise ValueError("an image has too few pixels")
        return np.asarray(image.convert("RGBA")).reshape(-1, 4)[:count]


def _between(part: dict[str, Any], shares: np.ndarray) -> np.ndarray:
    """Shares 0..1 of the way from part's mins to its maxs."""
    low, high = (np.asarray(part[name], np.float64) for name in ("mins", "maxs"))
    return low + (high - low) * shares


def _valued(part: dict[str, Any], pixels: np.ndarray, channels: slice) -> np.ndarray:
    """What the pixels' numbers stand for: places in a codebook, or between two ends."""
    if "codebook" not in part:
        return _between(part, pixels[..., : len(part["mins"])] / 255)[..., channels]
    book = np.asarray(part["codebook"], np.float64)
    if book.shape != (_BOOK,):
        raise ValueError("a codebook has not 256 numbers")
    return book[pixels[..., channels]]


def _unpacked_quats(pixels: np.ndarray) -> np.ndarray:
    """[N, 4] uint8 -> [N, 4] float32 wxyz; of length zero where the last byte means nothing."""
    largest = pixels[:, 3].astype(int) - _LARGEST
    sound = (largest >= 0) & (largest < 4)
    smaller = (pixels[:, :3] / 255 * 2 - 1) / np.sqrt(2)
    quats = np.zeros((len(pixels), 4))
    place = np.where(sound, largest, 0)
    np.put_along_axis(quats, _others(len(pixels), place), smaller, axis=1)
    left = np.sqrt(np.maximum(1 - (smaller**2).sum(axis=1, keepdims=True), 0))
    np.put_along_axis(quats, place[:, None], left, axis=1)
    return (quats * sound[:, None]).astype(np.float32)


def _harmonics(part: dict[str, Any], centroids: bytes, labels: np.ndarray) -> np.ndarray:
    """Bands 1 and up.  # [N, K - 1, 3]"""
    with Image.open(io.BytesIO(centroids)) as image:
        table = np.asarray(image.convert("RGB"))  # [rows, 64 (K - 1), 3]
    per_pattern = table.shape[1] // _ROW
    if per_pattern + 1 not in (num_coefficients(degree) for degree in (1, 2, 3)):
        raise ValueError("its palette has a width that no degree has")
    if "codebook" in part:
        values = _valued(part, table, slice(0, 3))
    else:  # version 1 has one pair of ends for all
        low, high = float(part["mins"]), float(part["maxs"])
        values = low + (high - low) * table / 255
    patterns = values[:, : _ROW * per_pattern].reshape(-1, per_pattern, 3)
    return patterns[labels[:, 0] + 256 * labels[:, 1].astype(int)]
