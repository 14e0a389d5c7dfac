# SPDX-License-Identifier: Apache-2.0
"""Training of a refiner with Self-Calibrated Learning (CrowdGaussian, section 3.3).

Everything random in a step is drawn from its number, so a training that was stopped goes on as if
it had not been: weights, AdamW's moments and the step come back from the last checkpoint.
"""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from crowdgaussian_shared.errors import Cancelled, CrowdGaussianError
from crowdgaussian_shared.files import write_bytes
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ..progress import Progress, Report, silent
from ..training_log import log_samples, open_log, require_finite
from .calibrated import CalibrationConfig, calibrate
from .losses import LossWeights, RefinerLoss
from .pairs import PairDataset

CHECKPOINT = "checkpoint.safetensors"
_SHOWN = 4  # views of a sample grid
_TRIES = 8  # for a crop that shows somebody
_BODY = 0.05  # share of such a crop that bodies fill


@dataclass(frozen=True)
class RefinerTraining:
    """How to train; steps and batch are the paper's."""

    steps: int = 10_000
    batch: int = 2
    crop: int = 128  # pixels, a side of what the network sees at once
    lr: float = 1e-3
    weight_decay: float = 0.01
    warmup: int = 50  # steps
    clip: float = 1.0  # of the gradient's norm
    seed: int = 0
    save_every: int = 500  # steps
    sample_every: int = 500
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    losses: LossWeights = field(default_factory=LossWeights)

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "save_every", "sample_every"):
            if getattr(self, name) < 1:
                raise CrowdGaussianError(f"The setting {name} of a training must be at least 1.")
        if self.crop < 32:
            raise CrowdGaussianError("Crops of a training must have at least 32 pixels a side.")

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, then down to 2 % along a cosine."""
        warm = min(1.0, (step + 1) / max(1, self.warmup))
        return self.lr * warm * (0.51 + 0.49 * math.cos(math.pi * step / self.steps))


class Trainer:
    """One training of one network in one folder."""

    def __init__(self, network: nn.Module, data: PairDataset, out: Path, config: RefinerTraining,
                 loss: RefinerLoss) -> None:
        """Takes up the checkpoint of the folder where there is one.

        Args:
            network: (images, normals) -> images; parameters that need no gradient stay.
            data: the pairs to learn from.
            out: folder for checkpoint, samples and TensorBoard.
            config: how.
            loss: with the frozen networks it needs.

        Raises:
            CrowdGaussianError: the folder holds a training with other settings, or TensorBoard is
                missing.
        """
        self.data, self.out, self.config = data, out, config
        self.accelerator = Accelerator(cpu=not torch.cuda.is_available())
        self.network = network.to(self.accelerator.device).train()
        self.loss = loss.to(self.accelerator.device)
        self.parameters = trained_parts(network)
        self.optimizer = torch.optim.AdamW(self.parameters.values(), lr=config.lr,
                                           weight_decay=config.weight_decay)
        self.about = {"settings": asdict(config), "network": asdict(network.config),
                      "views": len(data)}
        self.step = self._load()
        self.writer = open_log(out, self.step)

    def run(self, report: Report = silent) -> None:
        """Every step that is left; a stop saves a checkpoint first."""
        try:
            while self.step < self.config.steps:
                terms = self._iterate()
                text = ", ".join(f"{name} {value:.4f}" for name, value in terms.items())
                report(Progress("train", self.step / self.config.steps,
                                message=f"step {self.step}, {text}"))
                last = self.step == self.config.steps
                if last or self.step % self.config.save_every == 0:
                    self.save()
                if last or self.step % self.config.sample_every == 0:
                    self._sample()
        except (Cancelled, KeyboardInterrupt):
            self.save()
            raise
        finally:
            self.writer.close()

    def _iterate(self) -> dict[str, float]:
        config = self.config
        rng = np.random.default_rng([config.seed, self.step])
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + self.step)
        crops = [draw_crop(self.data, config.crop, rng) for _ in range(config.batch)]
        coarse, truth, normals = (torch.stack(part) for part in zip(*crops, strict=True))
        given = calibrate(coarse, truth, config.calibration, generator)
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate(self.step)
        device = self.accelerator.device
        found = self.network(given.to(device), normals.to(device))
        loss, terms = self.loss(found, truth.to(device), self.step)
        require_finite(loss, self.step)
        self.accelerator.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), config.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        for name, value in terms.items():
            self.writer.add_scalar(name, value, self.step)
        return terms

    def save(self) -> None:
        """Writes the checkpoint; the older one stays until the new one is whole."""
        state = {f"network.{name}": value for name, value in self.parameters.items()}
        for name, value in self.parameters.items():
            state |= {f"{key}.{name}": number
                      for key, number in self.optimizer.state[value].items()}
        plain = {name: value.detach().cpu().contiguous() for name, value in state.items()}
        write_bytes(self.out / CHECKPOINT,
                    save(plain, {"step": str(self.step), "about": json.dumps(self.about)}))

    def _load(self) -> int:
        path = self.out / CHECKPOINT
        if not path.exists():
            return 0
        try:
            with safe_open(path, "pt") as stream:
                facts, state = stream.metadata(), {k: stream.get_tensor(k) for k in stream.keys()}
            if json.loads(facts["about"]) != json.loads(json.dumps(self.about)):
                raise CrowdGaussianError(
                    f"{self.out} holds a training with other settings or data; give the same to "
                    "go on with it, or another output folder.")
            for name, value in self.parameters.items():
                value.data.copy_(state[f"network.{name}"])
                self.optimizer.state[value] = {
                    key: state[f"{key}.{name}"].to("cpu" if key == "step" else value.device)
                    for key in ("step", "exp_avg", "exp_avg_sq")}
            return int(facts["step"])
        except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
            raise CrowdGaussianError(f"{path} is damaged; remove it to start over.") from error

    @torch.no_grad()
    def _sample(self) -> None:
        """Coarse, refined and true, a row a view."""
        rows, device = [], self.accelerator.device
        for k in range(_SHOWN):
            pair = self.data[k * (len(self.data) - 1) // max(1, _SHOWN - 1)]
            coarse, truth = pair.on(torch.ones(3, 1, 1))
            refined = self.network(coarse[None].to(device), pair.normals[None].to(device))[0].cpu()
            rows.append(torch.cat([coarse, refined, truth], 2))
        picture = torch.cat(rows, 1).clamp(0, 1).mul(255).byte().movedim(0, -1).numpy()
        log_samples(self.writer, self.out, self.step, picture)


def trained_parts(network: nn.Module) -> dict[str, nn.Parameter]:
    """Every parameter that training changes, by name."""
    return {name: value for name, value in network.named_parameters() if value.requires_grad}


def draw_crop(data: PairDataset, size: int,
              rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Coarse, true [3, s, s] and normals [4, s, s] of a part of a view, on a random plain colour.

    Mirrored half of the time (normals too); white or any colour behind.
    """
    pair = data[int(rng.integers(len(data)))]
    tint = torch.from_numpy(rng.random(3) if rng.random() < 0.6 else np.full(3, 1.0)).float()
    coarse, truth = pair.on(tint[:, None, None])
    height, width = truth.shape[1:]
    side = min(size, height, width) // 16 * 16
    for _ in range(_TRIES):
        top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
        window = (..., slice(top, top + side), slice(left, left + side))
        if pair.normals[3][window].mean() > _BODY:
            break
    parts = [picture[window] for picture in (coarse, truth, pair.normals)]
    if rng.random() < 0.5:
        parts = [part.flip(-1) for part in parts]
        parts[2] = parts[2] * torch.tensor([-1.0, 1, 1, 1])[:, None, None]
    return tuple(parts)
