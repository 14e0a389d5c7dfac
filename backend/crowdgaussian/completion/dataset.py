# SPDX-License-Identifier: Apache-2.0
"""Dressed people to learn completion from, as `crowdgaussian data completion` writes them.

    DATA/places.npz        face [P], bary [P, 3] of the open body
         people_00000.npz  one geometry in L looks and K views: what is there, what a photo shows

A texel takes the values of the place nearest to it, so the sheet may change without new data. Each
drawing hides other parts (as the paper's appendix A), changes colours and flips left and right.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from crowdgaussian_shared.errors import DamagedFileError, MissingFileError
from torch import Tensor

from ..body.load import load_body
from ..body.model import read_arrays
from .layout import Sheet, nearest_points, points_on, vertex_coordinates
from .model import Observed

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
