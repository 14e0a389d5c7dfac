# SPDX-License-Identifier: Apache-2.0
"""Self-supervised training of LORM's adapters (CrowdGaussian, section 3.2).

Everything random in a step is drawn from its number, so a training that was stopped goes on as if
it had not been: adapters, AdamW's moments and the step come back from the last checkpoint. On
several GPUs (`accelerate launch -m crowdgaussian train lorm ...`) each process takes its own people
of a step; the gradients are averaged.
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
from ...core.training import log_samples, open_log, require_finite, run_steps
from ..model.adapters import adapter_layers, add_adapters, save_adapters, trainable
from ..model.lorm import LormModel, Tokens
from .checkpoint import checkpoints, load_state, save_state
from .config import TrainConfig
from .dataset import PeopleDataset
from .distill import Student, Teacher, pick, render_people, step_loss
from .sample import complete_inputs
from .teacher_cache import TeacherCache, digest, fingerprint

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
_BETAS = (0.9, 0.999)


@dataclass(frozen=True)
class TrainJob:
    """What to train on and where to."""

    people: PeopleDataset
    out: Path
    config: TrainConfig
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
    trainer = Trainer(model, job)
    try:
        trainer.run(report)
    finally:
        trainer.close()
    return job.out / RESULT


class Trainer:
    """One training; see train()."""

    def __init__(self, model: LormModel, job: TrainJob):
        config, self.job = job.config, job
        if adapter_layers(model):
            raise InputError("This network has adapters already; train a base network.")
        torch.manual_seed(config.seed)
        device = next(model.parameters()).device
        short = config.bfloat16 and device.type == "cuda"
        if device.type == "cuda" and device.index is not None:
            torch.cuda.set_device(device)  # where accelerate goes
        self.accelerator = Accelerator(
            cpu=device.type == "cpu", mixed_precision="bf16" if short else "no"
        )
        self.model = model.to(self.accelerator.device).eval()
        cache = TeacherCache(job.cache or job.out / "cache", fingerprint(model))
        add_adapters(model, config.rank, config.targets)
        model.transformer.gradient_checkpointing = config.gradient_checkpointing
        self.optimizer = torch.optim.AdamW(
            trainable(model), lr=config.lr, betas=_BETAS, weight_decay=config.weight_decay
        )
        self.teacher = Teacher(model, config, cache)
        self.about = {
            "settings": config.plain(),
            "people": digest(*job.people.names),
            "network": cache.fingerprint,
        }
        saved = checkpoints(job.out)
        self.step = load_state(saved[-1], model, self.optimizer, self.about) if saved else 0
        self.saved = self.step if saved else -1
        self.student = self.accelerator.prepare_model(Student(model))
        self.writer = open_log(job.out, self.step) if self.accelerator.is_main_process else None
        self.losses: list[float] = []

    def run(self, report: Report) -> None:
        """Every step that is left."""
        config = self.job.config
        self._prepare(report)
        run_steps(self, config.iterations, config.save_every, config.sample_every, report)
        if self.accelerator.is_main_process:
            save_adapters(self.model, self.job.out / RESULT)

    def _prepare(self, report: Report) -> None:
        """Reads everybody once and renders the teacher, so that a bad person is told at once."""
        people, process = self.job.people, self.accelerator
        mine = range(process.process_index, len(people), process.num_processes)
        for count, index in enumerate(mine):
            report(Progress("teacher", count / len(mine), index, len(people)))
            self.teacher.renders(people[index])
        report(Progress("teacher", 1.0))
        process.wait_for_everyone()

    def iterate(self) -> str:
        """One step; returns its loss in words."""
        config = self.job.config
        rng = np.random.default_rng([config.seed, 1, self.step, self.accelerator.process_index])
        lessons = [self.teacher.lesson(self.job.people[index], rng) for index in self._whom()]
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate(self.step)
        with self.accelerator.autocast():
            loss = step_loss(self.student, self.model, lessons, config, rng)
        require_finite(loss, self.step)
        self.accelerator.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(trainable(self.model), config.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        value = float(self.accelerator.reduce(loss.detach(), "mean"))
        if self.writer is not None:
            for name, number in (
                ("loss", value),
                ("gradient", float(norm)),
                ("lr", config.learning_rate(self.step - 1)),
            ):
                self.writer.add_scalar(name, number, self.step)
        self.losses.append(value)
        return f"loss {value:.5f}"

    def _whom(self) -> list[int]:
        """The people of this step and process: everybody once, then in another order."""
        count, processes = len(self.job.people), self.accelerator.num_processes
        first = (self.step * processes + self.accelerator.process_index) * self.job.config.batch
        places = [divmod(first + k, count) for k in range(self.job.config.batch)]
        orders = {
            e: np.random.default_rng([self.job.config.seed, 0, e]).permutation(count)
            for e, _ in places
        }
        return [int(orders[e][k]) for e, k in places]

    def save(self) -> None:
        """Writes a checkpoint of the steps done, once."""
        if self.accelerator.is_main_process and self.step > max(self.saved, 0):
            save_state(self.job.out, self.model, self.optimizer, self.step, self.about)
            self.saved = self.step

    @torch.no_grad()
    def sample(self) -> None:
        """Complete, hidden, teacher and student, a row a person."""
        if not self.accelerator.is_main_process:
            return
        rows = [self._row(self.job.people[k], k) for k in range(min(_SHOWN, len(self.job.people)))]
        log_samples(self.writer, self.job.out, self.step, sample_grid(rows))

    def _row(self, person, index: int) -> SampleRow:
        rng, views = np.random.default_rng([self.job.config.seed, 2, index]), list(_SHOWN_VIEWS)
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
            [pick(lesson.cameras, np.array(views))],
        )[0]
        complete = complete_inputs(person, self.job.config.sizes)[0]
        return SampleRow(complete, images[0], lesson.renders[views] / 255, student)

    def close(self) -> None:
        """Ends the TensorBoard file."""
        if self.writer is not None:
            self.writer.close()
