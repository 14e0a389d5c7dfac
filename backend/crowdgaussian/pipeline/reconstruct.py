# SPDX-License-Identifier: Apache-2.0
"""The main job, as in the paper's Figure 2: photo -> people -> masks -> avatars -> refined ones."""

import io
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from crowdgaussian_shared.errors import Cancelled, CrowdGaussianError
from crowdgaussian_shared.geometry.avatar import Avatar
from crowdgaussian_shared.geometry.skinning import pose_body
from crowdgaussian_shared.scene.edit import EDIT_KEY, SceneEdit, SceneEdits
from crowdgaussian_shared.scene.folder import SceneFolder
from crowdgaussian_shared.scene.schema import LEFT_OUT, PersonEntry, PhotoInfo, SceneInfo
from PIL import Image

from .. import __version__
from ..avatar.types import CrowdBuilder
from ..core.progress import Progress, Report, silent
from ..people.types import Crowd
from ..refiner.weights import STAGE as REFINER_STAGE
from ..segment.types import PersonMask
from . import checkpoint, edits, refinement
from .config import Config
from .ground_preview import GROUND_PREVIEW, ground_view
from .photo import Photo, load_photo, parse_focal
from .stages import Stages, build_stages, files_for

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One photo to reconstruct."""

    photo: Path
    out: Path
    config: Config
    overwrite: bool = False
    photo_name: str = ""  # for display; empty: the name of the file
    edits: SceneEdits | None = None  # corrections of the result
    base: Path | None = None  # a scene folder with some of them or none, to start from


def reconstruct(
    job: Job, report: Report = silent, make_stages: Callable[[Config], Stages] = build_stages
) -> SceneFolder:
    """Runs the whole job, or the rest of it where an earlier run stopped.

    The folder is valid at every moment; a person who fails is marked and does not stop the others.

    Args:
        job: what to do.
        report: called between steps; raises Cancelled to stop.
        make_stages: loads the models; called only when something is left to do.

    With edits, the result is that of the photo with each step applied; see edits.py.

    Raises:
        CrowdGaussianError: bad input, nobody in the photo, nobody could be reconstructed, or a
            folder that cannot be used or written.
        Cancelled: by `report`.
    """
    photo = load_photo(job.photo, job.config.photo.max_side)
    settings = {**job.config.flat(), checkpoint.PHOTO_KEY: photo.digest}
    if job.edits is not None:
        return _Edited(job, photo, report, make_stages).result(settings)
    folder = checkpoint.find_run(job.out, settings, job.overwrite)
    if folder is not None and _finished(folder, job.config):
        return folder
    run = _Run(job, photo, make_stages(job.config), report)

    crowd = folder and checkpoint.load_crowd(folder)
    if crowd is None:
        folder, crowd = run.find_people(settings)
    masks = checkpoint.load_masks(folder)
    if masks is None:
        masks = run.cut_masks(folder, crowd)
    left = [i for i, person in enumerate(folder.info.people) if person.state != "done"]
    if isinstance(run.stages.avatar, CrowdBuilder):
        run.stages.avatar.expect(left)
    for index in left:
        run.build_avatar(folder, crowd, masks, index)
    _finish(folder)
    run.refine(folder, crowd)
    return folder


def _finished(folder: SceneFolder, config: Config) -> bool:
    people = folder.info.people
    built = bool(people) and all(p.state == "done" for p in people)
    return built and not refinement.waiting(folder, config)


def _finish(folder: SceneFolder) -> None:
    """The shared floor as it came out, and whether anybody is there at all."""
    people = folder.info.people
    feet = [p.quality["feet"] for p in people if p.on_ground and "feet" in p.quality]
    folder.update(ground=replace(folder.info.ground, spread=max(feet) - min(feet) if feet else 0.0))
    if all(person.state == "failed" for person in people):
        raise CrowdGaussianError(
            f"Nobody could be reconstructed; the first reason: {people[0].error}"
        )


@dataclass(frozen=True)
class _Run:
    """The steps of one job, with what they share."""

    job: Job
    photo: Photo
    stages: Stages
    report: Report

    def find_people(self, settings: dict) -> tuple[SceneFolder, Crowd]:
        """Nothing is written before somebody is found."""
        started = time.perf_counter()
        self.report(Progress("people", 0.0))
        focal, source = self._focal()
        crowd = self.stages.people.estimate(self.photo.pixels, focal, self.report)
        if focal is not None:
            crowd = replace(crowd, focal_source=source)
        if not crowd.people:
            raise CrowdGaussianError(
                f"No person was found in {self.job.photo}; give a photo that shows people whole "
                "and at least about 60 pixels tall."
            )
        self.report(Progress("people", 1.0, None, len(crowd.people)))
        folder = self._start_folder(crowd, settings)
        folder.add_timing("people", time.perf_counter() - started)
        return folder, crowd

    def _focal(self) -> tuple[float | None, str]:
        text = self.job.config.photo.focal
        if text:
            return parse_focal(text, *self.photo.file_size) * self.photo.reduction, "option"
        return self.photo.focal_px, "exif" if self.photo.focal_px else "default"

    def _start_folder(self, crowd: Crowd, settings: dict) -> SceneFolder:
        models = tuple(
            file.provenance() for file in files_for(self.job.config) if file.stage != REFINER_STAGE
        )  # named when somebody is refined
        checkpoint.clear(self.job.out)
        entries = tuple(
            PersonEntry(
                flags=person.flags,
                box=tuple(float(v) for v in person.box),
                score=float(person.score),
                on_ground=bool(ground),
                quality={"reprojection_px": float(person.reprojection_px)},
            )
            for person, ground in zip(crowd.people, crowd.on_ground, strict=True)
        )
        info = SceneInfo(
            photo=PhotoInfo(
                "", self.photo.width, self.photo.height, self.job.photo_name or self.photo.path.name
            ),
            camera=checkpoint.camera_info(crowd),
            ground=checkpoint.ground_info(crowd),
            body_model=getattr(self.stages.avatar, "body_name", self.job.config.stages.body),
            preset=self.job.config.preset,
            people=entries,
            models=models,
            settings=settings,
            writer=f"crowdgaussian {__version__}",
        )
        folder = SceneFolder.create(
            self.job.out, _encoded(Image.fromarray(self.photo.pixels), "JPEG"), ".jpg", info
        )
        checkpoint.save_crowd(folder, crowd)
        floor = Image.fromarray(ground_view(self.photo.pixels, crowd))
        folder.write_preview(GROUND_PREVIEW, _encoded(floor, "PNG"))
        return folder

    def cut_masks(self, folder: SceneFolder, crowd: Crowd) -> list[PersonMask]:
        started = time.perf_counter()
        self.report(Progress("masks", 0.0, None, len(crowd.people)))
        masks = self.stages.segment.segment(self.photo.pixels, crowd, self.report)
        checkpoint.save_masks(folder, masks)
        folder.add_timing("masks", time.perf_counter() - started)
        return masks

    def build_avatar(
        self, folder: SceneFolder, crowd: Crowd, masks: list[PersonMask], index: int
    ) -> None:
        """One person; whatever goes wrong with the fit is that person's alone."""
        started = time.perf_counter()
        report = _share(self.report, index, len(crowd.people))
        report(Progress("avatars", 0.0))
        with _failure_is_theirs(folder, index):
            avatar = self.stages.avatar.reconstruct(self.photo.pixels, crowd, masks, index, report)
            fitted = time.perf_counter()
            quality = self.stages.measure(avatar, self.photo.pixels, crowd, masks, index)
            quality["feet"] = _feet_height(avatar)
            refinement.forget(folder, index)
            folder.write_avatar(index, avatar)
            folder.write_splats(index)
            seconds = {"avatar": fitted - started, "measure": time.perf_counter() - fitted}
            folder.add_person_timings(index, seconds)
            folder.update_person(index, state="done", error="", quality=quality)
        spent = [
            steps.get(step, 0.0)
            for steps in folder.timings.people.values()
            for step in ("avatar", "measure")
        ]
        folder.add_timing("avatars", sum(spent))
        report(Progress("avatars", 1.0))

    def refine(
        self, folder: SceneFolder, crowd: Crowd, chosen: Iterable[int] | None = None
    ) -> None:
        """Everybody who waits for it, of those chosen; refining.py says what is kept when."""
        refinement.Refining(
            folder, self.photo.pixels, crowd, self.job.config, self.stages, self.report
        ).run(chosen)


@dataclass
class _Edited:
    """A result with a user's corrections."""

    job: Job
    photo: Photo
    report: Report
    make_stages: Callable[[Config], Stages]
    stages: Stages | None = None

    def result(self, settings: dict) -> SceneFolder:
        """The corrected scene; people whom no step touches keep their files."""
        folder, at = self._open(settings)
        steps = self.job.edits.steps
        if at:
            self._build(folder, steps[at - 1])
        for count, step in enumerate(steps[at:], start=at + 1):
            edits.check_step(folder, step)
            self._change(folder, step, self.job.edits.first(count)).bring_in(folder)
            self._build(folder, step)
        _finish(folder)
        return folder

    def _open(self, settings: dict) -> tuple[SceneFolder, int]:
        """The folder to go on in, and how many steps are in it."""
        job = self.job
        settings = edits.own_photo(settings, self.photo.digest, (job.base, job.out))
        folder = checkpoint.find_run(job.out, settings, job.overwrite, (EDIT_KEY,))
        if folder is not None and not folder.info.people:
            folder = None  # stopped while the base was copied
        based = job.base is not None and SceneFolder.exists(job.base)
        if folder is None and based:
            folder = edits.copy_scene(job.base, job.out, job.photo_name, settings)
        elif folder is None or self._plain_is_unfinished(folder, based):
            plain = replace(job, edits=None, base=None)
            folder = reconstruct(plain, self.report, self.make_stages)
        at = edits.steps_in(folder, job.edits)
        if at is None:
            raise CrowdGaussianError(
                f"{folder.path} holds other corrections; choose another folder or add --overwrite."
            )
        return folder, at

    def _plain_is_unfinished(self, folder: SceneFolder, copied: bool) -> bool:
        """Whether a scene that no step has changed yet was stopped; a copy is as its base was."""
        if edits.steps_in(folder, self.job.edits) != 0:
            return False
        waiting = not copied and refinement.waiting(folder, self.job.config)
        return edits.unfinished(folder) or bool(waiting)

    def _run(self) -> _Run:
        if self.stages is None:
            self.stages = self.make_stages(self.job.config)
        return _Run(self.job, self.photo, self.stages, self.report)

    def _change(self, folder: SceneFolder, step: SceneEdit, text: str) -> edits.Change:
        """A step made ready: nothing is changed yet."""
        crowd = edits.stored_crowd(folder)
        gone = {i for i, p in enumerate(folder.info.people) if LEFT_OUT in p.flags}
        added, corrected = [], {}
        if step.boxes or step.corrected:
            stages = self._run().stages
            finder = edits.Finder(self.photo.pixels, self.job.config, stages)
            added = finder.find(crowd, gone, step.boxes, self.report)
            people = [*crowd.people, *(person for person, _ in added)]
            corrected = {
                index: finder.corrected(folder, crowd, people[index], index, edit)
                for index, edit in step.corrected.items()
            }
        return edits.Change(step, text, corrected, added)

    def _build(self, folder: SceneFolder, step: SceneEdit) -> None:
        """Masks, avatars and refinement of those whom the step touches and who lack them."""
        touched = step.touched(len(folder.info.people) - len(step.boxes))
        left = [i for i in touched if folder.info.people[i].state != "done"]
        if left:
            self._build_avatars(folder, left)
        if refinement.waiting(folder, self.job.config, touched):
            self._run().refine(folder, edits.stored_crowd(folder), touched)

    def _build_avatars(self, folder: SceneFolder, left: list[int]) -> None:
        run, crowd = self._run(), edits.stored_crowd(folder)
        run = replace(run, report=_among(self.report, left, len(crowd.people)))
        run.report(Progress("masks", 0.0, None, len(crowd.people)))
        masks = edits.masks_of(
            folder,
            crowd,
            lambda some: run.stages.segment.segment(self.photo.pixels, some, run.report),
        )
        for index in left:
            checkpoint.save_mask(folder, index, masks[index])
        if isinstance(run.stages.avatar, CrowdBuilder):
            run.stages.avatar.expect(left)
        for index in left:
            run.build_avatar(folder, crowd, masks, index)
            edits.note_standing(folder, index)


def _among(report: Report, left: list[int], people: int) -> Report:
    """Progress as a part of those who are left to build."""

    def told(step: Progress) -> None:
        if step.stage == "avatars" and step.person in left:
            own = step.fraction * people - step.person
            step = replace(step, fraction=(left.index(step.person) + own) / len(left))
        report(step)

    return told


def _feet_height(avatar: Avatar) -> float:
    """Metres from the ground up to the lowest point of the posed body."""
    return float(pose_body(avatar)[:, 1].min())


@contextmanager
def _failure_is_theirs(folder: SceneFolder, index: int) -> Iterator[None]:
    """Turns an error inside into the state `failed` of one person; a full disk concerns all."""
    try:
        yield
    except Cancelled:
        raise
    except CrowdGaussianError as error:
        if isinstance(error.__cause__, OSError):
            raise
        folder.fail_person(index, str(error))
    except Exception as error:
        log.exception("person %d failed", index)
        folder.fail_person(
            index, f"An unexpected {type(error).__name__} ended this person's fit: {error}."
        )


def _share(report: Report, index: int, people: int) -> Report:
    """A person's own progress as part of the stage's."""

    def shared(step: Progress) -> None:
        fraction = (index + min(max(step.fraction, 0.0), 1.0)) / people
        report(Progress("avatars", fraction, index, people, step.message))

    return shared


def _encoded(image: Image.Image, form: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, quality=95)
    return buffer.getvalue()
