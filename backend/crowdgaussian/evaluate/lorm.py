# SPDX-License-Identifier: Apache-2.0
"""The evaluation of the paper's Tables 1 and 2: people of whom a part is hidden, from all around.

For every person and way of hiding the image is the same, seeded one for all systems. Each completes
the person; the result is rendered in the data set's views on white and compared with what is really
seen there.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from crowdgaussian_shared.errors import CrowdGaussianError, InputError, SettingError
from PIL import Image

from ..body import BodyModel, load_body
from ..core.metrics import Lpips, load_lpips
from ..core.progress import Progress, setting
from ..core.progress import Report as Tell
from ..lorm.training.occlusion import (
    Occluded,
    hide,
    occlude,
    occlude_randomly,
    person_height,
)
from ..pipeline.config import Config
from ..weights import local_path
from .report import Picture, Report, Row, Views, render_views, score, shown, write_picture
from .subjects import Subject, joints_in_image, read_subjects
from .systems import (
    REFINED,
    Axes,
    ImportedSystem,
    System,
    find_result,
    occlusion_seed,
    own_systems,
)

RANDOM, RECTANGLES = "random", "rectangles"  # appendix A's occluders as they fall; and boxes
SHARES = ("20", "40", "60")  # of Table 2
MOST_PERCENT = 70
# Rectangles, own choice: how many, and their sides over the person's height. They hide 36 % of
# made-up people in the mean.
_RECTANGLES, _SIDES = (1, 3), (0.1, 0.45)


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
    occlusions: tuple[str, ...] = setting(
        SHARES, f"hidden shares of the person, percent; {RANDOM}: the paper's masks; {RECTANGLES}"
    )
    people: tuple[str, ...] = ()  # names; empty: everybody
    smplx: Path | None = None  # the user's SMPL-X, for data sets that need it
    pictures: int = setting(4, "people with comparison pictures")


def evaluate_lorm(job: Evaluation, tell: Tell) -> Report:
    """Runs the evaluation and writes report.md, results.csv and pictures/.

    Raises:
        CrowdGaussianError: the data set, a system's files or an imported result are missing or
            wrong; nothing is written then.
    """
    job = replace(job, occlusions=occlusions(job.occlusions))
    subjects = read_subjects(job.dataset, job.people)
    body = body_of(subjects, job.smplx)
    for other in job.imported:
        for subject in subjects:
            for occlusion in job.occlusions:
                find_result(other.folder, subject.name, occlusion)
    systems = systems_of(job, body)
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


def systems_of(job: Evaluation, body: BodyModel) -> list[System]:
    """Our own systems and the imported ones that a job names.

    Raises:
        CrowdGaussianError: it names none, or files are missing.
    """
    systems = own_systems(job.systems, job.config, body)
    systems += [ImportedSystem(one.name, one.folder, body, one.axes) for one in job.imported]
    if not systems:
        raise SettingError("There is nothing to evaluate; name a system or import results.")
    return systems


def write_inputs(job: Evaluation) -> list[Path]:
    """NAME_OCCLUSION.png and NAME_OCCLUSION_mask.png, the input of other systems."""
    job = replace(job, occlusions=occlusions(job.occlusions))
    subjects = read_subjects(job.dataset, job.people)
    body = body_of(subjects, job.smplx)
    job.out.mkdir(parents=True, exist_ok=True)
    written = []
    for subject in subjects:
        for occlusion in job.occlusions:
            hidden = hidden_image(subject, body, occlusion)
            path = job.out / f"{subject.name}_{occlusion}.png"
            Image.fromarray(hidden.image).save(path)
            mask = Image.fromarray(hidden.visible.astype(np.uint8) * 255)
            mask.save(path.with_name(f"{path.stem}_mask.png"))
            written.append(path)
    return written


def hidden_image(subject: Subject, body: BodyModel, occlusion: str) -> Occluded:
    """A person with a part of them hidden on white, the same in every run.

    The background is white too: left as it is, the soft edge of the silhouette would tell what is
    behind the occluder.

    Args:
        subject: the person.
        body: of their parameters.
        occlusion: percent of the person's pixels, "random" (ellipses, bands and cuts as in
            training, up to 70 %) or "rectangles".
    """
    white = np.where(subject.mask[..., None], subject.photo, np.uint8(255))
    if occlusion.isdecimal() and not int(occlusion):
        return hide(white, subject.mask, np.zeros_like(subject.mask))
    seed = occlusion_seed(subject.name, occlusion)
    if occlusion == RECTANGLES:
        return hide(white, subject.mask, rectangles(subject.mask, np.random.default_rng(seed)))
    joints = joints_in_image(subject, body)
    if occlusion == RANDOM:
        return occlude_randomly(white, subject.mask, joints, np.random.default_rng(seed))
    return occlude(white, subject.mask, joints, int(occlusion) / 100, seed)


def rectangles(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Upright boxes around pixels of a person, at most 70 % of whom they hide.

    Args:
        mask: the person.  # [H, W] bool
        rng: where chance comes from.

    Returns:
        What is hidden.  # [H, W] bool
    """
    rows, columns = np.nonzero(mask)
    tall, hidden = person_height(mask), np.zeros_like(mask)
    for _ in range(int(rng.integers(*_RECTANGLES, endpoint=True))):
        pick = int(rng.integers(len(rows)))
        high, wide = rng.uniform(*_SIDES, 2) * tall / 2
        top, left = max(0, round(rows[pick] - high)), max(0, round(columns[pick] - wide))
        box = np.zeros_like(mask)
        box[top : round(rows[pick] + high) + 1, left : round(columns[pick] + wide) + 1] = True
        if (mask & (hidden | box)).sum() <= MOST_PERCENT / 100 * mask.sum():
            hidden |= box
    return hidden


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
    for occlusion in job.occlusions:
        hidden = hidden_image(subject, body, occlusion)
        lines = [Picture("the truth", shown(subject.photo, truth.numpy()))]
        for system in systems:
            try:
                views = render_views(system.splats(subject, hidden, occlusion), subject.cameras)
            except CrowdGaussianError as error:
                yield Row(occlusion, system.name, subject.name, {}, str(error), hidden.ratio)
                continue
            values = score(views, truth, mask, lpips)
            yield Row(occlusion, system.name, subject.name, values, hidden=hidden.ratio)
            lines.append(_line(system.name, hidden, views, values))
        if drawn:
            write_picture(job.out / f"pictures/{subject.name}_{occlusion}.png", lines)


def _line(name: str, hidden: Occluded, views: Views, values: dict[str, float]) -> Picture:
    title = (
        f"{name}   PSNR {values['psnr']:.2f}, person {values['masked_psnr']:.2f} dB, "
        f"holes {values['holes']:.1f} %"
    )
    return Picture(title, shown(hidden.image, views.colour.numpy()))


def _facts(job: Evaluation, subjects: list[Subject], body: BodyModel) -> list[str]:
    cameras = subjects[0].cameras
    facts = [
        f"Data: {job.dataset.name}, people: {len(subjects)}, {len(cameras)} views of "
        f"{cameras.width} x {cameras.height} pixels, body model {body.name}.",
        "Every system of this program is given the true body parameters and silhouette.",
        "Numbers are of whole images on white, as in the paper, or, where the column says "
        "'person', inside the true silhouette; means over views, then over people.",
    ]
    if any(name.startswith(("lhm", "lorm")) for name in job.systems):
        facts.append(
            f"Network: {Path(job.config.lorm.weights).name}, adapters: "
            f"{Path(job.config.lorm.adapters).name or 'none'}; no face super-resolution."
        )
    if any(name.endswith(REFINED) for name in job.systems):
        own = Path(job.config.refine.weights).name or "the one that ships or was fetched"
        facts.append(f"Refiner: {job.config.stages.refiner}, {own}.")
    return facts


def _say_distances(report: Report, systems: list[System]) -> None:
    for system in systems:
        if isinstance(system, ImportedSystem) and system.errors:
            apart = 1000 * float(np.mean(system.errors))
            report.facts.append(
                f"{system.name}: imported; after alignment its surface is "
                f"{apart:.0f} mm from the body model (root mean square)."
            )


def occlusions(asked: tuple[str, ...]) -> tuple[str, ...]:
    """As file names have them: shares in two digits, or a word.

    Raises:
        SettingError: another word, or a share that cannot be hidden.
    """
    for occlusion in asked:
        right = occlusion.isdecimal() and int(occlusion) <= MOST_PERCENT
        if not right and occlusion not in (RANDOM, RECTANGLES):
            raise SettingError(
                f"{occlusion} % cannot be hidden; choose whole numbers from 0 to {MOST_PERCENT}, "
                f"{RANDOM} or {RECTANGLES}."
            )
    return tuple(f"{int(each):02d}" if each.isdecimal() else each for each in asked)
