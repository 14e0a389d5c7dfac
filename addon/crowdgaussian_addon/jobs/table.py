# SPDX-License-Identifier: GPL-3.0-or-later
"""The jobs of the panel: one row each, kept as JSON so that Blender may be closed meanwhile."""

import json
import logging
import os
import shutil
from dataclasses import dataclass, field, fields
from pathlib import Path

from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.formats.atomic import read_bytes, write_bytes
from crowdgaussian_shared.formats.json_fields import parse_json
from crowdgaussian_shared.protocol.codec import from_field
from crowdgaussian_shared.protocol.messages import EditText
from crowdgaussian_shared.scene.folder import SceneFolder
from crowdgaussian_shared.scene.schema import LEFT_OUT, PersonEntry, SceneInfo

log = logging.getLogger(__name__)
TABLE_FILE = "jobs.json"
_LIMIT = 8 << 20  # bytes
_STAGES = {"people": (0.0, 0.12), "masks": (0.12, 0.18), "avatars": (0.18, 1.0)}  # of the bar
_WITH_REFINEMENT = _STAGES | {"avatars": (0.18, 0.6), "refine": (0.6, 1.0)}
_STAGE_WORDS = {
    "people": "Finding people",
    "masks": "Cutting out people",
    "avatars": "Building",
    "refine": "Refining the crowd",
}


@dataclass
class SavedJob:
    """What a job's row keeps when Blender is closed."""

    job: str  # id on the server
    photo: str
    folder: str  # scene folder
    server: str  # which server works on it
    preset: str = "open"
    settings: dict[str, str] = field(default_factory=dict)
    blend_file: str = ""  # the file that its people come into by themselves
    imported: tuple[int, ...] = ()  # people, as in scene.json
    renewed: tuple[int, ...] = ()  # those of them who came in, or were renewed, refined
    state: str = "submitting"  # as in JobUpdate, or "paused"
    people_done: int = 0
    people_failed: int = 0
    people_found: int = 0
    people_refined: int = 0
    error: str = ""  # why it failed, and what to do
    finished: bool = False
    edit: EditText = ""  # corrections, as in SUBMIT
    what: str = ""  # they are, in words
    source: str = ""  # scene folder of the crowd that they correct
    brought_in: bool = False  # the crowd shows them


@dataclass
class JobRow(SavedJob):
    """One photo on its way, as the panel shows it."""

    stage: str = ""
    fraction: float = 0.0  # of the stage
    reached: float = 0.0  # of the bar, which does not go back when a job takes a second round
    refines: bool = False  # the job has the stage "refine"
    person: int | None = None  # at work, from 0
    position: int = 0  # in the queue
    sent: float = 0.0  # share of the photo
    files_missing: int = 0
    file_token: str = ""  # which load of a .blend file it belongs to
    trouble: str = ""  # what it waits for, and what to do
    obstacle: str = ""  # what keeps finished people out of the scene at this moment
    note: str = ""  # what else is worth knowing
    unrefined: str = ""  # who keeps the first avatar, and why
    cancelling: bool = False

    @property
    def title(self) -> str:
        """The photo's file name, and what is corrected or which time it is reconstructed."""
        name, folder = Path(self.photo).name, Path(self.folder).name
        if self.what:
            return f"{name}: {self.what}"
        number = folder.removeprefix(f"{Path(self.photo).stem}-")  # see reconstruct.new_folder
        if number != folder and number.isdecimal():
            name = f"{name} ({number})"
        return name

    @property
    def active(self) -> bool:
        """Whether something still happens to it by itself."""
        return not self.finished

    @property
    def progress(self) -> float:
        """Share of the whole job, 0..1."""
        if self.state in ("submitting", "uploading", "busy", "queued"):
            return 0.0
        if self.state == "done":
            return 1.0
        stages = _WITH_REFINEMENT if self.refines or self.stage == "refine" else _STAGES
        low, high = stages.get(self.stage, (0.0, 0.0))
        return max(self.reached, low + (high - low) * min(max(self.fraction, 0.0), 1.0))

    @property
    def headline(self) -> str:
        """Where the job is, in a few words."""
        if self.cancelling and self.active:
            return "Stopping"
        if self.state == "uploading":
            return f"Sending the photo, {100 * self.sent:.0f} %"
        if self.state == "queued":
            return f"Waiting, place {self.position}" if self.position else "Waiting"
        if self.state == "running":
            return self._running_words()
        if self.state == "done" and self.active:
            return f"Fetching {self.files_missing} files"
        return {
            "submitting": "Starting",
            "busy": "The server is busy",
            "paused": "Paused",
            "done": "Done",
            "failed": "Failed",
            "cancelled": "Cancelled",
        }[self.state]

    def count_people(self) -> None:
        """Reads from the scene folder who is done; leaves the numbers when there is no scene."""
        try:
            info: SceneInfo = SceneFolder.open(self.folder).info
        except CrowdGaussianError:
            return
        people = [person for person in info.people if LEFT_OUT not in person.flags]
        states = [person.state for person in people]
        self.people_found = len(states)
        self.people_done, self.people_failed = states.count("done"), states.count("failed")
        self.people_refined = sum(person.refinement == "refined" for person in people)
        self.refines = info.settings.get("stages.refiner", "none") != "none"
        self.unrefined = _unrefined_words(info.people)

    def _running_words(self) -> str:
        words = _STAGE_WORDS.get(self.stage, self.stage.capitalize() or "Starting")
        if self.stage == "avatars" and self.person is not None and self.people_found:
            return f"{words} person {self.person + 1} of {self.people_found}"
        return words


def _unrefined_words(people: tuple[PersonEntry, ...]) -> str:
    """Why some keep their first avatars; one reason stands for all of its kind."""
    notes: dict[str, list[str]] = {}
    for index, person in enumerate(people):
        if person.refinement == "failed":
            notes.setdefault(person.refinement_note, []).append(str(index))
    words = [
        f"Not refined: {'people' if len(who) > 1 else 'person'} {', '.join(who)}. {note}"
        for note, who in notes.items()
    ]
    kept = sum(person.refinement == "kept" for person in people)
    if kept:
        words.append(f"{kept} {'match' if kept > 1 else 'matches'} the photo better unrefined.")
    return " ".join(words)


class JobTable:
    """All rows, newest first, in a file.

    Args:
        path: of the JSON file; made when first saved.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[JobRow] = []

    def load(self) -> None:
        """Reads the file; a missing or damaged one is an empty table."""
        if not self.path.is_file():
            return
        try:
            data = parse_json(read_bytes(self.path, _LIMIT), str(self.path))
            saved = [from_field(SavedJob, entry) for entry in data.child("jobs").items(10_000)]
        except CrowdGaussianError:
            return
        self.rows = [JobRow(**vars(job)) for job in saved]
        for row in self.rows:
            if not row.finished:
                row.state = "paused"
                row.trouble = "Blender was closed meanwhile; press Continue."

    def save(self) -> None:
        """Writes the file.

        Raises:
            ResourceError: the cache folder cannot be written.
        """
        kept = [f.name for f in fields(SavedJob)]
        jobs = [{name: getattr(row, name) for name in kept} for row in self.rows]
        write_bytes(self.path, json.dumps({"jobs": jobs}, indent=1).encode())

    def get(self, job: str) -> JobRow | None:
        """The row of a job."""
        return next((row for row in self.rows if row.job == job), None)

    def add(self, row: JobRow) -> None:
        """Puts a row on top; an older one of the same job goes."""
        self.rows = [row, *(other for other in self.rows if other.job != row.job)]

    def remove(self, job: str) -> None:
        """Takes a row off; the files stay."""
        self.rows = [row for row in self.rows if row.job != job]


# What the panel's choices mean as settings of the backend


@dataclass(frozen=True)
class Quality:
    """One choice: fewer or more Gaussians and steps."""

    name: str
    title: str
    hint: str
    settings: dict[str, str]


QUALITIES = (
    Quality(
        "DRAFT",
        "Draft",
        "Soft and quick: 12,000 splats per person",
        {"avatar.gaussians": "12000", "avatar.colour_steps": "30"},
    ),
    Quality("NORMAL", "Normal", "The backend's own settings: 32,000 splats per person", {}),
    Quality(
        "HIGH",
        "High",
        "Sharper and slower: 80,000 splats per person",
        {"avatar.gaussians": "80000", "avatar.colour_steps": "120"},
    ),
)


REFINEMENTS = (  # name, title, hint
    ("PRESET", "As the Preset", "Whatever the preset does"),
    ("OFF", "Off", "People stay as they are built; the quickest"),
    (
        "SMALL",
        "Open",
        "The small network that comes with the backend: sharper people from all "
        "sides, at about 20 more seconds each on a CPU",
    ),
    (
        "TURBO",
        "SD-Turbo",
        "The paper's diffusion network, where the server has its weights and a "
        "GPU; its licence limits commercial use",
    ),
)


def settings_for(quality: str, most_people: int = 0, refinement: str = "PRESET") -> dict[str, str]:
    """The backend's settings.

    Args:
        quality: a name of QUALITIES.
        most_people: 0 for no limit of ours.
        refinement: a name of REFINEMENTS.
    """
    chosen = next(q for q in QUALITIES if q.name == quality)
    people = {"people.max_people": str(most_people)} if most_people else {}
    stage = {"OFF": "none", "SMALL": "small", "TURBO": "turbo"}.get(refinement)
    return {**chosen.settings, **people, **({"stages.refiner": stage} if stage else {})}


def take_files(source: Path, folder: Path) -> None:
    """Links, or copies, the files of a scene to where its correction goes, except scene.json."""
    files = [p for pattern in ("photo.*", "people/*/*", "previews/*") for p in source.glob(pattern)]
    for file in files:
        target = folder / file.relative_to(source)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(file, target)
            except OSError:  # another disk, or one without links
                shutil.copyfile(file, target)
        except OSError as error:
            log.info("%s is fetched instead (%s)", target, error)
