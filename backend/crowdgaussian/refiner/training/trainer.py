# SPDX-License-Identifier: Apache-2.0
"""Training of a refiner with Self-Calibrated Learning (CrowdGaussian, section 3.3).

Everything random in a step is drawn from its number, so a training that was stopped goes on as if
it had not been. On several GPUs (`accelerate launch -m crowdgaussian train refiner ...`) each
process draws its own crops of a step; the gradients are averaged.
"""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from ...core.device import choose_device
from ...core.training import Trainer, trained_parts
from .dataset import PairDataset, draw_crop
from .losses import RefinerLoss, RefinerTraining, calibrate

if TYPE_CHECKING:
    from .release import AnyRefiner

_SHOWN = 4  # views of a sample grid


class RefinerTrainer(Trainer):
    """One training of one refiner in one folder."""

    config: RefinerTraining

    def __init__(
        self,
        network: "AnyRefiner",
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
        gpu = choose_device().type == "cuda"
        accelerator = Accelerator(cpu=not gpu, mixed_precision=precision(config, gpu))
        self.data = data
        self.network = network.to(accelerator.device).train()
        self.criterion = loss.to(accelerator.device)
        facts = {"network": asdict(network.config), "views": len(data)}
        super().__init__(trained_parts(network), out, config, accelerator, facts)
        self.student = accelerator.prepare_model(network)  # gives float32 in any case
        if self.writer is not None:
            self.writer.add_text("losses", config.losses.in_words(), self.step)

    def loss(self) -> tuple[Tensor, dict[str, float]]:
        """Of this step's crops."""
        given, truth, normals = (
            part.to(self.accelerator.device) for part in self.draw(self.accelerator.process_index)
        )
        return self.criterion(self.student(given, normals), truth, self.step)

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

    def picture(self) -> np.ndarray:
        """Coarse, refined and true, a row a view.  # [H, W, 3] uint8"""
        rows, device = [], self.accelerator.device
        for k in range(_SHOWN):
            pair = self.data[k * (len(self.data) - 1) // max(1, _SHOWN - 1)]
            coarse, truth = pair.on(torch.ones(3, 1, 1))
            with self.averaged():
                refined = self.network(coarse[None].to(device), pair.normals[None].to(device))
            rows.append(torch.cat([coarse, refined[0].cpu(), truth], 2))
        return torch.cat(rows, 1).clamp(0, 1).mul(255).byte().movedim(0, -1).numpy()


def precision(config: RefinerTraining, gpu: bool) -> str:
    """As accelerate names it; weights, gradients and AdamW are float32 in any case."""
    return "bf16" if config.bfloat16 and gpu else "no"
