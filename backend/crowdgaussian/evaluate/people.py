# SPDX-License-Identifier: Apache-2.0
"""The people and masks stages on real photos, against annotators' keypoints and outlines.

Nothing else of the pipeline runs. What fails on a photo does not stop the others.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from crowdgaussian_shared.errors import CrowdGaussianError, InputError, MissingFileError
from crowdgaussian_shared.formats.atomic import write_bytes
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX

from ..body import BodyModel
from ..core.progress import Progress, Report, silent
from ..pipeline.config import Config
from ..pipeline.photo import Photo, chosen_focal, load_photo
from ..pipeline.stages import load_stage
from ..segment.types import CrowdView
from .annotations import FEWEST, AnnotatedPhoto, DataSet, decoded, read_annotations
from .matching import (
    ALL,
    OUTLINE_PX,
    RIGHT_OKS,
    VERDICTS,
    Found,
    FoundBody,
    PhotoResult,
    TruePerson,
    compare,
    figures,
    totals,
)
from .report import LIMB_JOINTS, Drawn, Picture, draw_people, write_picture

FIGURES, SHEET = "people.json", "people.png"
Finder = Callable[[Photo, Report], Found]
_ROWS = [JOINT_INDEX[name] for name in LIMB_JOINTS]
_NOBODY = Found(np.zeros((0, len(_ROWS), 2)), np.zeros(0), [])
_SETTINGS = (  # those that these stages read
    "preset",
    "stages.body",
    "stages.people",
    "stages.segment",
    "photo.",
    "people.",
    "segment.",
)
_TITLES = {
    "people": "annotated",
    "right": "right",
    "recall": "recall ↑",
    "precision": "precision ↑",
    "oks": "OKS, misses 0 ↑",
    "ap": "AP ↑",
    "ap50": "AP 0.5 ↑",
    "outlines": "outlines",
    "mask_iou": "mask IoU ↑",
}
_COLOURS = {
    "right": (40, 220, 90),
    "wrong": (255, 60, 50),
    "unmatched": (255, 170, 30),
    "missed": (255, 70, 220),
    "ignored": (170, 170, 170),
}
_PICTURE_PX = 420  # height of a photo on the sheet
_SAME_SHAPE = 0.01  # of width to height, by which a resized photo may differ from the annotated one


@dataclass(frozen=True)
class PeopleJob:
    """What to evaluate."""

    data: Path  # JSON in COCO's layout
    images: Path
    out: Path
    config: Config = field(default_factory=Config)
    limit: int | None = None  # photos; None: all
    pictures: int = 24  # photos on the sheet


@dataclass
class PeopleReport:
    """Everything that was measured."""

    job: PeopleJob
    listed: int  # photos of the file
    photos: list[PhotoResult] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)  # that were written

    def markdown(self) -> str:
        """Facts, one table of figures, one of photos."""
        groups = figures(self.photos)
        lines = ["# People in photos", "", *(f"- {fact}" for fact in self._facts(groups[ALL]))]
        lines += ["", *_table(["people", *_TITLES.values()], self._rows(groups))]
        titles = ["photo", "people", *VERDICTS, "missed", "OKS ↑", "mask IoU ↑", "seconds"]
        lines += ["", *_table(titles, [_photo_row(photo) for photo in self.photos])]
        failed = [photo for photo in self.photos if photo.error]
        lines += ["", *(f"- {_plain(photo.file)}: {photo.error}" for photo in failed)]
        return "\n".join(lines).rstrip() + "\n"

    def json(self) -> str:
        """The same figures, and every person and body."""
        settings = self.job.config.flat()
        document = {
            "data": self.job.data.name,
            "listed": self.listed,
            "joints": LIMB_JOINTS,
            "right_oks": RIGHT_OKS,
            "fewest_joints": FEWEST,
            "outline_px": OUTLINE_PX,
            "settings": {name: settings[name] for name in settings if name.startswith(_SETTINGS)},
            "figures": figures(self.photos),
            "photos": [_photo_entry(photo) for photo in self.photos],
        }
        return json.dumps(document, indent=1)

    def write(self, pictures: list[Picture]) -> None:
        """people.json, and people.png where there are pictures.

        Raises:
            ResourceError: the folder cannot be written.
        """
        if self.photos:
            write_bytes(self.job.out / FIGURES, self.json().encode())
            self.files.append(self.job.out / FIGURES)
        if pictures:
            write_picture(self.job.out / SHEET, pictures, _PICTURE_PX)
            self.files.append(self.job.out / SHEET)

    def _facts(self, everybody: dict) -> list[str]:
        stages = self.job.config.stages
        out = [photo for photo in self.photos if photo.left_out]
        failed = [photo for photo in self.photos if photo.error and not photo.left_out]
        facts = [
            f"{len(self.photos)} of {self.listed} photos of {self.job.data.name}; people: "
            f"{stages.people}, masks: {stages.segment}, body: {stages.body}.",
            f"A body is right from OKS {RIGHT_OKS} on, over 12 joints from shoulders to ankles; "
            f"people with fewer than {FEWEST} labelled ones and crowds are ignored.",
            f"Bodies found: {everybody['bodies']}; right: {everybody['right']}, "
            f"wrong where somebody is annotated: {everybody['wrong']}, "
            f"where nobody is: {everybody['unmatched']}, ignored: {everybody['ignored']}.",
        ]
        if out:
            facts.append(f"Photos that cannot be used and are left out: {len(out)}.")
        if failed:
            facts.append(f"Photos that failed, whose people count as missed: {len(failed)}.")
        return facts

    @staticmethod
    def _rows(groups: dict) -> list[list[str]]:
        return [[name, *(_cell(row.get(key)) for key in _TITLES)] for name, row in groups.items()]


def evaluate_people(
    job: PeopleJob, report: Report = silent, find: Finder | None = None
) -> PeopleReport:
    """Runs the stages on every photo; writes people.json and the sheet people.png.

    A run that is stopped leaves both with what is done.

    Args:
        job: what to evaluate.
        report: told about every photo; raises Cancelled to stop.
        find: in place of the stages that the settings name.

    Raises:
        CrowdGaussianError: the file is no data set, no photo is there, or a stage cannot be loaded.
    """
    data = read_annotations(job.data)
    chosen = data.photos[: job.limit]
    _check_images(job, chosen)
    find = find or people_finder(job.config)
    told = PeopleReport(job, len(data.photos))
    pictures: list[Picture] = []
    try:
        for number, photo in enumerate(chosen):
            step = Progress("evaluate", number / len(chosen), message=photo.file)
            report(step)
            result, picture = _one(job, data, photo, find, lambda _, step=step: report(step))
            told.photos.append(result)
            pictures += [picture] if picture and len(pictures) < job.pictures else []
        report(Progress("evaluate", 1.0))
    finally:
        told.write(pictures)
    return told


def _check_images(job: PeopleJob, photos: Sequence[AnnotatedPhoto]) -> None:
    if not job.images.is_dir():
        raise MissingFileError(f"{job.images} is no folder; give the folder of the photos.")
    if not any((job.images / photo.file).is_file() for photo in photos):
        raise MissingFileError(
            f"{job.images} holds none of the {len(photos)} photos that {job.data.name} names, such "
            f"as {photos[0].file}; give the folder that their names start from."
        )


def _one(
    job: PeopleJob, data: DataSet, truth: AnnotatedPhoto, find: Finder, report: Report
) -> tuple[PhotoResult, Picture | None]:
    """One photo's result and its line of the sheet."""
    try:
        photo = load_photo(job.images / truth.file, job.config.photo.max_side)
        _check_size(truth, photo)
    except CrowdGaussianError as error:
        return PhotoResult(truth.file, error=str(error), left_out=True), None
    started, failure, found = time.perf_counter(), "", _NOBODY
    try:
        found = find(photo, report)
    except CrowdGaussianError as error:
        failure = str(error)
    seconds = time.perf_counter() - started
    result = compare(data, truth, found, photo.pixels.shape[:2])
    result = replace(result, seconds=seconds, error=failure)
    return result, _picture(result, truth, found, photo.pixels)


def _check_size(truth: AnnotatedPhoto, photo: Photo) -> None:
    if truth.size is None:
        return
    width, height = truth.size
    if abs(photo.width / photo.height * height / width - 1) > _SAME_SHAPE:
        raise InputError(
            f"{truth.file} is {photo.file_size[0]} x {photo.file_size[1]} pixels, the annotations "
            f"are for {width} x {height}."
        )


def people_finder(config: Config) -> Finder:
    """The people and masks stages of the settings, loaded.

    Raises:
        CrowdGaussianError: a name is unknown, or a model file is missing or damaged.
    """
    body = load_stage("body", config, None)
    people, segment = load_stage("people", config, body), load_stage("segment", config, body)

    def find(photo: Photo, report: Report) -> Found:
        focal, _ = chosen_focal(photo, config.photo.focal)
        crowd = people.estimate(photo.pixels, focal, report)
        masks = segment.segment(photo.pixels, crowd, report) if crowd.people else []
        return found_people(body, CrowdView(photo.pixels, crowd, masks))

    return find


def found_people(body: BodyModel, view: CrowdView) -> Found:
    """The joints that count, projected by the crowd's own camera, and the visible masks."""
    joints = [body.posed(person.params).joints[_ROWS] for person in view.crowd.people]
    return Found(
        view.crowd.camera.project(np.array(joints, np.float64).reshape(-1, len(_ROWS), 3))[0],
        np.array([person.score for person in view.crowd.people], np.float64),
        [mask.visible for mask in view.masks],
    )


# Tables and JSON


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    head = ["| " + " | ".join(titles) + " |", "|---|" + "---:|" * (len(titles) - 1)]
    return head + ["| " + " | ".join(row) + " |" for row in rows]


def _cell(value: float | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def _plain(text: str) -> str:
    return text.replace("|", "/")


def _photo_row(photo: PhotoResult) -> list[str]:
    if photo.left_out:
        return [_plain(photo.file), "left out", *["-"] * 8]
    own = totals([photo])
    name = _plain(photo.file) + (", failed" if photo.error else "")
    keys = ("people", *VERDICTS, "missed", "oks", "mask_iou")
    return [name, *(_cell(own[key]) for key in keys), f"{photo.seconds:.1f}"]


def _photo_entry(photo: PhotoResult) -> dict:
    people = [
        {
            "box": person.truth.box.tolist(),
            "ignored": person.truth.ignored,
            "area": person.truth.area,
            "hidden": person.hidden,
            "oks": person.oks,
            "mask_iou": person.mask_iou,
        }
        for person in photo.people
    ]
    bodies = [
        {"score": b.score, "verdict": b.verdict, "oks": b.oks, "joints": b.joints.tolist()}
        for b in photo.bodies
    ]
    return {
        "file": photo.file,
        "error": photo.error,
        "left_out": photo.left_out,
        "seconds": photo.seconds,
        "people": people,
        "bodies": bodies,
    }


# The sheet: what annotators marked on the left, what was found on the right


def _picture(
    result: PhotoResult, truth: AnnotatedPhoto, found: Found, pixels: np.ndarray
) -> Picture:
    scale = truth.scale(pixels.shape[1])
    people = [_drawn_person(person, pixels.shape[:2], scale) for person in result.people]
    masks = [*found.masks, *[None] * (len(result.bodies) - len(found.masks))]
    bodies = [_drawn_body(b, mask, scale) for b, mask in zip(result.bodies, masks, strict=True)]
    own = totals([result])
    title = f"{result.file}   annotated {own['people']}, missed {own['missed']}   |   found: "
    title += ", ".join(f"{name} {own[name]}" for name in VERDICTS)
    if result.error:
        title += f"   |   failed: {result.error}"
    sides = (people, bodies)
    return Picture(title, [draw_people(pixels, side, _PICTURE_PX) for side in sides])


def _drawn_person(person: TruePerson, shape: tuple[int, int], scale: float) -> Drawn:
    mark, verdict = person.truth, "ignored" if person.truth.ignored else person.verdict
    mask = None
    if mark.outline is not None:
        mask = decoded(mark.outline.encoded(shape, scale))
    return Drawn(
        _COLOURS[verdict],
        f"{verdict} {person.oks:.2f}" if person.oks else verdict,
        mark.joints[:, :2] * scale,
        mark.joints[:, 2] > 0,
        mask,
        mark.box * scale,
    )


def _drawn_body(body: FoundBody, mask: np.ndarray | None, scale: float) -> Drawn:
    joints = body.joints * scale
    label = f"right {body.oks:.2f}" if body.verdict == "right" else body.verdict
    everything = np.ones(len(joints), bool)
    box = np.concatenate([joints.min(0), np.ptp(joints, axis=0)])
    return Drawn(_COLOURS[body.verdict], label, joints, everything, mask, box)
