# SPDX-License-Identifier: Apache-2.0
"""A SUBMIT checked field by field, before anything is stored."""

import re
import time
import uuid
from dataclasses import replace

from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.protocol.messages import Submit
from crowdgaussian_shared.scene_edit import SceneEdits

from ..config import Config, configured, is_local
from .result_key import result_key
from .settings import ServiceSettings
from .store import JobRow

_HASH = re.compile(r"[0-9a-f]{64}")
_NO_NAME = re.compile(r"[\x00-\x1f\x7f]")


class RefusedError(CrowdGaussianError):
    """A request that is refused.

    Attributes:
        code: as in the ERROR message.
    """

    def __init__(self, code: str, sentence: str) -> None:
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
        raise RefusedError("limit", f"A photo may have up to {largest >> 20} MiB and this one has "
                           f"{message.photo_bytes} bytes; make it smaller.")
    try:
        config = _config(message, settings)
        key = result_key(message.photo_blake2b, config, settings.pipeline, normal(message.edit))
    except RefusedError:
        raise
    except CrowdGaussianError as error:
        raise RefusedError("message", str(error)) from error
    now = time.time()
    return JobRow(
        job=message.job, owner=owner, state="uploading", key=key,
        photo_name=plain_name(message.photo_name), photo_bytes=message.photo_bytes,
        photo_blake2b=message.photo_blake2b, preset=message.preset, settings=message.settings,
        created=now, changed=now, edit=message.edit,
    )


def normal(edit: str) -> str:
    """The one text of these corrections; empty for none.

    Raises:
        CrowdGaussianError: they are not what they should be.
    """
    return SceneEdits.from_json(edit, "SUBMIT: edit").to_json() if edit else ""


def again(old: JobRow, new: JobRow) -> JobRow:
    """The row of a job that is submitted once more.

    Raises:
        RefusedError: it is another job under the same id.
    """
    if (old.photo_blake2b, old.photo_bytes) != (new.photo_blake2b, new.photo_bytes) or (
        old.preset, old.settings, old.edit) != (new.preset, new.settings, new.edit):
        raise RefusedError("state", "Another photo or other settings were submitted under this "
                           "job id before; use a new id.")
    return replace(old, key=new.key)


def current_key(row: JobRow, settings: ServiceSettings) -> str:
    """The key of a job's result with this program, which may be newer than the job.

    Raises:
        CrowdGaussianError: the job's settings exist no more.
    """
    return keys_of(row, settings)[0]


def keys_of(row: JobRow, settings: ServiceSettings) -> list[str]:
    """The keys of a job's result and of those with less and less of its last corrections.

    The last one is the key of the photo without any.

    Raises:
        CrowdGaussianError: the job's settings exist no more.
    """
    config = configured(row.preset, row.settings)
    texts = [""]
    if row.edit:
        edits = SceneEdits.from_json(row.edit)
        texts = [edits.first(count) for count in range(len(edits.steps), -1, -1)]
    return [result_key(row.photo_blake2b, config, settings.pipeline, text) for text in texts]


def _config(message: Submit, settings: ServiceSettings) -> Config:
    config = configured(message.preset, message.settings)
    local = [name for name in message.settings if is_local(config, name)]
    if local:
        raise RefusedError("message", f"{local[0]} names files or programs of the server, which "
                           "only its owner sets; leave it out.")
    if config.people.max_people > settings.limits.people:
        raise RefusedError("limit", f"This server takes up to {settings.limits.people} people; "
                           "lower people.max_people.")
    return config


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def plain_name(name: str) -> str:
    """The last part of a path, without control characters."""
    return _NO_NAME.sub("", re.split(r"[/\\]", name)[-1]).strip() or "photo"
