# SPDX-License-Identifier: Apache-2.0
"""A SUBMIT checked field by field, before anything is stored."""

import hashlib
import json
import re
import struct
import time
import uuid
from dataclasses import replace
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

from crowdgaussian_shared.errors import CrowdGaussianError, RemoteError
from crowdgaussian_shared.protocol.messages import ErrorCode, Submit
from crowdgaussian_shared.scene.edit import SceneEdits
from crowdgaussian_shared.scene.schema import hash_bytes, hash_file

from .. import __version__
from ..pipeline.config import Config, configured, is_local
from ..pipeline.stages import files_for
from ..weights import WeightFile
from .settings import ServiceSettings
from .store import JobRow

# The key under which a result is kept: all that decides what comes out, and nothing else

PACKAGES = ("crowdgaussian", "crowdgaussian_shared")
KEPT = 128  # jobs whose keys are remembered, twice jobs_total; 0.1 MB each with 1,000 corrections


def result_key(photo_blake2b: str, config: Config, pipeline: str) -> str:
    """BLAKE2b-256 of photo, settings, model files and code as hex, for a result not corrected.

    Args:
        photo_blake2b: of the photo's file.
        config: all settings.
        pipeline: module:function that computes the result.

    Raises:
        CrowdGaussianError: a model file is missing.
    """
    models = [_model_hash(file) for file in files_for(config)]
    settings = sorted(config.flat().items())
    parts = [photo_blake2b, settings, models, pipeline, code_version()]
    return hash_bytes(json.dumps(parts).encode())


@cache
def code_version() -> str:
    """The version and a hash of the source files: a changed program never finds old work."""
    digest = hashlib.blake2b(digest_size=32)
    for package in PACKAGES:
        spec = find_spec(package)
        for folder in (spec and spec.submodule_search_locations) or ():
            for path in sorted(Path(folder).rglob("*.py")):
                digest.update(f"{path.relative_to(folder)} {hash_file(path)}\n".encode())
    return f"{__version__} {digest.hexdigest()}"


@cache
def _model_hash(file: WeightFile) -> str:
    return file.digest or hash_file(file.path())


_HASH = re.compile(r"[0-9a-f]{64}")
_NO_NAME = re.compile(r"[\x00-\x1f\x7f]")


class RefusedError(RemoteError):
    """A request that is refused.

    Attributes:
        code: as in the ERROR message.
    """

    def __init__(self, code: ErrorCode, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


def new_row(message: Submit, owner: str, settings: ServiceSettings) -> JobRow:
    """The job that a SUBMIT describes.

    Raises:
        RefusedError: something about it cannot be; the sentence says what.
    """
    if not _is_uuid(message.job):
        raise RefusedError("message", "SUBMIT: job must be a UUID in lower case.")
    if not _HASH.fullmatch(message.photo_blake2b):
        raise RefusedError("message", "SUBMIT: photo_blake2b must be 64 hexadecimal digits.")
    largest = settings.limits.photo_bytes
    if not 0 < message.photo_bytes <= largest:
        raise RefusedError(
            "limit",
            f"A photo may have up to {largest >> 20} MiB and this one has "
            f"{message.photo_bytes} bytes; make it smaller.",
        )
    now = time.time()
    row = JobRow(
        job=message.job,
        owner=owner,
        state="uploading",
        key="",
        photo_name=plain_name(message.photo_name),
        photo_bytes=message.photo_bytes,
        photo_blake2b=message.photo_blake2b,
        preset=message.preset,
        settings=message.settings,
        created=now,
        changed=now,
        edit=message.edit,
    )
    try:
        _check_settings(message, settings)
        return replace(row, key=keys_of(row, settings)[0])
    except RefusedError:
        raise
    except CrowdGaussianError as error:
        raise RefusedError("message", str(error)) from error


def again(old: JobRow, new: JobRow) -> JobRow:
    """The row of a job that is submitted once more.

    Raises:
        RefusedError: it is another job under the same id.
    """
    if (old.photo_blake2b, old.photo_bytes) != (new.photo_blake2b, new.photo_bytes) or (
        old.preset,
        old.settings,
        old.edit,
    ) != (new.preset, new.settings, new.edit):
        raise RefusedError(
            "state",
            "Another photo or other settings were submitted under this "
            "job id before; use a new id.",
        )
    return replace(old, key=new.key)


def keys_of(row: JobRow, settings: ServiceSettings) -> tuple[str, ...]:
    """The keys of a job's result and of those with less and less of its last corrections.

    The first one is the job's own with this program, which may be newer than the job; the last one
    is the key of the photo without any corrections.

    Raises:
        CrowdGaussianError: the job's settings exist no more, or its corrections are damaged.
    """
    named = tuple(sorted(row.settings.items()))
    return _keys(row.photo_blake2b, row.preset, named, settings.pipeline, row.edit)


@lru_cache(KEPT)
def _keys(
    photo_blake2b: str,
    preset: str,
    settings: tuple[tuple[str, str], ...],
    pipeline: str,
    edit: str,
) -> tuple[str, ...]:
    """As keys_of; each step's key is made of the one before, so many steps take linear time."""
    keys = [result_key(photo_blake2b, configured(preset, dict(settings)), pipeline)]
    if edit:
        edits = SceneEdits.from_json(edit, "SUBMIT: edit")
        edits.to_json()  # refuses what is too long when it is written out
        for step in edits.steps:
            text = SceneEdits((step,)).to_json()
            keys.append(hash_bytes(f"{keys[-1]} {text}".encode()))
    return tuple(reversed(keys))


def _check_settings(message: Submit, settings: ServiceSettings) -> None:
    config = configured(message.preset, message.settings)
    local = [name for name in message.settings if is_local(config, name)]
    if local:
        raise RefusedError(
            "message",
            f"{local[0]} names files or programs of the server, which "
            "only its owner sets; leave it out.",
        )
    if config.people.max_people > settings.limits.people:
        raise RefusedError(
            "limit",
            f"This server takes up to {settings.limits.people} people; lower people.max_people.",
        )


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def plain_name(name: str) -> str:
    """The last part of a path, without control characters."""
    return _NO_NAME.sub("", re.split(r"[/\\]", name)[-1]).strip() or "photo"


# The size of a photo from its first bytes, without a decoder and with a bounded effort

_JPEG_SEGMENTS = 500  # before the frame header; Exif, colour profiles and previews come first
_TIFF_ENTRIES = 200
_FILL = 4096  # bytes between two segments of a JPEG; cameras write none, or one
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
        if marker == b"\xff\xff":
            filled = stream.read(_FILL).lstrip(b"\xff")
            if not filled:
                return None
            stream.seek(1 - len(filled), 1)
            marker = b"\xff" + filled[:1]
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
