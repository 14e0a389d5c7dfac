# SPDX-License-Identifier: Apache-2.0
"""A user's corrections in the scene folder: one step at a time, and each at one stroke.

`settings["edit"]` in scene.json is the text of the steps that a folder has. A step is made ready
first (people in boxes are found, corrected fits are written under names of their own); then one
writing of scene.json brings it all in. What is left to build follows from the people's states.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from crowdgaussian_shared.errors import InputError, SettingError, disk_error
from crowdgaussian_shared.formats.atomic import write_bytes
from crowdgaussian_shared.formats.npz import write_npz
from crowdgaussian_shared.scene.edit import EDIT_KEY, Box, PoseEdit, SceneEdit, SceneEdits
from crowdgaussian_shared.scene.folder import SCENE_FILE, SceneFolder
from crowdgaussian_shared.scene.json import scene_to_json
from crowdgaussian_shared.scene.schema import (
    CORRECTED,
    LEFT_OUT,
    PersonEntry,
    SceneInfo,
    hash_bytes,
)

from ..body.model import BodyModel
from ..core.progress import Report, within
from ..people.crowd import find_same_person, into_scene, project_landmarks, rest_pelvis
from ..people.types import Crowd, Person
from .checkpoint import PHOTO_KEY, clear, load_crowd, person_entry, to_arrays
from .config import Config
from .review import still_true
from .stages import Stages

LEFT_OUT_WORDS = "Left out on request."
NO_BOX_SUPPORT = ("command", "results")  # people stages that cannot be told where to look
_LEAST = 8  # pixels of a box inside the photo, each way
_STANDING = 0.05  # metres between soles and floor


def steps_in(folder: SceneFolder, edits: SceneEdits) -> int | None:
    """How many of these steps a folder has; None when it has others."""
    stored = folder.info.settings.get(EDIT_KEY, "")
    counts = range(len(edits.steps), -1, -1)
    return next((count for count in counts if edits.first(count) == stored), None)


def unfinished(folder: SceneFolder) -> bool:
    """Whether somebody is neither done nor given up."""
    return any(person.state not in ("done", "failed") for person in folder.info.people)


def own_photo(
    settings: dict[str, Any], digest: str, scenes: Sequence[Path | None]
) -> dict[str, Any]:
    """The settings with the user's photo where its copy in one of the scenes was given."""
    for scene in scenes:
        if scene is not None and SceneFolder.exists(scene):
            info = SceneFolder.open(scene).info
            if info.photo.blake2b == digest:
                return {**settings, PHOTO_KEY: info.settings.get(PHOTO_KEY)}
    return settings


def copy_scene(base: Path, out: Path, name: str, settings: dict[str, Any]) -> SceneFolder:
    """A copy of a scene, valid at every moment: without people until it is whole.

    Args:
        base: a finished scene folder with the fits of its people.
        out: the new folder.
        name: of the photo; empty keeps the one it has.
        settings: of the run; those of the base must be the same.

    Raises:
        CrowdGaussianError: base is no such scene, or there is no room.
    """
    folder = SceneFolder.open(base)
    info = folder.info
    if unfinished(folder):
        raise InputError(f"{base} is not finished; reconstruct its photo again first.")
    settings = {**settings, EDIT_KEY: info.settings.get(EDIT_KEY, "")}
    settings = {key: value for key, value in settings.items() if key != EDIT_KEY or value}
    info = replace(info, photo=replace(info.photo, name=name or info.photo.name), settings=settings)
    files = [*info.previews, *(file for p in info.people for file in p.files.values())]
    clear(out)
    _copy(folder, out, [info.photo.file])
    write_bytes(out / SCENE_FILE, scene_to_json(replace(info, people=(), previews=())))
    _copy(folder, out, files)
    write_bytes(out / SCENE_FILE, scene_to_json(info))
    return SceneFolder.open(out)


def _copy(folder: SceneFolder, out: Path, files: list[str]) -> None:
    try:
        for file in files:
            (out / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder.resolve(file), out / file)
    except OSError as error:
        raise disk_error(
            error,
            f"{folder.path} could not be copied ({error.strerror or error}); free some space, or "
            "reconstruct its photo again.",
        ) from error


def stored_crowd(folder: SceneFolder) -> Crowd:
    """Everybody's fit.

    Raises:
        InputError: the folder does not hold them.
    """
    crowd = load_crowd(folder)
    if crowd is None:
        raise InputError(
            f"{folder.path} does not hold the fits of its people, as no folder does that came "
            "from a server; correct it there, or reconstruct the photo here."
        )
    return crowd


def check_step(folder: SceneFolder, step: SceneEdit) -> None:
    """Refuses what a scene does not have.

    Raises:
        InputError: a person or a place in the photo that does not exist, or nobody left.
    """
    people, photo = folder.info.people, folder.info.photo
    count = len(people) + len(step.boxes)
    for index in (*step.corrected, *step.excluded, *step.included):
        if index >= count:
            raise InputError(
                f"There is no person {index} to correct; the scene has {len(people)} people."
            )
    for box in step.boxes:
        wide = min(box[2], photo.width) - max(box[0], 0)
        if min(wide, min(box[3], photo.height) - max(box[1], 0)) < _LEAST:
            raise InputError(
                f"The box {','.join(f'{v:g}' for v in box)} has less than {_LEAST} pixels inside "
                f"the photo, which is {photo.width} x {photo.height}; draw it around a person."
            )
    gone = {i for i, person in enumerate(people) if LEFT_OUT in person.flags}
    if len((gone | {*step.excluded}) - {*step.touched(len(people))}) >= count:
        raise InputError("Nobody would be left in the scene; keep at least one person.")


@dataclass(frozen=True)
class Finder:
    """What finding people in boxes needs."""

    photo: np.ndarray  # [H, W, 3] uint8 sRGB
    config: Config
    stages: Stages

    def find(
        self, crowd: Crowd, gone: set[int], boxes: Sequence[Box], report: Report
    ) -> list[tuple[Person, bool]]:
        """Who is in each box, found alone, and whether they stand on the floor.

        Args:
            crowd: the scene they come into.
            gone: those of it who are left out.
            boxes: pixels of the photo.
            report: called between the steps.

        Raises:
            CrowdGaussianError: nobody, or somebody who is in the crowd already, is in a box, or
                the people stage takes no boxes.
        """
        name = self.config.stages.people
        if boxes and name in NO_BOX_SUPPORT:
            raise SettingError(
                f"People stage '{name}' cannot look into boxes; add the person to the results of "
                "your program, or reconstruct with another people stage."
            )
        found = []
        for number, box in enumerate(boxes):
            part = within(report, number / len(boxes), (number + 1) / len(boxes))
            text = ",".join(f"{value:g}" for value in box)
            people = replace(self.config.people, boxes=text)
            assert self.stages.people_with is not None  # build_stages gives it
            stage = self.stages.people_with(replace(self.config, people=people))
            alone = stage.estimate(self.photo, float(crowd.camera.K[0, 0]), part)
            known = [(i, p) for i, p in enumerate(crowd.people) if i not in gone]
            twin = find_same_person(alone.people[0], known)
            if twin is not None:
                raise InputError(
                    f"The person in the box {text} is in the crowd already, as person {twin}; "
                    "draw the box around somebody else."
                )
            found.append(into_scene(alone, crowd, self.stages.body))
        return found

    def corrected(
        self, folder: SceneFolder, crowd: Crowd, person: Person, index: int, edit: PoseEdit
    ) -> Person:
        """The fit with a user's pose, and with the shape that the avatar has now.

        Args:
            folder: the scene.
            crowd: its people.
            person: the fit.
            index: of the person.
            edit: pose and place, for the avatar that the scene has.
        """
        transl = np.asarray(edit.transl, np.float64)
        people = folder.info.people
        if index < len(people) and "avatar" in people[index].files:
            avatar = folder.read_avatar(index)
            if folder.info.body_model == self.config.stages.body:
                person = person.with_params(betas=avatar.betas, scale=avatar.scale)
            else:  # only the pelvis means the same in both bodies
                transl = (
                    transl
                    + avatar.rest_joints[0]
                    - rest_pelvis(self.stages.body, person.betas, person.scale)
                )
        person = person.with_params(
            pose=edit.pose.astype(np.float32), transl=transl.astype(np.float32)
        )
        person = replace(person, flags=_with(person.flags, CORRECTED))
        return project_landmarks(person, crowd, self.stages.body)


@dataclass(frozen=True)
class Change:
    """A step made ready: what scene.json will say about whom."""

    step: SceneEdit
    text: str  # of all steps with this one
    corrected: dict[int, Person]
    added: list[tuple[Person, bool]]
    body: BodyModel | None = None  # of the fits, when somebody is corrected or added

    def bring_in(self, folder: SceneFolder) -> None:
        """Writes the fits, then scene.json, once."""
        people = list(folder.info.people)
        first = len(people)
        for index, (person, standing) in enumerate(self.added, start=first):
            assert self.body is not None
            entry = person_entry(index, person, standing, self.body)
            people.append(replace(entry, state="fitted"))
        fits = {first + k: person for k, (person, _) in enumerate(self.added)} | self.corrected
        for index in {*self.step.touched(first), *fits}:
            files = {"fit": people[index].files.get("fit", "")}
            if index in fits:
                files = {"fit": self._write_fit(folder, index, fits[index])}
            people[index] = _queued(people[index], files, index in self.corrected)
        for index in self.step.excluded:
            people[index] = _left_out(people[index])
        settings = {**folder.info.settings, EDIT_KEY: self.text}
        old = folder.info
        warnings = still_true(old.warnings, (person for person, _ in self.added))
        folder.update(people=tuple(people), settings=settings, warnings=warnings)
        _remove_unnamed(folder, old)

    def _write_fit(self, folder: SceneFolder, index: int, person: Person) -> str:
        digest = hash_bytes(self.text.encode())
        name = f"people/{index:03d}/fit-{digest[:12]}.npz"
        write_npz(folder.resolve(name), to_arrays(person))
        return name


def _queued(entry: PersonEntry, files: dict[str, str], corrected: bool) -> PersonEntry:
    flags = tuple(flag for flag in entry.flags if flag != LEFT_OUT)
    flags = _with(flags, CORRECTED) if corrected else flags
    return replace(
        entry,
        state="fitted",
        error="",
        files=files,
        flags=flags,
        gaussians=0,
        occlusion=0.0,
        quality={} if corrected else entry.quality,
        refinement="",
        refinement_note="",
        warnings=() if corrected else entry.warnings,
    )


def _left_out(entry: PersonEntry) -> PersonEntry:
    files = {kind: file for kind, file in entry.files.items() if kind == "fit"}
    return replace(
        entry,
        state="failed",
        error=LEFT_OUT_WORDS,
        files=files,
        flags=_with(entry.flags, LEFT_OUT),
        gaussians=0,
        quality={},
        refinement="",
        refinement_note="",
    )


def _with(flags: tuple[str, ...], more: str) -> tuple[str, ...]:
    return (*(flag for flag in flags if flag != more), more)


def _remove_unnamed(folder: SceneFolder, old: SceneInfo) -> None:
    named = {file for person in folder.info.people for file in person.files.values()}
    for person in old.people:
        for file in {*person.files.values()} - named:
            folder.resolve(file).unlink(missing_ok=True)


def note_standing(folder: SceneFolder, index: int) -> None:
    """Where a user has put somebody decides whether they stand on the floor."""
    entry = folder.info.people[index]
    if CORRECTED in entry.flags and "feet" in entry.quality:
        folder.update_person(index, on_ground=abs(entry.quality["feet"]) < _STANDING)
