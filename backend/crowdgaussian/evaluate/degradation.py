# SPDX-License-Identifier: Apache-2.0
"""What becomes of people whose photo is worse (the paper's Figures 8 and 13).

Figure 8: the photo has fewer pixels, a half to an eighth of its sides. Figure 13: a part of the
person is hidden, and a 2D program paints it before a system that completes nobody sees the photo.
Systems, truth and metrics are those of Tables 1 and 2.
"""

import csv
import io
import shlex
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
from crowdgaussian_shared.errors import CrowdGaussianError, DamagedFileError, SettingError
from PIL import Image

from ..body import BodyModel
from ..core.crop import Crop, read_image
from ..core.metrics import Lpips, load_lpips
from ..core.progress import Progress
from ..core.progress import Report as Tell
from ..lorm.training.occlusion import Occluded, hide
from ..people.external.stage import OUT, PHOTO, Program, check_command, run_program
from ..people.types import person_from_parameters
from ..weights import local_path
from .lorm import Evaluation, body_of, hidden_image, occlusions, systems_of
from .report import (
    METRICS,
    Picture,
    cells,
    mean,
    render_views,
    score,
    shown,
    write_picture,
    write_report,
)
from .subjects import Subject, read_subjects
from .systems import System, find_result

FACTORS = (1, 2, 4, 8)  # 1 is the photo itself, beside the paper's three
_MOST_FACTOR = 64


@dataclass(frozen=True)
class Case:
    """One photo of a person, as the systems are given it."""

    title: str
    subject: Subject  # with the photo's size and camera; truth and views stay
    given: Occluded
    name: str  # in the names of imported files, such as "04" in PERSON_04.ply


Cases = Callable[[Subject, BodyModel, Tell], list[Case]]


# Figure 8: fewer pixels


def shrunk(subject: Subject, factor: int) -> Subject:
    """The person in a photo of a part of the width and height, taken by the same camera."""
    height, width = subject.mask.shape
    crop = Crop(0, 0, width, height, max(1, round(width / factor)), max(1, round(height / factor)))
    mask = crop.take(subject.mask)
    crowd = replace(
        subject.crowd,
        people=(person_from_parameters(subject.person.params, mask),),
        camera=crop.camera(subject.crowd.camera),
    )
    return replace(subject, photo=crop.take(subject.photo), mask=mask, crowd=crowd)


def low_resolutions(factors: tuple[int, ...]) -> Cases:
    """A case for each factor by which width and height shrink.

    Raises:
        SettingError: one is no whole number that a photo can shrink by.
    """
    for factor in factors:
        if not 1 <= factor <= _MOST_FACTOR:
            raise SettingError(f"A photo shrinks by 1 to {_MOST_FACTOR}, not by {factor}.")

    def cases(subject: Subject, body: BodyModel, tell: Tell) -> list[Case]:
        found = []
        for factor in factors:
            small = shrunk(subject, factor)
            if not small.mask.any():
                continue
            white = np.where(small.mask[..., None], small.photo, np.uint8(255))
            title = f"photo / {factor}" if factor > 1 else "photo"
            found.append(Case(title, small, hide(white, small.mask, ~small.mask), f"{factor:02d}"))
        return found

    return cases


# Figure 13: what is hidden is painted in 2D first

OPENCV = "opencv"
MASK = "{mask}"
INPAINTER = Program(
    "inpainting",
    (PHOTO, MASK, OUT),
    '--inpaint "python mine.py {photo} {mask} {out}"',
    "paints what is hidden",
    "use smaller photos",
)
_RADIUS = 5.0  # pixels around a hidden one that OpenCV looks at
_MOST_SECONDS = 1800.0  # for a photo; diffusion on a CPU takes minutes


def inpainted(given: Occluded, mask: np.ndarray, command: str, tell: Tell) -> np.ndarray:
    """The image with the person's hidden pixels painted; all others stay.

    Args:
        given: the image, white where hidden, and what it shows of the person.
        mask: of the complete person.  # [H, W] bool
        command: OPENCV, or a program with {photo}, {mask} (white where it has to paint) and {out},
            a folder into which it writes one PNG of the photo's size.
        tell: told while waiting.

    Raises:
        CrowdGaussianError: the program fails, or leaves no picture of that size.
    """
    image, hidden = given.image, mask & ~given.visible
    if command == OPENCV:  # from the person alone: white ground would run into the limbs
        unknown = (~given.visible).astype(np.uint8) * 255
        painted = cv2.inpaint(np.ascontiguousarray(image), unknown, _RADIUS, cv2.INPAINT_TELEA)
        return np.where(hidden[..., None], painted, image)
    with tempfile.TemporaryDirectory(prefix="crowdgaussian-inpaint-") as place:
        files = {PHOTO: Path(place, "photo.png"), MASK: Path(place, "mask.png")}
        out = Path(place, "out")
        Image.fromarray(image).save(files[PHOTO])
        Image.fromarray(hidden.astype(np.uint8) * 255).save(files[MASK])
        out.mkdir()
        run_program(INPAINTER, command, files | {OUT: out}, _MOST_SECONDS, tell)
        written = sorted(out.glob("*.png"))
        painted = read_image(written[0]) if len(written) == 1 else np.zeros((0, 0, 3), np.uint8)
    if painted.shape != image.shape:
        raise DamagedFileError(
            f"The inpainting command left {len(written)} PNG in {{out}}, or one of another size "
            "than the photo; it has to write one."
        )
    return np.where(hidden[..., None], painted, image)


def inpaintings(asked: tuple[str, ...], command: str) -> Cases:
    """Two cases for each occlusion: as it is, and with the hidden part painted first.

    Raises:
        SettingError: the command cannot be used.
    """
    name = OPENCV
    if command != OPENCV:
        check_command(command, INPAINTER)
        name = Path(shlex.split(command)[0]).name

    def cases(subject: Subject, body: BodyModel, tell: Tell) -> list[Case]:
        found = []
        for occlusion in occlusions(asked):
            given = hidden_image(subject, body, occlusion)
            whole = inpainted(given, subject.mask, command, tell)
            painted = Occluded(whole, subject.mask, 0.0)
            title = f"{occlusion} % hidden" if occlusion.isdecimal() else occlusion
            found.append(Case(title, subject, given, occlusion))
            found.append(Case(f"{title}, painted by {name}", subject, painted, occlusion))
        return found

    return cases


# Both: every system on every case, a table, and sheets of pictures


@dataclass(frozen=True)
class CaseRow:
    """One person by one system from one photo."""

    case: str
    system: str
    person: str
    values: dict[str, float]  # empty where it failed
    error: str = ""


@dataclass
class DegradationReport:
    """Everything that was measured."""

    title: str
    facts: list[str]
    lpips_missing: str  # why there is no LPIPS; empty where there is
    rows: list[CaseRow] = field(default_factory=list)

    def markdown(self) -> str:
        """One table: a line for each system and photo, means over people."""
        lines = [f"# {self.title}", "", *(f"- {fact}" for fact in self.facts)]
        lines += [f"- LPIPS is {self.lpips_missing}"] if self.lpips_missing else []
        titles = [title for name, title in METRICS.items() if self._has(name)]
        lines += ["", "| system | photo | people | " + " | ".join(titles) + " |"]
        lines.append("|---|---|---|" + "---|" * len(titles))
        for system in dict.fromkeys(row.system for row in self.rows):
            own = [row for row in self.rows if row.system == system]
            for case in dict.fromkeys(row.case for row in own):
                good = [row.values for row in own if row.case == case and not row.error]
                means = (mean(name, good) for name in METRICS if self._has(name))
                lines.append(f"| {system} | {case} | {len(good)} | " + " | ".join(means) + " |")
        failed = [row for row in self.rows if row.error]
        lines += ["", *(f"- {row.system}, {row.person}, {row.case}: {row.error}" for row in failed)]
        return "\n".join(lines).rstrip() + "\n"

    def _has(self, name: str) -> bool:
        return any(name in row.values for row in self.rows)

    def write(self, folder: Path) -> None:
        """report.md and results.csv."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["system", "photo", "person", *METRICS, "error"])
        for row in self.rows:
            writer.writerow([row.system, row.case, row.person, *cells(row.values), row.error])
        write_report(folder, self.markdown(), text.getvalue())


def evaluate_cases(job: Evaluation, cases: Cases, title: str, tell: Tell) -> DegradationReport:
    """Runs every system on every case; writes report.md, results.csv and pictures/NAME.png.

    Args:
        job: data set, systems and where to; its hidden shares do not count.
        cases: of a person.
        title: of the report.
        tell: told about every person.

    Raises:
        CrowdGaussianError: the data set, a system's files or an imported result are missing or
            wrong.
    """
    subjects = read_subjects(job.dataset, job.people)
    body = body_of(subjects, job.smplx)
    systems = systems_of(job, body)
    lpips, missing = load_lpips(local_path("vgg16"), local_path("lpips-vgg-heads"))
    height, width = subjects[0].mask.shape
    facts = [
        f"Data: {job.dataset.name}, people: {len(subjects)}, photos of {width} x {height} pixels, "
        f"{len(subjects[0].cameras)} views of {subjects[0].cameras.width} x "
        f"{subjects[0].cameras.height}.",
        "Every system of this program is given the true body parameters and silhouette.",
    ]
    report = DegradationReport(title, facts, missing)
    for place, subject in enumerate(subjects):
        tell(Progress("evaluation", place / len(subjects), place, len(subjects), subject.name))
        found = cases(subject, body, tell)
        for one in job.imported:
            for case in found:
                find_result(one.folder, subject.name, case.name)
        lines = _person(report, systems, found, lpips)
        if place < job.pictures:
            write_picture(job.out / f"pictures/{subject.name}.png", lines)
        report.write(job.out)
    tell(Progress("evaluation", 1.0))
    return report


def _person(
    report: DegradationReport, systems: list[System], cases: list[Case], lpips: Lpips | None
) -> list[Picture]:
    """Adds a person's rows; returns their pictures, the truth first."""
    subject = cases[0].subject
    truth, mask = subject.truth
    lines = [Picture("the truth", shown(subject.photo, truth.numpy()))]
    for system in systems:
        for case in cases:
            try:
                splats = system.splats(case.subject, case.given, case.name)
                views = render_views(splats, subject.cameras)
            except CrowdGaussianError as error:
                report.rows.append(CaseRow(case.title, system.name, subject.name, {}, str(error)))
                continue
            values = score(views, truth, mask, lpips)
            report.rows.append(CaseRow(case.title, system.name, subject.name, values))
            words = f"{system.name}, {case.title}   PSNR {values['psnr']:.2f}, "
            words += f"person {values['masked_psnr']:.2f} dB"
            lines.append(Picture(words, shown(case.given.image, views.colour.numpy())))
    return lines
