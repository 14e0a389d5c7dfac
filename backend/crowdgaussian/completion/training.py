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
from crowdgaussian_shared.errors import DamagedFileError, MissingFileError
from torch import Tensor

from ..body.load import load_body
from ..body.model import read_arrays
from ..core.progress import setting
from ..core.training import Trainer, TrainingConfig, trained_parts, write_card
from .config import OWN_LICENCE
from .layout import HEIGHT, LAYERS, WIDTH, Sheet, nearest_points, points_on, vertex_coordinates
from .model import Completed, CompletionNet, Observed
from .stage import save_completion

PLACES, PEOPLE = "places.npz", "people_*.npz"
_KEYS = ("valid", "albedo", "seen", "pixel", "shown", "light", "tint", "guess", "label")
_HELD_BACK = 20  # every so many people are for watching, not for training
# Chances and sizes of what changes from drawing to drawing; those of the prototype.
_HIDDEN, _TINTED, _PERMUTED, _FLIPPED = 0.6, 0.5, 0.2, 0.5  # chances
_GAIN, _GAMMA = (0.75, 1.25), (0.7, 1.4)  # of a tint
_DROPPED = 0.15  # most texels that are forgotten here and there
_WIDTH = 0.75  # of the pictures, in heights
_BLOBS, _BLOB = (1, 4), (0.05, 0.16)  # how many ellipses hide something; radii in heights
_BARS, _BAR = (0, 3), (0.02, 0.06)  # how many bars do; half their width in heights
_CUT, _CUT_OFF = 0.3, (0.1, 0.6)  # chance of a straight cut, and how much it takes of what is seen
_MOST_HIDDEN = 0.75  # of what is seen: more would leave nothing to copy
_LEAST = 50  # texels seen, below which nothing is hidden


@dataclass(frozen=True)
class Lesson:
    """A batch to learn from."""

    observed: Observed
    truth: Tensor  # [B, V, 3] sRGB in the photo's light
    valid: Tensor  # [B, V] 0 or 1: the truth is known


class DressedPeople:
    """The samples of a folder: people times views times looks."""

    def __init__(self, folder: Path, sheet: Sheet, held_back: bool = False) -> None:
        """Reads the places; people are read when they are asked for, and kept.

        Args:
            folder: of the data.
            sheet: whose texels are wanted.
            held_back: those who are kept from training instead of the others.

        Raises:
            CrowdGaussianError: a file is missing or damaged.
        """
        files = sorted(folder.glob(PEOPLE))
        self.files = [file for k, file in enumerate(files) if (k % _HELD_BACK == 0) == held_back]
        if not self.files:
            raise MissingFileError(
                f"{folder} holds too few people; `crowdgaussian data completion` makes them."
            )
        self.sheet, self.place = sheet, _nearest_places(folder / PLACES, sheet)
        self.kept: dict[int, dict[str, np.ndarray]] = {}

    def __len__(self) -> int:
        return len(self.files)

    def batch(self, count: int, rng: np.random.Generator, changed: bool = True) -> Lesson:
        """Random samples; changed: hidden, tinted and flipped as in training."""
        rows = [self._sample(int(rng.integers(len(self))), rng, changed) for _ in range(count)]
        *observed, truth, valid = (
            torch.from_numpy(np.ascontiguousarray(np.stack(part))) for part in zip(*rows)
        )
        return Lesson(Observed(*observed), truth, valid)

    def _person(self, number: int) -> dict[str, np.ndarray]:
        if number not in self.kept:
            arrays = read_arrays(self.files[number], _KEYS, "a person of the completion's data")
            try:
                self.kept[number] = {
                    name: values if name == "tint" else _at(values, self.place, name)
                    for name, values in arrays.items()
                }
            except IndexError as error:
                raise DamagedFileError(
                    f"{self.files[number]} does not belong to {PLACES}; make the data again."
                ) from error
        return self.kept[number]

    def _sample(
        self, number: int, rng: np.random.Generator, changed: bool
    ) -> tuple[np.ndarray, ...]:
        """Colours, seen, material, offset, truth and valid of one person, view and look."""
        person = self._person(number)
        view, look = (int(rng.integers(person["shown"].shape[axis])) for axis in (0, 1))
        light = person["light"][view].astype(np.float32)[:, None]
        tint = person["tint"][view].astype(np.float32)
        truth = (person["albedo"][look].astype(np.float32) / 255 * light * tint).clip(0, 1)
        colours = person["shown"][view, look].astype(np.float32) / 255
        seen = person["seen"][view].astype(np.float32) / 255
        material = person["label"][view].astype(np.int64)
        offset, valid = person["guess"][view].astype(np.float32), person["valid"].astype(np.float32)
        if changed:
            if rng.random() < _HIDDEN:
                seen = np.where(_hidden(person["pixel"][view], seen, rng), 0, seen)
            seen = seen * (rng.random(len(seen)) > rng.uniform(0, _DROPPED))
            colours, truth = _other_colours(colours, truth, rng)
        colours = np.where(seen[:, None] > 0, colours, 0)
        sample = colours, seen.astype(np.float32), material, offset, truth, valid
        if changed and rng.random() < _FLIPPED:
            return tuple(values[self.sheet.mirror] for values in sample)
        return sample


def _at(values: np.ndarray, place: np.ndarray, name: str) -> np.ndarray:
    """Values of all places at some of them; colours and pixels have one more axis."""
    axis = values.ndim - (2 if name in ("albedo", "pixel", "shown") else 1)
    return np.take(values, place, axis)


def _nearest_places(path: Path, sheet: Sheet) -> np.ndarray:
    """The place nearest to each texel.  # [V]"""
    arrays = read_arrays(path, ("face", "bary"), "the places of the completion's data")
    body = load_body("open")
    corners = body.faces.cpu().numpy()[arrays["face"]]
    places = points_on(vertex_coordinates(body), corners, arrays["bary"].astype(float))
    return nearest_points(places, sheet, 1)[1].ravel()


def _other_colours(
    colours: np.ndarray, truth: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Both with another tint, or red, green and blue exchanged."""
    if rng.random() < _TINTED:
        gain, gamma = rng.uniform(*_GAIN, 3).astype(np.float32), np.float32(rng.uniform(*_GAMMA))
        colours, truth = ((part**gamma * gain).clip(0, 1) for part in (colours, truth))
    if rng.random() < _PERMUTED:
        order = rng.permutation(3)
        colours, truth = colours[:, order], truth[:, order]
    return colours, truth


def _hidden(pixel: np.ndarray, seen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Which texels something covers: ellipses, bars, or a straight cut.  # [V] bool"""
    place = pixel.astype(np.float32) / 255 * (_WIDTH, 1)
    shown = place[seen > 0]
    covered = np.zeros(len(seen), bool)
    if len(shown) < _LEAST:
        return covered
    for _ in range(rng.integers(*_BLOBS)):
        turn, radii = rng.uniform(0, np.pi), rng.uniform(*_BLOB, 2)
        away = (place - shown[rng.integers(len(shown))]) @ _rotation(turn) / radii
        covered |= (away**2).sum(1) < 1
    for _ in range(rng.integers(*_BARS)):
        across = _rotation(rng.uniform(0, np.pi))[0]
        away = (place - shown[rng.integers(len(shown))]) @ across
        covered |= np.abs(away) < rng.uniform(*_BAR)
    if rng.random() < _CUT:
        along = _rotation(rng.uniform(0, 2 * np.pi))[0]
        covered |= place @ along > np.quantile(shown @ along, 1 - rng.uniform(*_CUT_OFF))
    taken = (covered & (seen > 0)).sum() / len(shown)
    return covered if taken < _MOST_HIDDEN else np.zeros(len(seen), bool)


def _rotation(turn: float) -> np.ndarray:
    return np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])


# The training

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
    about = (
        f"# {WEIGHTS}\n\nA completion network of CrowdGaussian for Blender: it colours what a "
        "photo does not show of a person from what it shows."
    )
    write_card(trainer.out / CARD, about, facts)
    return path
