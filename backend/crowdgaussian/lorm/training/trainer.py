# SPDX-License-Identifier: Apache-2.0
"""Self-supervised training of LORM's adapters (CrowdGaussian, section 3.2).

Everything random in a step is drawn from its number, so a training that was stopped goes on as if
it had not been. On several GPUs (`accelerate launch -m crowdgaussian train lorm ...`) each process
takes its own people of a step; the gradients are averaged.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from accelerate import Accelerator
from crowdgaussian_shared.errors import CrowdGaussianError, InputError
from crowdgaussian_shared.formats.atomic import write_bytes
from torch import Tensor

from ...core.progress import Progress, Report, silent
from ...core.training import Trainer, trained_parts
from ..model.adapters import adapter_layers, add_adapters, save_adapters
from ..model.lorm import LormModel, Tokens, render_people
from .dataset import Finder, PeopleDataset, blank_head, complete_inputs, misfit
from .distill import LormTraining, Student, Teacher, TeacherCache, digest, fingerprint, step_loss

# A picture of how far a training is: one row a person

COLUMNS = ("complete", "occluded", "teacher", "student")
_GAP, _BAR = 4, 22  # pixels


@dataclass(frozen=True)
class SampleRow:
    """What one person looks like to teacher and student."""

    complete: Tensor  # [3, h, w] 0..1, the body image
    occluded: Tensor  # [3, h, w]
    teacher: Tensor  # [V, S, S, 3] 0..1, from the complete image
    student: Tensor  # [V, S, S, 3], from the occluded one


def sample_grid(rows: Sequence[SampleRow]) -> np.ndarray:
    """Complete and occluded image, then views by teacher and student.  # [H, W, 3] uint8"""
    size = rows[0].teacher.shape[1]
    strips = [np.concatenate(_cells(row, size), axis=1) for row in rows]
    height = _BAR + sum(len(strip) + _GAP for strip in strips)
    picture = np.full((height, strips[0].shape[1], 3), 255, np.uint8)
    widths = [cell.shape[1] for cell in _cells(rows[0], size)]
    views = len(rows[0].teacher)
    for title, cell in zip(COLUMNS, (0, 1, 2, 2 + views), strict=True):
        cv2.putText(
            picture,
            title,
            (sum(widths[:cell]) + 3, 15),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.4,
            (40, 40, 40),
            1,
            cv2.LINE_AA,
        )
    top = _BAR
    for strip in strips:
        picture[top : top + len(strip)] = strip
        top += len(strip) + _GAP
    return picture


def _cells(row: SampleRow, size: int) -> list[np.ndarray]:
    inputs = [_inside(_bytes(image.movedim(0, -1)), size) for image in (row.complete, row.occluded)]
    return inputs + [_bytes(view) for views in (row.teacher, row.student) for view in views]


def _bytes(image: Tensor) -> np.ndarray:
    return (image.detach().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()


def _inside(image: np.ndarray, size: int) -> np.ndarray:
    """The image in the middle of a white square.  # [size, size, 3]"""
    factor = size / max(image.shape[:2])
    small = cv2.resize(
        image,
        (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))),
        interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_NEAREST,
    )
    square = np.full((size, size, 3), 255, np.uint8)
    top, left = (size - small.shape[0]) // 2, (size - small.shape[1]) // 2
    square[top : top + small.shape[0], left : left + small.shape[1]] = small
    return square


# Who is trained on: chosen once, and kept beside the result, so that a training goes on with them

CHOSEN = "people.json"


def choose_people(
    people: PeopleDataset, job: "TrainJob", report: Report = silent, write: bool = True
) -> PeopleDataset:
    """Those of a folder who are trained on, each read and checked once.

    Of HuGe100K, whoever cannot be read or does not fit is left out, and counted in people.json; a
    folder of one's own is to be mended. The same folder and settings choose the same people.

    Args:
        people: of the folder, or those named.
        job: how many of them, where they are noted, and what sees landmarks.
        report: called before each person.
        write: note them; one of several processes does.

    Raises:
        CrowdGaussianError: a person of one's own folder is unusable, or too few are left.
    """
    count, file = job.config.people, job.out / CHOSEN
    asked = {"of": digest(*people.names), "people": count, "seed": job.config.seed}
    asked["landmarks"] = job.find is not None
    noted = _noted(file, asked)
    if noted is not None:
        return people.only(noted)
    chosen, refused = _choice(people, job, report)
    why = Counter(reason.partition(":")[0] for reason in refused.values()).most_common()
    if len(chosen) < max(count, 1):
        raise InputError(
            f"{people.folder} has {len(chosen)} people who can be trained on, {len(refused)} were "
            "refused" + (f", {why[0][1]} of them because {why[0][0]}." if why else ".")
        )
    report(Progress("choose", 1.0, message=f"{len(chosen)} chosen, {len(refused)} refused"))
    if write:
        about = {"asked": asked, "refused_why": dict(why), "refused": refused, "people": chosen}
        write_bytes(file, json.dumps(about, indent=1).encode())
    return people.only(_arrays(chosen))


Notes = dict[str, list | None]  # landmarks [33][2] by name, as people.json has them


def _choice(people: PeopleDataset, job: "TrainJob", report: Report) -> tuple[Notes, dict[str, str]]:
    """Those who are chosen with their landmarks, and why others are refused."""
    count = job.config.people
    names = list(range(len(people)))
    if count:
        names = np.random.default_rng([job.config.seed, 3]).permutation(len(people)).tolist()
    wanted = count or len(people)
    chosen: Notes = {}
    refused: dict[str, str] = {}
    for index in names:
        if len(chosen) == wanted:
            break
        name = people.names[index]
        report(Progress("choose", len(chosen) / wanted, len(chosen), wanted, name))
        reason, landmarks = _checked(people, index, job.find)
        if reason:
            refused[name] = reason
        else:
            chosen[name] = None if landmarks is None else landmarks.astype(int).tolist()
    return chosen, refused


def _checked(
    people: PeopleDataset, index: int, find: Finder | None
) -> tuple[str, np.ndarray | None]:
    """Why a person is left out, empty when they are not, and their landmarks [33, 2]."""
    try:
        person = people[index]
    except CrowdGaussianError as error:
        if not people.published:
            raise
        detail = str(error).removeprefix(f"{people.names[index]}: ")
        return f"their files cannot be used: {detail}", None
    blank = blank_head(person)
    if blank and not people.published:
        raise InputError(f"{person.name}: {blank}.")
    if blank or find is None:
        return blank, None
    landmarks = find(person.photo, person.mask)
    reason = misfit(person, landmarks)
    if reason:
        return (reason if people.published else ""), None
    return "", landmarks


def _noted(file: Path, asked: dict) -> dict[str, np.ndarray | None] | None:
    """The people of a file of choose_people; None where there is none for what is asked."""
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
        return _arrays(about["people"]) if about["asked"] == asked else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _arrays(chosen: Notes) -> dict[str, np.ndarray | None]:
    return {
        name: None if xy is None else np.array(xy, np.float64).reshape(-1, 2)
        for name, xy in chosen.items()
    }


RESULT = "lorm_adapters.safetensors"
_SHOWN, _SHOWN_VIEWS = 4, (0, 6, 12, 18)


@dataclass(frozen=True)
class TrainJob:
    """What to train on and where to."""

    people: PeopleDataset
    out: Path
    config: LormTraining
    cache: Path | None = None  # of tokens and renders; None: OUT/cache
    find: Finder | None = None  # sees the landmarks of the people; None: nothing does


def train(model: LormModel, job: TrainJob, report: Report = silent) -> Path:
    """Trains, or goes on with a training in the same folder.

    Args:
        model: the base network, without adapters; gets them.
        job: people, folder and settings.
        report: told about every step; may raise Cancelled, which saves a checkpoint first.

    Returns:
        The adapters' file, OUT/lorm_adapters.safetensors.

    Raises:
        CrowdGaussianError: a person of the data set is unusable, the folder holds a training with
            other settings, or TensorBoard is missing.
    """
    trainer = LormTrainer(model, job)
    trainer.run(report)
    if trainer.accelerator.is_main_process:
        with trainer.averaged():
            save_adapters(model, job.out / RESULT)
    return job.out / RESULT


class LormTrainer(Trainer):
    """One training; see train()."""

    config: LormTraining

    def __init__(self, model: LormModel, job: TrainJob) -> None:
        config, self.job = job.config, job
        if adapter_layers(model):
            raise InputError("This network has adapters already; train a base network.")
        torch.manual_seed(config.seed)
        device = next(model.parameters()).device
        short = config.bfloat16 and device.type == "cuda"
        if device.type == "cuda" and device.index is not None:
            torch.cuda.set_device(device)  # where accelerate goes
        accelerator = Accelerator(
            cpu=device.type == "cpu", mixed_precision="bf16" if short else "no"
        )
        self.model = model.to(accelerator.device).eval()
        cache = TeacherCache(job.cache or job.out / "cache", fingerprint(model))
        add_adapters(model, config.rank, config.targets)
        model.transformer.gradient_checkpointing = config.gradient_checkpointing
        self.teacher = Teacher(model, config, cache)
        facts = {"people": digest(*job.people.names), "network": cache.fingerprint}
        self.people = job.people  # until run() chooses among them
        super().__init__(trained_parts(model), job.out, config, accelerator, facts)
        self.student = accelerator.prepare_model(Student(model))

    def run(self, report: Report = silent) -> None:
        """Chooses who is trained on, then takes every step that is left."""
        self.people = choose_people(self.people, self.job, report, self.accelerator.is_main_process)
        super().run(report)

    def loss(self) -> tuple[Tensor, dict[str, float]]:
        """Of this step's people."""
        config = self.config
        rng = np.random.default_rng([config.seed, 1, self.step, self.accelerator.process_index])
        lessons = [self.teacher.lesson(self.people[index], rng) for index in self._whom()]
        with self.accelerator.autocast():
            loss = step_loss(self.student, self.model, lessons, config, rng)
        return loss, {"loss": float(loss.detach())}

    def _whom(self) -> list[int]:
        """The people of this step and process: everybody once, then in another order."""
        count, processes = len(self.people), self.accelerator.num_processes
        first = (self.step * processes + self.accelerator.process_index) * self.config.batch
        places = [divmod(first + k, count) for k in range(self.config.batch)]
        orders = {
            e: np.random.default_rng([self.config.seed, 0, e]).permutation(count) for e, _ in places
        }
        return [int(orders[e][k]) for e, k in places]

    def picture(self) -> np.ndarray:
        """Complete, hidden, teacher and student, a row a person.  # [H, W, 3] uint8"""
        people = self.people
        with self.averaged():
            return sample_grid([self._row(people[k], k) for k in range(min(_SHOWN, len(people)))])

    def _row(self, person, index: int) -> SampleRow:
        rng, views = np.random.default_rng([self.config.seed, 2, index]), list(_SHOWN_VIEWS)
        images = self.teacher.occluded(person, rng)
        device = self.accelerator.device
        with self.accelerator.autocast():
            tokens = self.model.encode(*(image[None].to(device) for image in images))
            attributes = self.model.attributes(Tokens(tokens.body, tokens.head))
        lesson = self.teacher.lesson(person, rng)
        student = render_people(
            self.model,
            attributes,
            [(lesson.betas, lesson.pose)],
            [lesson.cameras[views]],
        )[0]
        complete = complete_inputs(person, self.config.sizes)[0]
        return SampleRow(complete, images[0], lesson.renders[views] / 255, student)
