# SPDX-License-Identifier: Apache-2.0
"""Self-supervised training of LORM's adapters (CrowdGaussian, section 3.2).

Everything random in a step is drawn from its number, so a training that was stopped goes on as if
it had not been. On several GPUs (`accelerate launch -m crowdgaussian train lorm ...`) each process
takes its own people of a step; the gradients are averaged.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from accelerate import Accelerator
from crowdgaussian_shared.errors import InputError
from torch import Tensor

from ...core.progress import Progress, Report, silent
from ...core.training import Trainer, trained_parts
from ..model.adapters import adapter_layers, add_adapters, save_adapters
from ..model.lorm import LormModel, Tokens, render_people
from .dataset import PeopleDataset, complete_inputs
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


RESULT = "lorm_adapters.safetensors"
_SHOWN, _SHOWN_VIEWS = 4, (0, 6, 12, 18)


@dataclass(frozen=True)
class TrainJob:
    """What to train on and where to."""

    people: PeopleDataset
    out: Path
    config: LormTraining
    cache: Path | None = None  # of tokens and renders; None: OUT/cache


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
        super().__init__(trained_parts(model), job.out, config, accelerator, facts)
        self.student = accelerator.prepare_model(Student(model))

    def run(self, report: Report = silent) -> None:
        """Reads everybody, then takes every step that is left."""
        self._prepare(report)
        super().run(report)

    def _prepare(self, report: Report) -> None:
        """Reads everybody once and renders the teacher, so that a bad person is told at once."""
        people, process = self.job.people, self.accelerator
        mine = range(process.process_index, len(people), process.num_processes)
        for count, index in enumerate(mine):
            report(Progress("teacher", count / len(mine), index, len(people)))
            self.teacher.renders(people[index])
        report(Progress("teacher", 1.0))
        process.wait_for_everyone()

    def loss(self) -> tuple[Tensor, dict[str, float]]:
        """Of this step's people."""
        config = self.config
        rng = np.random.default_rng([config.seed, 1, self.step, self.accelerator.process_index])
        lessons = [self.teacher.lesson(self.job.people[index], rng) for index in self._whom()]
        with self.accelerator.autocast():
            loss = step_loss(self.student, self.model, lessons, config, rng)
        return loss, {"loss": float(loss.detach())}

    def _whom(self) -> list[int]:
        """The people of this step and process: everybody once, then in another order."""
        count, processes = len(self.job.people), self.accelerator.num_processes
        first = (self.step * processes + self.accelerator.process_index) * self.config.batch
        places = [divmod(first + k, count) for k in range(self.config.batch)]
        orders = {
            e: np.random.default_rng([self.config.seed, 0, e]).permutation(count) for e, _ in places
        }
        return [int(orders[e][k]) for e, k in places]

    def picture(self) -> np.ndarray:
        """Complete, hidden, teacher and student, a row a person.  # [H, W, 3] uint8"""
        people = self.job.people
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
