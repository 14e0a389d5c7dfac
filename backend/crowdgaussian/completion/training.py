# SPDX-License-Identifier: Apache-2.0
"""Training of the completion network on dressed people: the whole person teaches, hidden in part.

Everything random in a step is drawn from its number, so a training that was stopped goes on as if
it had not been.
"""

import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from crowdgaussian_shared.formats.atomic import write_bytes
from torch import Tensor

from ..core.progress import setting
from ..core.training import Trainer, TrainingConfig, trained_parts
from .dataset import DressedPeople, Lesson
from .layout import HEIGHT, LAYERS, WIDTH, Sheet
from .model import Completed, CompletionNet, Observed
from .stage import save_completion
from .weights import OWN_LICENCE

# Weights of the loss, the prototype's; not measured one by one.
_SEEN_COUNTS = 0.1  # of what the photo shows well, against what it does not
_EDGES = 0.3  # of differences between neighbours: edges stay edges
_ERROR = 0.02  # of the likelihood of the predicted error (Laplace); more bends the colours to it
_UNSEEN = 0.1  # of how well a texel is seen, under which it is watched
_WATCHED, _SHOWN = 6, 4  # batches of people held back that are measured; people of a sample grid


@dataclass(frozen=True)
class CompletionTraining(TrainingConfig):
    """How the network is trained."""

    steps: int = setting(4000, "how many")
    batch: int = setting(8, "people in each process")
    lr: float = setting(2e-3, "learning rate")
    ema: float = setting(0.99, "decay of averaged weights that become the result; 0: none")


class CompletionTrainer(Trainer):
    """One training in one folder."""

    config: CompletionTraining

    def __init__(
        self,
        network: CompletionNet,
        sheet: Sheet,
        data: Path,
        out: Path,
        config: CompletionTraining,
    ) -> None:
        """Takes up the checkpoint of the folder where there is one.

        Args:
            network: to be trained.
            sheet: the network's.
            data: folder of `crowdgaussian data completion`.
            out: folder for checkpoint, samples and TensorBoard.
            config: how.

        Raises:
            CrowdGaussianError: there are no people, or the folder holds another training.
        """
        accelerator = Accelerator(mixed_precision="no")
        self.people = DressedPeople(data, sheet)
        self.others = DressedPeople(data, sheet, held_back=True)
        self.network = network.to(accelerator.device).train()
        self.sheet, self.pairs = sheet, neighbours(sheet).to(accelerator.device)
        facts = {"network": asdict(network.config), "people": len(self.people)}
        super().__init__(trained_parts(network), out, config, accelerator, facts)
        self.student = accelerator.prepare_model(network)

    def loss(self) -> tuple[Tensor, dict[str, float]]:
        """Of this step's people."""
        process = self.accelerator.process_index
        rng = np.random.default_rng([self.config.seed, self.step, process])
        lesson = self._here(self.people.batch(self.config.batch, rng))
        return completion_loss(self.student(lesson.observed), lesson, self.pairs)

    def sample(self) -> None:
        """Draws a picture and measures people who are held back, on the main process."""
        super().sample()
        if self.writer is not None:
            self.writer.add_scalar("unseen PSNR", self.unseen_psnr(), self.step)

    @torch.no_grad()
    def unseen_psnr(self) -> float:
        """Of what the photo does not show of people held back, decibels."""
        error = count = 0.0
        with self.averaged():
            for number in range(_WATCHED):
                rng = np.random.default_rng(number)
                lesson = self._here(self.others.batch(self.config.batch, rng, number % 2 > 0))
                colours = self.network(lesson.observed).colours.clamp(0, 1)
                weight = lesson.valid * (lesson.observed.seen < _UNSEEN)
                square = ((colours - lesson.truth) ** 2).mean(2)
                error += float((weight * square).sum())
                count += float(weight.sum())
        return -10 * math.log10(max(error, 1e-9) / max(count, 1.0))

    def picture(self) -> np.ndarray:
        """What is seen, the result and the truth, a row a person.  # [H, W, 3] uint8"""
        lesson = self._here(self.others.batch(_SHOWN, np.random.default_rng(0)))
        with self.averaged():
            colours = self.network(lesson.observed).colours
        given = lesson.observed.colours * lesson.observed.seen[..., None]
        rows = [
            torch.cat([self._drawn(values[k]) for values in (given, colours, lesson.truth)], 1)
            for k in range(_SHOWN)
        ]
        return torch.cat(rows, 0).clamp(0, 1).mul(255).byte().cpu().numpy()

    def _drawn(self, values: Tensor) -> Tensor:
        """Front and back side by side.  # [V, 3] -> [H, 2 W, 3]"""
        image = values.new_zeros(LAYERS * HEIGHT * WIDTH, 3)
        image[torch.from_numpy(self.sheet.cell).to(values.device)] = values
        return torch.cat(list(image.view(LAYERS, HEIGHT, WIDTH, 3)), 1)

    def _here(self, lesson: Lesson) -> Lesson:
        device = self.accelerator.device
        observed = Observed(*(part.to(device) for part in lesson.observed))
        return Lesson(observed, lesson.truth.to(device), lesson.valid.to(device))


def neighbours(sheet: Sheet) -> Tensor:
    """Texels beside or above each other.  # [2, E] int64"""
    texel = np.full(LAYERS * HEIGHT * WIDTH, -1)
    texel[sheet.cell] = np.arange(len(sheet))
    grid = texel.reshape(LAYERS, HEIGHT, WIDTH)
    beside = np.stack([grid[:, :, 1:].ravel(), grid[:, :, :-1].ravel()])
    above = np.stack([grid[:, 1:].ravel(), grid[:, :-1].ravel()])
    pairs = np.concatenate([beside, above], 1)
    return torch.from_numpy(pairs[:, (pairs >= 0).all(0)])


def completion_loss(
    done: Completed, lesson: Lesson, pairs: Tensor
) -> tuple[Tensor, dict[str, float]]:
    """Absolute error of colours and of their differences, and how well the error is foretold.

    Args:
        done: of the network.
        lesson: the truth.
        pairs: [2, E] of neighbours.
    """
    weight = lesson.valid * (1 - (1 - _SEEN_COUNTS) * lesson.observed.seen)
    total = weight.sum().clamp(min=1)
    gap = done.colours - lesson.truth
    error = gap.abs().mean(2)  # [B, V]
    colour = (weight * error).sum() / total
    one, other = pairs
    both = weight[:, one] * weight[:, other]
    edges = (both * (gap[:, one] - gap[:, other]).abs().mean(2)).sum() / total
    foretold = error.detach() * torch.exp(-done.log_error) + done.log_error
    doubt = (weight * foretold).sum() / total
    terms = {"colour": float(colour.detach()), "edges": float(edges.detach())}
    terms["doubt"] = float(doubt.detach())
    return colour + _EDGES * edges + _ERROR * doubt, terms


# What is said of a trained network

WEIGHTS, CARD = "completion.safetensors", "completion_card.md"


def save_trained(trainer: CompletionTrainer, command: str) -> Path:
    """Writes OUT/completion.safetensors, averaged weights in half precision, and OUT's card."""
    config, network = trainer.config, trainer.network
    facts = {
        "licence": OWN_LICENCE,
        "people": f"{len(trainer.people)} made up by the program; no photo of anybody, no scan",
        "command": command,
        "steps": f"{config.steps} of {config.batch} people, AdamW {config.lr:g}",
        "seed": str(config.seed),
        "averaged weights": f"decay {config.ema:g}" if config.ema else "no",
    }
    path, count = trainer.out / WEIGHTS, sum(value.numel() for value in network.parameters())
    with trainer.averaged():
        save_completion(network, path, facts)
    facts = {"parameters": f"{count:,}"} | facts
    facts["unseen places of people held back"] = f"{trainer.unseen_psnr():.2f} dB"
    rows = "\n".join(f"- **{name}:** {value}" for name, value in facts.items())
    text = (
        f"# {WEIGHTS}\n\nA completion network of CrowdGaussian for Blender: it colours what a "
        f"photo does not show of a person from what it shows.\n\n{rows}\n"
    )
    write_bytes(trainer.out / CARD, text.encode())
    return path
