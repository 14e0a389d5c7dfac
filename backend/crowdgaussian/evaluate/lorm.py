# SPDX-License-Identifier: Apache-2.0
"""The evaluation of the paper's Tables 1 and 2: people of whom a share is hidden, from all around.

For every person and share the image is hidden in the same, seeded way for all systems. Each
completes the person; the result is rendered in the data set's views on white and compared with what
is really seen there.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from crowdgaussian_shared.errors import CrowdGaussianError, InputError, SettingError
from PIL import Image

from ..body import BodyModel, load_body
from ..core.metrics import Lpips, load_lpips
from ..core.progress import Progress, setting
from ..core.progress import Report as Tell
from ..lorm.training.occlusion import Occluded, hide, occlude
from ..pipeline.config import Config
from ..weights import local_path
from .report import SHOWN, Picture, Report, Row, Views, render_views, score, write_picture
from .subjects import Subject, joints_in_image, read_subjects
from .systems import (
    Axes,
    ImportedSystem,
    System,
    find_result,
    occlusion_seed,
    own_systems,
)

PERCENTS = (20, 40, 60)
MOST_PERCENT = 70


@dataclass(frozen=True)
class Imported:
    """Results of another system on disk."""

    name: str
    folder: Path
    axes: Axes | None = None


@dataclass(frozen=True)
class Evaluation:
    """What to evaluate."""

    dataset: Path
    out: Path
    config: Config = field(default_factory=Config)
    systems: tuple[str, ...] = ("lhm", "lorm", "photo_fit")
    imported: tuple[Imported, ...] = ()
    percents: tuple[int, ...] = setting(PERCENTS, "hidden shares of the person, percent")
    people: tuple[str, ...] = ()  # names; empty: everybody
    smplx: Path | None = None  # the user's SMPL-X, for data sets that need it
    pictures: int = setting(4, "people with comparison pictures")


def evaluate_lorm(job: Evaluation, tell: Tell) -> Report:
    """Runs the evaluation and writes report.md, results.csv and pictures/.

    Raises:
        CrowdGaussianError: the data set, a system's files or an imported result are missing or
            wrong; nothing is written then.
    """
    _check_percents(job.percents)
    subjects = read_subjects(job.dataset, job.people)
    body = body_of(subjects, job.smplx)
    for other in job.imported:
        for subject in subjects:
            for percent in job.percents:
                find_result(other.folder, subject.name, percent)
    systems = own_systems(job.systems, job.config, body)
    systems += [
        ImportedSystem(other.name, other.folder, body, other.axes) for other in job.imported
    ]
    if not systems:
        raise SettingError("There is nothing to evaluate; name a system or import results.")
    lpips, missing = load_lpips(local_path("vgg16"), local_path("lpips-vgg-heads"))
    report = Report(_facts(job, subjects, body), missing)
    job.out.mkdir(parents=True, exist_ok=True)
    for place, subject in enumerate(subjects):
        tell(Progress("evaluation", place / len(subjects), place, len(subjects), subject.name))
        drawn = place < job.pictures
        report.rows += _person(subject, systems, job, body, lpips, drawn)
        report.write(job.out)
    _say_distances(report, systems)
    report.write(job.out)
    tell(Progress("evaluation", 1.0))
    return report


def write_inputs(job: Evaluation) -> list[Path]:
    """NAME_PERCENT.png and NAME_PERCENT_mask.png, for running other systems on the same images."""
    _check_percents(job.percents)
    subjects = read_subjects(job.dataset, job.people)
    body = body_of(subjects, job.smplx)
    job.out.mkdir(parents=True, exist_ok=True)
    written = []
    for subject in subjects:
        for percent in job.percents:
            hidden = hidden_image(subject, body, percent)
            path = job.out / f"{subject.name}_{percent:02d}.png"
            Image.fromarray(hidden.image).save(path)
            mask = Image.fromarray(hidden.visible.astype(np.uint8) * 255)
            mask.save(path.with_name(f"{path.stem}_mask.png"))
            written.append(path)
    return written


def hidden_image(subject: Subject, body: BodyModel, percent: int) -> Occluded:
    """A person with a share of them hidden on white, the same in every run.

    The background is white too: left as it is, the soft edge of the silhouette would tell what is
    behind the occluder.
    """
    white = np.where(subject.mask[..., None], subject.photo, np.uint8(255))
    if percent == 0:
        return hide(white, subject.mask, np.zeros_like(subject.mask))
    return occlude(
        white,
        subject.mask,
        joints_in_image(subject, body),
        percent / 100,
        occlusion_seed(subject.name, percent),
    )


def body_of(subjects: list[Subject], smplx: Path | None) -> BodyModel:
    """The body model of a data set.

    Raises:
        CrowdGaussianError: its people have different ones, or the file is missing.
    """
    names = sorted({subject.body_name for subject in subjects})
    if len(names) != 1:
        raise InputError(
            f"The people of a data set must have one body model, these have {', '.join(names)}."
        )
    return load_body(names[0], smplx if names[0] == "smplx" else None)


def _person(
    subject: Subject,
    systems: list[System],
    job: Evaluation,
    body: BodyModel,
    lpips: Lpips | None,
    drawn: bool,
) -> Iterator[Row]:
    truth, mask = subject.truth
    for percent in job.percents:
        hidden = hidden_image(subject, body, percent)
        lines = [Picture("the truth", _pixels(subject.photo, truth.numpy()))]
        for system in systems:
            try:
                views = render_views(system.splats(subject, hidden, percent), subject.cameras)
            except CrowdGaussianError as error:
                yield Row(percent, system.name, subject.name, {}, str(error))
                continue
            values = score(views, truth, mask, lpips)
            yield Row(percent, system.name, subject.name, values)
            lines.append(_line(system.name, hidden, views, values))
        if drawn:
            write_picture(job.out / f"pictures/{subject.name}_{percent:02d}.png", lines)


def _line(name: str, hidden: Occluded, views: Views, values: dict[str, float]) -> Picture:
    title = (
        f"{name}   PSNR {values['psnr']:.2f}, person {values['masked_psnr']:.2f} dB, "
        f"holes {values['holes']:.1f} %"
    )
    return Picture(title, _pixels(hidden.image, views.colour.numpy()))


def _pixels(image: np.ndarray, views: np.ndarray) -> list[np.ndarray]:
    chosen = [views[i] for i in SHOWN if i < len(views)]
    return [image, *((255 * view).round().astype(np.uint8) for view in chosen)]


def _facts(job: Evaluation, subjects: list[Subject], body: BodyModel) -> list[str]:
    cameras = subjects[0].cameras
    facts = [
        f"Data: {job.dataset.name}, people: {len(subjects)}, {len(cameras)} views of "
        f"{cameras.width} x {cameras.height} pixels, body model {body.name}.",
        "Every system of this program is given the true body parameters and silhouette.",
        "Numbers are of whole images on white, as in the paper, or, where the column says "
        "'person', inside the true silhouette; means over views, then over people.",
    ]
    if {"lhm", "lorm"} & set(job.systems):
        facts.append(
            f"Network: {Path(job.config.lorm.weights).name}, adapters: "
            f"{Path(job.config.lorm.adapters).name or 'none'}; no face super-resolution."
        )
    return facts


def _say_distances(report: Report, systems: list[System]) -> None:
    for system in systems:
        if isinstance(system, ImportedSystem) and system.errors:
            apart = 1000 * float(np.mean(system.errors))
            report.facts.append(
                f"{system.name}: imported; after alignment its surface is "
                f"{apart:.0f} mm from the body model (root mean square)."
            )


def _check_percents(percents: tuple[int, ...]) -> None:
    for percent in percents:
        if not 0 <= percent <= MOST_PERCENT:
            raise SettingError(
                f"{percent} % cannot be hidden; choose whole numbers from 0 to {MOST_PERCENT}."
            )
