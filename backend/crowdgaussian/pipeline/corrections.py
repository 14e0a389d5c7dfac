# SPDX-License-Identifier: Apache-2.0
"""The job with a user's corrections: each step is brought in, then what it touches is built anew.

The steps of the figure are those of reconstruct.py, which hands them over.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from crowdgaussian_shared.errors import InputError
from crowdgaussian_shared.scene.edit import EDIT_KEY, SceneEdit, SceneEdits
from crowdgaussian_shared.scene.folder import SceneFolder
from crowdgaussian_shared.scene.schema import LEFT_OUT

from ..core.progress import Progress, Report
from ..people.types import Crowd
from ..segment.types import CrowdView, PersonMask
from .checkpoint import find_run, finish_avatars, no_mask, read_masks, save_masks
from .config import Job
from .edits import (
    Change,
    Finder,
    check_step,
    copy_scene,
    note_standing,
    own_photo,
    steps_in,
    stored_crowd,
    unfinished,
)
from .photo import Photo
from .refinement import waiting
from .stages import Stages


class Steps(Protocol):
    """The steps of a job that corrections take again; see reconstruct.Steps."""

    report: Report

    def all(self, settings: dict[str, Any]) -> SceneFolder: ...

    def load(self) -> Stages: ...

    def build(
        self, folder: SceneFolder, view: CrowdView, left: Sequence[int], among: Sequence[int]
    ) -> Iterator[int]: ...

    def refine(
        self, folder: SceneFolder, view: CrowdView, chosen: Iterable[int] | None = None
    ) -> None: ...


@dataclass(frozen=True)
class Corrections:
    """A job whose result is a scene with a user's corrections."""

    job: Job
    edits: SceneEdits
    photo: Photo
    steps: Steps

    def result(self, settings: dict[str, Any]) -> SceneFolder:
        """The corrected scene; people whom no step touches keep their files.

        Args:
            settings: of the job without its corrections, as scene.json has them.

        Raises:
            CrowdGaussianError: as reconstruct, or a step that does not fit the scene.
            Cancelled: by the report.
        """
        folder, at = self._open(settings)
        if at:
            self._build(folder, self.edits.steps[at - 1])
        for count, step in enumerate(self.edits.steps[at:], start=at + 1):
            check_step(folder, step)
            self._change(folder, step, self.edits.first(count)).bring_in(folder)
            self._build(folder, step)
        finish_avatars(folder)
        return folder

    def _open(self, plain: dict[str, Any]) -> tuple[SceneFolder, int]:
        """The folder to go on in, and how many steps are in it."""
        job = self.job
        settings = own_photo(plain, self.photo.digest, (job.base, job.out))
        folder = find_run(job.out, settings, job.overwrite, (EDIT_KEY,))
        if folder is not None and not folder.info.people:
            folder = None  # stopped while the base was copied
        base = _scene_at(job.base)
        if folder is None and base is not None:
            folder = copy_scene(base, job.out, job.photo_name, settings)
        elif folder is None or self._plain_is_unfinished(folder, base is not None):
            folder = self.steps.all(plain)
        at = steps_in(folder, self.edits)
        if at is None:
            raise InputError(
                f"{folder.path} holds other corrections; choose another folder or add --overwrite."
            )
        return folder, at

    def _plain_is_unfinished(self, folder: SceneFolder, copied: bool) -> bool:
        """Whether a scene that no step has changed yet was stopped; a copy is as its base was."""
        if steps_in(folder, self.edits) != 0:
            return False
        left = [] if copied else waiting(folder, self.job.config)
        return unfinished(folder) or bool(left)

    def _change(self, folder: SceneFolder, step: SceneEdit, text: str) -> Change:
        """A step made ready: nothing is changed yet."""
        crowd = stored_crowd(folder)
        gone = {i for i, p in enumerate(folder.info.people) if LEFT_OUT in p.flags}
        added, corrected, body = [], {}, None
        if step.boxes or step.corrected:
            finder = Finder(self.photo.pixels, self.job.config, self.steps.load())
            body = finder.stages.body
            added = finder.find(crowd, gone, step.boxes, self.steps.report)
            people = [*crowd.people, *(person for person, _ in added)]
            corrected = {
                index: finder.corrected(folder, crowd, people[index], index, edit)
                for index, edit in step.corrected.items()
            }
        return Change(step, text, corrected, added, body)

    def _build(self, folder: SceneFolder, step: SceneEdit) -> None:
        """Masks, avatars and refinement of those whom the step touches and who lack them."""
        touched = step.touched(len(folder.info.people) - len(step.boxes))
        left = [i for i in touched if folder.info.people[i].state != "done"]
        if left:
            crowd = stored_crowd(folder)
            view = CrowdView(self.photo.pixels, crowd, self._segment(folder, crowd, left))
            for index in self.steps.build(folder, view, left, left):
                note_standing(folder, index)
        if waiting(folder, self.job.config, touched):
            view = CrowdView(self.photo.pixels, stored_crowd(folder), read_masks(folder))
            self.steps.refine(folder, view, touched)

    def _segment(self, folder: SceneFolder, crowd: Crowd, left: Sequence[int]) -> list[PersonMask]:
        """Masks of everybody who is not left out; those who lack them are kept."""
        report = self.steps.report
        report(Progress("masks", 0.0, None, len(crowd.people)))
        there = [i for i, entry in enumerate(folder.info.people) if LEFT_OUT not in entry.flags]
        some = replace(
            crowd,
            people=tuple(crowd.people[i] for i in there),
            on_ground=tuple(crowd.on_ground[i] for i in there),
        )
        segmenter = self.steps.load().segment
        found = dict(zip(there, segmenter.segment(self.photo.pixels, some, report), strict=True))
        nobody = no_mask(crowd.camera.height, crowd.camera.width)
        masks = [found.get(index, nobody) for index in range(len(crowd.people))]
        save_masks(folder, masks, left)
        return masks


def _scene_at(place: Path | None) -> Path | None:
    return place if place is not None and SceneFolder.exists(place) else None
