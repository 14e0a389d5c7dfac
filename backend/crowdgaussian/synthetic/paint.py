# SPDX-License-Identifier: Apache-2.0
"""Cloth, skin and hair painted by formula: colours of places on somebody at rest.

No picture is read, so nothing but this code decides what may be done with the result. A paint is a
function of places, so one dressed person has any number of looks, as sharp as they are looked at.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX

from ..body.model import PosedBody
from ..body.parts import ramp

_DARKEST, _LIGHTEST = 0.015, 1.0  # sRGB


@dataclass(frozen=True)
class Measures:
    """Where things are on somebody at rest, metres."""

    neck: float
    shoulder: np.ndarray  # [3] the left one
    waist: float  # a little over the pelvis, where trousers end
    hip: float
    knee: float
    ankle: float
    middle: float  # z that tells front from back
    eyes: np.ndarray  # [2, 3] left, right
    wrist: float  # x of the left one


def measure(posed: PosedBody) -> Measures:
    """The measures of a body."""
    places = {name: posed.joints[index] for name, index in JOINT_INDEX.items()}
    size = float(places["neck"][1] - places["left_ankle"][1])
    return Measures(
        float(places["neck"][1]),
        places["left_shoulder"],
        float(places["pelvis"][1] + 0.045 * size),
        float(places["left_hip"][1]),
        float(places["left_knee"][1]),
        float(places["left_ankle"][1]),
        float(places["left_shoulder"][2] + 0.015),
        np.stack([places["left_eye_smplhf"], places["right_eye_smplhf"]]),
        float(places["left_wrist"][0]),
    )


@dataclass(frozen=True)
class Spots:
    """N places on a piece of somebody at rest."""

    points: np.ndarray  # [N, 3] metres
    arm: np.ndarray  # [N] 0..1: on a sleeve
    group: np.ndarray  # [N] int, of the pieces that a garment is sewn from
    eye: np.ndarray  # [N] 0..1: on an eyeball


Paint = Callable[[Spots], np.ndarray]  # sRGB 0..1, [N, 3]


# Colours

_CLOTHS = np.array(  # what most clothes are: blacks, greys, whites, navy, denim, khaki, beige, wine
    [
        [0.06, 0.06, 0.07],
        [0.13, 0.13, 0.15],
        [0.27, 0.27, 0.29],
        [0.52, 0.52, 0.53],
        [0.78, 0.78, 0.77],
        [0.95, 0.95, 0.94],
        [0.10, 0.13, 0.25],
        [0.17, 0.24, 0.40],
        [0.36, 0.47, 0.62],
        [0.62, 0.72, 0.84],
        [0.44, 0.40, 0.28],
        [0.76, 0.68, 0.54],
        [0.36, 0.25, 0.18],
        [0.42, 0.10, 0.14],
        [0.72, 0.12, 0.14],
        [0.18, 0.30, 0.20],
    ]
)
_USUAL = 0.5  # of the cloths have a colour like those above; the others have any
_GREY = 0.2  # of any colour are greys
_SKINS = np.array(  # from the lightest to the darkest, evenly drawn; judged by eye
    [
        [0.95, 0.81, 0.73],
        [0.90, 0.72, 0.61],
        [0.83, 0.63, 0.50],
        [0.70, 0.49, 0.37],
        [0.52, 0.35, 0.26],
        [0.34, 0.22, 0.17],
    ]
)
_HAIRS = np.array(
    [
        [0.06, 0.05, 0.05],
        [0.13, 0.09, 0.07],
        [0.24, 0.15, 0.10],
        [0.38, 0.25, 0.15],
        [0.58, 0.43, 0.27],
        [0.78, 0.66, 0.46],
        [0.47, 0.20, 0.11],
        [0.55, 0.54, 0.53],
        [0.84, 0.83, 0.80],
    ]
)
_DARK_HAIR = 0.55  # of all hair is one of the first two
_DYED = 0.04  # has any colour


def cloth_colour(rng: np.random.Generator) -> np.ndarray:
    """Of a cloth.  # [3]"""
    if rng.random() < _USUAL:
        jitter = rng.uniform(0.85, 1.15) * _CLOTHS[rng.integers(len(_CLOTHS))]
        return (jitter + rng.normal(0, 0.03, 3)).clip(0.03, 0.98)
    saturation = rng.uniform(0, 0.12) if rng.random() < _GREY else rng.beta(1.3, 1.5)
    hsv = np.array([rng.uniform(0, 180), 255 * saturation, 255 * rng.beta(1.7, 1.2)])
    return cv2.cvtColor(hsv.astype(np.uint8)[None, None], cv2.COLOR_HSV2RGB)[0, 0] / 255.0


def hair_colour(rng: np.random.Generator) -> np.ndarray:
    """Of a head of hair.  # [3]"""
    if rng.random() < _DYED:
        return 0.8 * cloth_colour(rng)
    first = rng.integers(2) if rng.random() < _DARK_HAIR else rng.integers(2, len(_HAIRS))
    return (_HAIRS[first] * rng.uniform(0.75, 1.25) + rng.normal(0, 0.012, 3)).clip(0.02, 0.95)


# Cloth

_PATTERNS = {  # how often each is seen, by the place where a cloth is worn
    "top": {"plain": 0.46, "rows": 0.14, "columns": 0.05, "check": 0.09, "dots": 0.04}
    | {"print": 0.1, "block": 0.07, "sleeves": 0.05},
    "over": {"plain": 0.74, "rows": 0.03, "columns": 0.03, "check": 0.08, "block": 0.06}
    | {"sleeves": 0.06},
    "legs": {"plain": 0.83, "columns": 0.03, "check": 0.05, "print": 0.05, "sides": 0.04},
    "skirt": {"plain": 0.55, "rows": 0.08, "columns": 0.06, "check": 0.12, "dots": 0.06}
    | {"print": 0.13},
    "shoes": {"plain": 1.0},
}
_LOGO = {"top": 0.28, "over": 0.08}  # of the plain ones, in front only
_PLACKET = {"top": 0.22, "over": 0.5}  # a line of buttons down the front
_TRIM = 0.15  # with collar and cuffs of another colour
_FADED = 0.25  # of trousers are lighter in front of the thighs
_BELT, _BELT_HEIGHT = 0.25, 0.035  # of trousers; metres
_ROUND = 0.15  # metres: radius of the trunk by which patterns go round it
_GRAIN = 400.0  # radians per metre of what is finer than a fold


def cloth(rng: np.random.Generator, worn: str, size: Measures) -> Paint:
    """A new cloth.

    Args:
        rng: decides everything.
        worn: where, one of "top", "over", "legs", "skirt" and "shoes".
        size: of who wears it.
    """
    chances = _PATTERNS[worn]
    kind = str(rng.choice(list(chances), p=list(chances.values())))
    colours = np.stack([cloth_colour(rng) for _ in range(3)])
    pattern, folds = _pattern(kind, rng, size), _folds(rng)
    extras = _extras(rng, worn, kind, size)

    def paint(spots: Spots) -> np.ndarray:
        tone = colours[pattern(spots)]
        for mask, colour in extras:
            tone = np.where(mask(spots)[:, None], colour, tone)
        return (tone * folds(spots)[:, None]).clip(_DARKEST, _LIGHTEST)

    return paint


def _around(spots: Spots, size: Measures) -> tuple[np.ndarray, np.ndarray]:
    """Metres across and along the cloth: round and up the trunk, round and along a sleeve."""
    x, y, z = spots.points.T
    deep = z - size.middle
    across = _ROUND * np.arctan2(x, np.abs(deep) + 0.03)
    beyond = np.abs(x) - size.shoulder[0]
    arm = spots.arm > 0.5
    return np.where(arm, deep, across), np.where(arm, size.shoulder[1] - 0.1 - beyond, y)


def _pattern(kind: str, rng: np.random.Generator, size: Measures) -> Callable[[Spots], np.ndarray]:
    """Which of three colours lies where.  # [N] int"""
    wide, shift = rng.uniform(22, 120), rng.uniform(0, 6.3, 3)
    share, tall = rng.uniform(-0.6, 0.6), rng.uniform(0.3, 1.0) * wide
    level = size.neck - rng.uniform(0.12, 0.36) * (size.neck - size.hip) / 0.5
    waves = rng.normal(0, rng.uniform(15, 45), (4, 3))

    def find(spots: Spots) -> np.ndarray:
        across, along = _around(spots, size)
        rows, columns = np.sin(along * wide + shift[0]), np.sin(across * wide + shift[1])
        if kind == "rows":
            return (rows > share).astype(int)
        if kind == "columns":
            return (columns > share).astype(int)
        if kind == "check":
            return (rows > share).astype(int) + (np.sin(across * tall + shift[1]) > share)
        if kind == "dots":
            return (rows * columns > 0.4).astype(int)
        if kind == "print":
            blobs = np.sin(spots.points @ waves.T + shift[2]).sum(1)
            return np.digitize(blobs, [share, share + 1.1])
        if kind == "block":
            return (along < level).astype(int)
        if kind == "sleeves":
            return (spots.arm > 0.5).astype(int)
        if kind == "sides":
            return (np.abs(spots.points[:, 2] - size.middle) < 0.022).astype(int)
        return np.zeros(len(along), int)

    return find


def _folds(rng: np.random.Generator) -> Callable[[Spots], np.ndarray]:
    """Lighter and darker places of a cloth.  # [N] about 1"""
    waves, shift = rng.normal(0, 28, (3, 3)), rng.uniform(0, 6.3, 3)
    deep, grain = rng.uniform(0, 0.06), rng.uniform(0, 0.05) * (rng.random() < 0.5)
    fine = rng.normal(0, _GRAIN, (2, 3))

    def shade(spots: Spots) -> np.ndarray:
        soft = np.sin(spots.points @ waves.T + shift).sum(1)
        return 1 + deep * soft + grain * np.sin(spots.points @ fine.T).prod(1)

    return shade


def _extras(rng: np.random.Generator, worn: str, kind: str, size: Measures) -> list:
    """Logo, buttons, trim, belt: masks [N] of spots, each with its colour [3]."""
    extras: list[tuple[Callable[[Spots], np.ndarray], np.ndarray]] = []
    if kind == "plain" and rng.random() < _LOGO.get(worn, 0):
        extras.append((_logo(rng, size), cloth_colour(rng)))
    if rng.random() < _PLACKET.get(worn, 0):
        wide, colour = rng.uniform(0.004, 0.012), cloth_colour(rng)
        extras.append(
            (lambda s: (np.abs(s.points[:, 0]) < wide) & (s.points[:, 2] > size.middle), colour)
        )
    if worn in ("top", "over") and rng.random() < _TRIM:
        cuff, collar = rng.uniform(0.3, 0.97) * size.wrist, size.neck - rng.uniform(0, 0.05)
        extras.append(
            (
                lambda s: np.where(
                    s.arm > 0.5, np.abs(s.points[:, 0]) > cuff, s.points[:, 1] > collar
                ),
                cloth_colour(rng),
            )
        )
    if worn == "legs" and rng.random() < _BELT:
        low = size.waist - _BELT_HEIGHT
        extras.append((lambda s: s.points[:, 1] > low, cloth_colour(rng)))
    return extras


def _logo(rng: np.random.Generator, size: Measures) -> Callable[[Spots], np.ndarray]:
    """A figure or lines of writing on the chest.  # [N] bool"""
    centre = np.array([rng.normal(0, 0.03), size.neck - rng.uniform(0.12, 0.3)])
    half = rng.uniform(0.03, 0.1) * np.array([1, rng.uniform(0.3, 1.1)])
    shape, lines = int(rng.integers(4)), rng.uniform(1.5, 4)

    def find(spots: Spots) -> np.ndarray:
        away = (spots.points[:, :2] - centre) / half
        apart = np.abs(away)
        radius = (apart.max(1), np.hypot(*away.T), apart.sum(1), apart.max(1))[shape]
        inside = (radius < 1) & (spots.points[:, 2] > size.middle) & (spots.arm < 0.5)
        return inside & (np.sin(away[:, 1] * np.pi * lines) > -0.2) if shape == 3 else inside

    return find


def sewn(rng: np.random.Generator, worn: list[str], size: Measures) -> Paint:
    """A garment of several pieces, each of a cloth of its own.

    Args:
        rng: decides everything.
        worn: where each group of pieces is worn, see cloth.
        size: of who wears it.
    """
    cloths = [cloth(rng, each, size) for each in worn]

    def paint(spots: Spots) -> np.ndarray:
        colours = np.zeros((len(spots.points), 3))
        for group in np.unique(spots.group):
            own = spots.group == group
            part = Spots(*(values[own] for values in vars(spots).values()))
            colours[own] = cloths[group](part)
        return colours

    return paint


# Hair and skin


def hair(rng: np.random.Generator, colour: np.ndarray) -> Paint:
    """Strands of a colour [3], darker or lighter towards their ends."""
    fine, ends = rng.normal(0, (250, 25, 250), (2, 3)), rng.normal(0, 0.35)
    depth, top = rng.uniform(0.03, 0.12), rng.uniform(0.4, 0.6)

    def paint(spots: Spots) -> np.ndarray:
        strands = 1 + depth * np.sin(spots.points @ fine.T).sum(1)
        strands += ends * (top - spots.points[:, 1]).clip(0, 0.4)
        return (colour * strands[:, None]).clip(_DARKEST, _LIGHTEST)

    return paint


def skin(rng: np.random.Generator, size: Measures, brows: np.ndarray) -> Paint:
    """A skin with lips, brows of a colour [3] and eyes."""
    tone = rng.uniform(0, len(_SKINS) - 1)
    base = np.array([np.interp(tone, range(len(_SKINS)), row) for row in _SKINS.T])
    base = (base * rng.uniform(0.93, 1.07) + rng.normal(0, 0.012, 3)).clip(0.05, 0.98)
    lips = base * rng.uniform(0.7, 0.95) * (1.05, rng.uniform(0.6, 0.85), rng.uniform(0.65, 0.9))
    iris, waves = rng.uniform(0.05, 0.45, 3) * (1, 0.9, 0.8), rng.normal(0, 22, (3, 3))
    cheeks = rng.uniform(0, 0.05)
    apart = float(np.linalg.norm(size.eyes[0] - size.eyes[1]))
    centre = size.eyes.mean(0)

    def paint(spots: Spots) -> np.ndarray:
        colours = base * (1 + 0.02 * np.sin(spots.points @ waves.T).sum(1))[:, None]
        x, y, z = ((spots.points - centre) / apart).T
        face = ramp(z, -0.1, 0.25) * (np.abs(y) < 2.2)
        red = cheeks * face * np.exp(-((np.abs(x) - 0.65) ** 2 + (y + 0.6) ** 2) / 0.12)
        colours *= 1 + red[:, None] * (1, -1.2, -1.2)
        mouth = face * (np.hypot(x / 0.38, (y + 1.12) / 0.13) < 1)
        brow = face * (np.hypot((np.abs(x) - 0.5) / 0.36, (y - 0.36) / 0.075) < 1)
        for share, colour in ((mouth, lips), (0.8 * brow, 0.8 * brows)):
            colours += share[:, None] * (colour - colours)
        ball = spots.eye > 0.5
        to_pupil = np.hypot(np.abs(x) - 0.5, y)
        colours[ball] = np.where((to_pupil < 0.09)[:, None], iris, 0.85)[ball]
        return colours.clip(_DARKEST, _LIGHTEST)

    return paint
