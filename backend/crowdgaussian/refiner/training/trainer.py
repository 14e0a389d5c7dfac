# SPDX-License-Identifier: Apache-2.0
"""Training of a refiner with Self-Calibrated Learning (CrowdGaussian, section 3.3).

Everything random in a step is drawn from its number, so a training that was stopped goes on as if
it had not been: weights, their average, AdamW's moments and the step come back from the last
checkpoint. On several GPUs (`accelerate launch -m crowdgaussian train refiner ...`) each process
draws its own crops of a step; the gradients are averaged.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ...core.progress import Report, silent
from ...core.training import WeightAverage, log_samples, open_log, require_finite, run_steps
from .checkpoint import TrainingState
from .config import RefinerTraining, calibrate
from .dataset import PairDataset, draw_crop
from .losses import RefinerLoss

_SHOWN = 4  # views of a sample grid


class Trainer:
    """One training of one network in one folder."""

    def __init__(
        self,
        network: nn.Module,
        data: PairDataset,
        out: Path,
        config: RefinerTraining,
        loss: RefinerLoss,
    ) -> None:
        """Takes up the checkpoint of the folder where there is one.

        Args:
            network: (images, normals) -> images; float32; parameters that need no gradient stay.
            data: the pairs to learn from.
            out: folder for checkpoint, samples and TensorBoard.
            config: how.
            loss: with the frozen networks it needs.

        Raises:
            CrowdGaussianError: the folder holds a training with other settings, or TensorBoard is
                missing.
        """
        self.data, self.out, self.config = data, out, config
        gpu = torch.cuda.is_available()
        self.accelerator = Accelerator(cpu=not gpu, mixed_precision=precision(config, gpu))
        self.network = network.to(self.accelerator.device).train()
        self.loss = loss.to(self.accelerator.device)
        self.parameters = trained_parts(network)
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(), lr=config.lr, weight_decay=config.weight_decay
        )
        self.average = WeightAverage(self.parameters, config.ema) if config.ema else None
        self.about = {
            "settings": asdict(config),
            "network": asdict(network.config),
            "views": len(data),
        }
        self.state = TrainingState(self.parameters, self.optimizer, self.average)
        self.step = self.state.load(out, self.about)
        self.student = self.accelerator.prepare_model(network)  # gives float32 in any case
        self.writer = open_log(out, self.step) if self.accelerator.is_main_process else None
        if self.writer is not None:
            self.writer.add_text("losses", config.losses.in_words(), self.step)

    def run(self, report: Report = silent) -> None:
        """Every step that is left; see run_steps about stops."""
        try:
            run_steps(
                self, self.config.steps, self.config.save_every, self.config.sample_every, report
            )
        finally:
            if self.writer is not None:
                self.writer.close()

    def iterate(self) -> str:
        """One step; returns its losses in words."""
        config, device = self.config, self.accelerator.device
        given, truth, normals = self.draw(self.accelerator.process_index)
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate(self.step)
        found = self.student(given.to(device), normals.to(device))
        loss, terms = self.loss(found, truth.to(device), self.step)
        require_finite(loss, self.step)
        self.accelerator.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), config.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        if self.average is not None:
            self.average.update(self.step)
        return self._log(terms)

    def draw(self, process: int) -> tuple[Tensor, Tensor, Tensor]:
        """This step's input [B, 3, s, s], target and normals, in one of the processes."""
        config = self.config
        rng = np.random.default_rng([config.seed, self.step, process])
        generator = torch.Generator().manual_seed(
            config.seed * 1_000_003 + self.step + process * 1_000_000_007
        )
        crops = [draw_crop(self.data, config.crop, rng) for _ in range(config.batch)]
        coarse, truth, normals = (torch.stack(part) for part in zip(*crops, strict=True))
        return calibrate(coarse, truth, config.calibration, generator), truth, normals

    def _log(self, terms: dict[str, float]) -> str:
        values = torch.tensor(list(terms.values()), device=self.accelerator.device)
        means = dict(zip(terms, self.accelerator.reduce(values, "mean").tolist()))
        if self.writer is not None:
            for name, value in means.items():
                self.writer.add_scalar(name, value, self.step)
        return ", ".join(f"{name} {value:.4f}" for name, value in means.items())

    def save(self) -> None:
        """Writes the checkpoint."""
        if self.accelerator.is_main_process:
            self.state.save(self.out, self.step, self.about)

    def averaged(self) -> AbstractContextManager[None]:
        """The network as the result of the training while the block runs: averaged, if asked."""
        return nullcontext() if self.average is None else self.average.in_place()

    @torch.no_grad()
    def sample(self) -> None:
        """Coarse, refined and true, a row a view."""
        if self.writer is None:
            return
        rows, device = [], self.accelerator.device
        for k in range(_SHOWN):
            pair = self.data[k * (len(self.data) - 1) // max(1, _SHOWN - 1)]
            coarse, truth = pair.on(torch.ones(3, 1, 1))
            with self.averaged():
                refined = self.network(coarse[None].to(device), pair.normals[None].to(device))
            rows.append(torch.cat([coarse, refined[0].cpu(), truth], 2))
        picture = torch.cat(rows, 1).clamp(0, 1).mul(255).byte().movedim(0, -1).numpy()
        log_samples(self.writer, self.out, self.step, picture)


def precision(config: RefinerTraining, gpu: bool) -> str:
    """As accelerate names it; weights, gradients and AdamW are float32 in any case."""
    return "bf16" if config.bfloat16 and gpu else "no"


def trained_parts(network: nn.Module) -> dict[str, nn.Parameter]:
    """Every parameter that training changes, by name."""
    return {name: value for name, value in network.named_parameters() if value.requires_grad}
