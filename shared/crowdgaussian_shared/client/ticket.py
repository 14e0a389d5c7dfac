# SPDX-License-Identifier: Apache-2.0
"""The ticket of a job, kept in its folder, so that a client that was killed can go on.

OUT/.wire/job.json is the ticket and OUT/.wire/*.part are files on their way.
"""

import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from ..errors import CrowdGaussianError, InputError, MissingFileError
from ..formats.atomic import read_bytes, write_bytes
from ..formats.json_fields import parse_json
from ..protocol.codec import from_field
from ..protocol.messages import EditText, Hash, JobId, Name, Request, Size
from ..scene.folder import SCENE_FILE, SceneFolder
from ..scene.schema import hash_file

WIRE_FOLDER = ".wire"
TICKET_FILE = "job.json"
_LIMIT = 1 << 20  # bytes
_SCENE_FILES = (
    SCENE_FILE,
    "photo.jpg",
    "people/*/*.npz",
    "people/*/*.ply",
    "people/*/*.png",
    "previews/*.png",
    f"{WIRE_FOLDER}/*.part",
    f"{WIRE_FOLDER}/{TICKET_FILE}",
)


@dataclass(frozen=True)
class JobRequest:
    """What a user wants."""

    photo: Path
    folder: Path  # where the scene goes
    preset: str = "open"
    settings: Mapping[str, str] = field(default_factory=dict)
    overwrite: bool = False  # replace another scene in the folder
    edit: str = ""  # corrections, as SceneEdits.to_json writes them


@dataclass(frozen=True)
class Ticket:
    """What has to be known to go on with a job."""

    job: JobId
    server: Name
    photo: str  # full path
    photo_name: Name
    photo_bytes: Size
    photo_blake2b: Hash
    preset: Name
    settings: dict[str, str]
    submitted: bool = False  # the server has said that it knows the job
    last_seq: Request = 0  # every file announced up to here is in the folder
    state: Name = ""  # the last one known
    edit: EditText = ""


def open_ticket(request: JobRequest, server: str) -> Ticket:
    """The ticket in the folder when it is for the very same job, or a new one.

    Raises:
        CrowdGaussianError: the photo cannot be read, or the folder holds something else.
    """
    ticket = _new_ticket(request, server)
    folder = Path(request.folder)
    _check_folder(folder, Path(ticket.photo))
    old = None if request.overwrite else read_ticket(folder)
    if old is not None and _same_work(old, ticket):
        old = replace(old, server=server, photo=ticket.photo)
        save_ticket(folder, old)
        return old
    if folder.is_dir() and any(path.name != WIRE_FOLDER for path in folder.iterdir()):
        ours = SceneFolder.exists(folder) or read_ticket(folder) is not None
        if not (request.overwrite and ours):
            raise InputError(
                f"{folder} holds something else; choose another folder"
                + (", or overwrite the scene in it." if ours else ".")
            )
    _clear(folder)
    save_ticket(folder, ticket)
    return ticket


def read_ticket(folder: str | Path) -> Ticket | None:
    """The ticket in a folder; None without a readable one."""
    path = Path(folder) / WIRE_FOLDER / TICKET_FILE
    if not path.is_file():
        return None
    try:
        return from_field(Ticket, parse_json(read_bytes(path, _LIMIT), str(path)))
    except CrowdGaussianError:
        return None


def save_ticket(folder: str | Path, ticket: Ticket) -> None:
    """Writes the ticket into its folder."""
    path = Path(folder) / WIRE_FOLDER / TICKET_FILE
    write_bytes(path, json.dumps(asdict(ticket), indent=1).encode())


def _new_ticket(request: JobRequest, server: str) -> Ticket:
    photo = Path(request.photo).absolute()
    if not photo.is_file():
        raise MissingFileError(f"{photo} does not exist; check the path of the photo.")
    try:
        size, digest = photo.stat().st_size, hash_file(photo)
    except OSError as error:
        raise InputError(f"{photo} cannot be read ({error.strerror or error}).") from error
    settings = {str(name): str(value) for name, value in request.settings.items()}
    name = photo.name.encode(errors="replace").decode()[-200:]  # it may hold bytes that are no text
    return Ticket(
        str(uuid.uuid4()),
        server,
        str(photo),
        name,
        size,
        digest,
        request.preset,
        settings,
        edit=request.edit,
    )


def _check_folder(folder: Path, photo: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; give the name of a folder.")
    if photo.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{photo} lies in the scene folder itself; choose another folder.")


def _same_work(old: Ticket, new: Ticket) -> bool:
    return (old.photo_blake2b, old.preset, old.settings, old.edit) == (
        new.photo_blake2b,
        new.preset,
        new.settings,
        new.edit,
    )


def _clear(folder: Path) -> None:
    """Removes an older scene and nothing else; scene.json goes first."""
    for pattern in _SCENE_FILES:
        for path in folder.glob(pattern):
            if path.is_file():
                path.unlink()
