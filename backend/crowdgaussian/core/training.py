# SPDX-License-Identifier: Apache-2.0
"""A training of any network: step, report, checkpoint, pictures, curves.

A checkpoint is written between two steps and never from a half-done one. Whoever watches asks for
a stop by raising Cancelled from the report, which comes between steps: that saves first, on all
processes after the same step. A KeyboardInterrupt may come anywhere, so it saves nothing; the
training goes on from the last checkpoint.
"""

import json
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from crowdgaussian_shared.errors import Cancelled, DamagedFileError, MissingFileError, SettingError
from crowdgaussian_shared.formats.atomic import write_bytes
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from .optim import warmed_cosine
from .progress import Progress, Report, setting, silent

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch.utils.tensorboard import SummaryWriter


class Training(Protocol):
    """What the loop needs of a training."""

    accelerator: "Accelerator"
    step: int  # how many are done

    def iterate(self) -> str:
        """One step more; returns what to say of it."""

    def save(self) -> None:
        """Writes a checkpoint of the steps done, on the main process."""

    def sample(self) -> None:
        """Draws pictures, on the main process."""


def run_steps(
    training: Training, steps: int, save_every: int, sample_every: int, report: Report
) -> None:
    """Every step that is left.

    Raises:
        Cancelled: by `report`, after a checkpoint.
    """
    while training.step < steps:
        text = training.iterate()
        progress = Progress("train", training.step / steps, message=f"step {training.step}, {text}")
        stopped = _stopped(training.accelerator, report, progress)
        last = training.step == steps
        if stopped or last or training.step % save_every == 0:
            training.save()
        if stopped:
            raise Cancelled
        if last or training.step % sample_every == 0:
            training.sample()


def _stopped(accelerator: "Accelerator", report: Report, progress: Progress) -> bool:
    """Whether any process was asked to stop: then all do, or the others would wait for ever."""
    try:
        report(progress)
        stop = False
    except Cancelled:
        stop = True
    if accelerator.num_processes == 1:
        return stop
    votes = torch.tensor(float(stop), device=accelerator.device)
    return bool(accelerator.reduce(votes, "sum") > 0)


# The exponential moving average of a network's weights while it is trained


class WeightAverage:
    """Weights that follow those of a training slowly and are calmer than them."""

    def __init__(self, parameters: dict[str, nn.Parameter], decay: float) -> None:
        """Starts at the weights as they are.

        Args:
            parameters: what is trained, by name.
            decay: share of the old average that a step keeps, under 1.
        """
        self.parameters, self.decay = parameters, decay
        self.values = {name: value.detach().clone() for name, value in parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in the weights after `step` steps; early ones count more, as they change fast."""
        keep = min(self.decay, (1 + step) / (10 + step))
        for name, value in self.parameters.items():
            self.values[name].lerp_(value.detach(), 1 - keep)

    def load(self, values: dict[str, Tensor]) -> None:
        """Goes on from a saved average; KeyError where one is missing."""
        for name, value in self.values.items():
            value.copy_(values[name])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The network has the averaged weights while the block runs."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for name, value in self.parameters.items():
            value.data, self.values[name] = self.values[name], value.data


# What trainings of any network leave to look at: TensorBoard's curves and sample pictures


def open_log(out: Path, step: int) -> "SummaryWriter":
    """TensorBoard's file in OUT/tensorboard, without what came after `step`.

    Raises:
        MissingFileError: TensorBoard is missing.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingFileError(
            "Training needs TensorBoard; install it with "
            "`pip install crowdgaussian[networks,train]`."
        ) from error
    return SummaryWriter(str(out / "tensorboard"), purge_step=step + 1)


def log_samples(log: "SummaryWriter", out: Path, step: int, picture: np.ndarray) -> None:
    """A sample grid [H, W, 3] uint8 into OUT/samples and into the log."""
    path = out / "samples" / f"step_{step:06d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
    log.add_image("samples", picture, step, dataformats="HWC")


def require_finite(loss: Tensor, step: int, accelerator: "Accelerator") -> None:
    """Raises SettingError on every process when the loss of one of them is no number.

    A process that stopped alone would leave the others waiting for its gradients.
    """
    share = accelerator.reduce(loss.detach().isfinite().float(), "mean")
    if float(share) < 1.0:
        raise SettingError(
            f"The loss of step {step} is no number; go on from the "
            "last checkpoint with a lower learning rate (--lr)."
        )


# One training of one network in one folder

CHECKPOINT = "checkpoint.safetensors"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")
_RANDOM = "random"


@dataclass(frozen=True)
class TrainingConfig:
    """What every training is told."""

    steps: int = setting(10_000, "how many")
    batch: int = setting(1, "in each process")
    lr: float = setting(1e-3, "learning rate")
    weight_decay: float = 0.01
    warmup: int = 50  # steps
    clip: float = 1.0  # of the gradient's norm
    seed: int = setting(0, "of everything random")
    save_every: int = setting(500, "steps between checkpoints")
    sample_every: int = setting(500, "steps between pictures")
    ema: float = setting(
        0.0, "decay of averaged weights that become the result, such as 0.999; 0: none"
    )
    bfloat16: bool = True  # the network's arithmetic on a GPU; weights and losses are float32

    def __post_init__(self) -> None:
        self.require_positive("steps", "batch", "save_every", "sample_every")
        if not 0 < self.lr < math.inf:
            raise SettingError("The learning rate of a training must be above 0.")
        if not 0 <= self.ema < 1:
            raise SettingError(
                "The decay of averaged weights (--ema) must be at least 0 "
                "and below 1, such as 0.999."
            )

    def require_positive(self, *names: str) -> None:
        """Raises CrowdGaussianError where one of these settings is below 1."""
        for name in names:
            if getattr(self, name) < 1:
                raise SettingError(f"The setting {name} of a training must be at least 1.")

    def learning_rate(self, step: int) -> float:
        """That of a step, from 0."""
        return warmed_cosine(self.lr, step, self.steps, self.warmup)


class Trainer:
    """Steps of AdamW until all are done; a subclass has the loss and the pictures.

    Everything random in a step has to be drawn from its number; then a training that was stopped
    goes on as if it had not been: weights, their average, AdamW's moments, torch's random state and
    the step come back from OUT/checkpoint.safetensors.
    """

    def __init__(
        self,
        parameters: dict[str, nn.Parameter],
        out: Path,
        config: TrainingConfig,
        accelerator: "Accelerator",
        facts: dict[str, Any],
    ) -> None:
        """Takes up the checkpoint of the folder where there is one.

        Args:
            parameters: what is trained, by name; on the accelerator's device.
            out: folder for checkpoint, samples and TensorBoard.
            config: how.
            accelerator: of this process.
            facts: what else has to be the same when a training goes on, as JSON can hold it.

        Raises:
            CrowdGaussianError: the checkpoint is damaged or of a training with other settings, or
                TensorBoard is missing.
        """
        self.parameters, self.out, self.config = parameters, out, config
        self.accelerator = accelerator
        self.optimizer = torch.optim.AdamW(
            parameters.values(), lr=config.lr, weight_decay=config.weight_decay
        )
        self.average = WeightAverage(parameters, config.ema) if config.ema else None
        self.about = {"settings": asdict(config)} | facts
        self.step = self._load()
        self.writer = open_log(out, self.step) if accelerator.is_main_process else None
        self.losses: list[float] = []  # of each step since then, in this process

    def loss(self) -> tuple[Tensor, dict[str, float]]:
        """The loss of the step to come, and what to say of it by name."""
        raise NotImplementedError

    def picture(self) -> np.ndarray:
        """What the network makes of some of the data.  # [H, W, 3] uint8"""
        raise NotImplementedError

    def run(self, report: Report = silent) -> None:
        """Every step that is left; see run_steps about stops."""
        config = self.config
        try:
            run_steps(self, config.steps, config.save_every, config.sample_every, report)
        finally:
            if self.writer is not None:
                self.writer.close()

    def iterate(self) -> str:
        """One step; returns its losses in words."""
        rate = self.config.learning_rate(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss, terms = self.loss()
        require_finite(loss, self.step, self.accelerator)
        self.accelerator.backward(loss)
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), self.config.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        if self.average is not None:
            self.average.update(self.step)
        self.losses.append(float(loss.detach()))
        return self._log(terms, {"gradient": float(norm), "lr": rate})

    def _log(self, terms: dict[str, float], others: dict[str, float]) -> str:
        values = torch.tensor(list(terms.values()), device=self.accelerator.device)
        means = dict(zip(terms, self.accelerator.reduce(values, "mean").tolist(), strict=True))
        if self.writer is not None:
            for name, value in (means | others).items():
                self.writer.add_scalar(name, value, self.step)
        return ", ".join(f"{name} {value:.5f}" for name, value in means.items())

    @torch.no_grad()
    def sample(self) -> None:
        """Draws a picture, on the main process."""
        if self.writer is not None:
            log_samples(self.writer, self.out, self.step, self.picture())

    def averaged(self) -> AbstractContextManager[None]:
        """The network as the result of the training while the block runs: averaged, if asked."""
        return nullcontext() if self.average is None else self.average.in_place()

    def save(self) -> None:
        """Writes the checkpoint, on the main process; the old one stays until this one is whole."""
        if not self.accelerator.is_main_process:
            return
        tensors: dict[str, Tensor] = {f"network.{n}": v for n, v in self.parameters.items()}
        for name, value in self.parameters.items():
            moments = self.optimizer.state[value]
            tensors |= {f"{key}.{name}": moments[key] for key in _MOMENTS if key in moments}
        if self.average is not None:
            tensors |= {f"average.{name}": value for name, value in self.average.values.items()}
        plain = {name: kept.detach().cpu().contiguous() for name, kept in tensors.items()}
        facts = {"step": str(self.step), "about": json.dumps(self.about)}
        write_bytes(self.out / CHECKPOINT, save(plain | {_RANDOM: torch.get_rng_state()}, facts))

    def _load(self) -> int:
        path = self.out / CHECKPOINT
        if not path.exists():
            return 0
        try:
            with safe_open(path, "pt") as stream:
                facts, state = stream.metadata(), {k: stream.get_tensor(k) for k in stream.keys()}
            if not self._goes_on_from(json.loads(facts["about"])):
                raise SettingError(
                    f"{self.out} holds a training with other settings or data; give the same to "
                    "go on with it, or another output folder."
                )
            self._take(state)
            return int(facts["step"])
        except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
            raise DamagedFileError(f"{path} is damaged; remove it to start over.") from error

    def _take(self, state: dict[str, Tensor]) -> None:
        for name, value in self.parameters.items():
            value.data.copy_(state[f"network.{name}"])
            if f"step.{name}" in state:
                self.optimizer.state[value] = {
                    key: state[f"{key}.{name}"].to("cpu" if key == "step" else value.device)
                    for key in _MOMENTS
                }
        if self.average is not None:
            self.average.load({name: state[f"average.{name}"] for name in self.parameters})
        if _RANDOM in state:  # checkpoints of refiners had none
            torch.set_rng_state(state[_RANDOM])

    def _goes_on_from(self, stored: dict[str, Any]) -> bool:
        """Whether a checkpoint is of this training; settings newer than it had their default."""
        usual = asdict(type(self.config)())
        mine, usual = json.loads(json.dumps([self.about, usual]))
        return stored | {"settings": usual | stored["settings"]} == mine


def trained_parts(network: nn.Module) -> dict[str, nn.Parameter]:
    """Every parameter that training changes, by name."""
    return {name: value for name, value in network.named_parameters() if value.requires_grad}


def write_card(path: Path, about: str, rows: dict[str, str], last: str = "") -> None:
    """Writes what there is to say of a network beside its weights.

    Args:
        path: of the card, Markdown.
        about: its heading and what the network does.
        rows: facts, a line each.
        last: what follows them.
    """
    lines = [about, "", *(f"- **{key}:** {value}" for key, value in rows.items()), ""]
    write_bytes(path, "\n".join([*lines, *([last, ""] if last else [])]).encode())
