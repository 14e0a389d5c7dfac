# SPDX-License-Identifier: Apache-2.0
"""One joint assignment of pixels to people and to everything else.

A detector's soft mask is one witness of several. Each person's log-odds against the background
are summed up from it, from where their fitted body and sure limbs lie, and from the colours of
each region of the body against those around it. Neighbouring pixels of like colour then agree on
one owner: a conditional field with contrast-sensitive Potts terms (Boykov and Jolly 2001), solved
by mean field (Kraehenbuehl and Koltun 2011, with eight neighbours instead of all).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from crowdgaussian_shared.geometry.skeleton import JOINT_NAMES
from scipy.special import softmax

from ..core.crop import box_of, disc
from ..people.types import Keypoints, Person
from .types import BodyLayer

# The copy of the photo in which pixels are shared out: people are about this tall in the median,
# within bounds on the longer side. The next step's edges are finer.
_TALL, _SIDES = 320.0, (480.0, 1100.0)

# Weights of the witnesses.
_SOFT, _SHAPE, _COLOUR, _COVERED = 0.5, 0.3, 0.8, 1.0
_LEAST_SOFT = 0.02  # a soft mask's never, and one minus it: its surely

# Where a body is. Lengths are parts of its height.
_SLACK, _HAIR = 0.02, 0.05  # around the body, and the head, that cost nothing
_FADE, _MOST_OUT = 0.03, 4.0  # beyond that a step of log-odds each, up to so many
_DEEP = 0.02  # inside, from which a pixel is worth a whole step
_SUPPORT = 0.425  # confidence of a limb's landmarks, from which the fitted limb is believed
_DOUBT, _DOUBTED = 1.5, (0.8, 0.4)  # log-odds for each step of confidence under the first, down to
# the second, in parts of the trunk's: such a limb may be behind a thing
_STROKE = 0.5  # the same, from which the limb is drawn where the landmarks have it, too
_NEARER = 0.05  # metres by which another body must be nearer to cover a pixel

# Colours, and how busy the photo is there: nets, grass and print are seldom clothes.
_BINS = 16  # of each axis of CIELAB
_BUSY, _BUSY_SIDE = (6.0, 14.0), 5  # steps of lightness' spread, 0..255, in a square of pixels
_MINE, _APART, _NOBODY = 0.96, 0.1, 0.15  # soft masks that surely are somebody's, or nobody's
_LEAST_SURE = 30  # pixels of a person, below which they have no colours
_PRIOR = 60.0  # pixels: weight of the whole person's colours in those of a region
_BESIDE, _AROUND = 0.08, 0.12  # of the height: surroundings of a region, and of the person
_CUBE = (len(_BUSY) + 1, _BINS, _BINS, _BINS)
_CLIP = 3.0  # log-odds of a colour at most
_RARE = 1e-5  # share of a colour that nobody has
_GRAIN = 0.8  # pixels: blur over the photo's grain

# Neighbours
_SMOOTH, _ROUNDS = 1.0, 8  # log-odds that one of like colour is worth; rounds of the mean field
_ACROSS = 0.1  # of it that holds across any edge

# How sure the next step may be of the answer at most: inside, where the soft mask says less, and
# outside, where it says more.
_INSIDE, _OUTSIDE = 0.85, 0.5


# Regions of the body and their sets of colours. A face's skin tells that of hands.
_FACE, _HANDS = 0, 9


@dataclass(frozen=True)
class _Limb:
    """A region of the body with its own colours."""

    joints: tuple[str, ...]  # what the names of its joints begin with
    landmarks: tuple[int, ...]  # which say whether it was seen
    colours: int  # regions of the same number share colours
    width: float = 0.0  # of the body's height; 0: not drawn


def _limbs() -> tuple[_Limb, ...]:
    sides = []
    for name, k, colours in (("left", 0, 2), ("right", 1, 4)):
        hand = tuple(f"{name}_{part}" for part in ("wrist", "index", "middle", "pinky", "ring"))
        sides += [
            _Limb((f"{name}_shoulder",), (11 + k, 13 + k), colours, 0.055),
            _Limb((f"{name}_elbow",), (13 + k, 15 + k), colours + 1, 0.04),
            _Limb((*hand, f"{name}_thumb"), (15 + k, 19 + k), _HANDS, 0.035),
            _Limb((f"{name}_hip",), (23 + k, 25 + k), 6, 0.08),
            _Limb((f"{name}_knee",), (25 + k, 27 + k), 7, 0.055),
            _Limb((f"{name}_ankle", f"{name}_foot"), (27 + k, 31 + k), 8, 0.04),
        ]
    head = _Limb(("neck", "head", "jaw", "left_eye", "right_eye"), (0, 7, 8), 0)
    trunk = _Limb(("pelvis", "spine", "left_collar", "right_collar"), (11, 12, 23, 24), 1)
    return (head, trunk, *sides)


_LIMBS = _limbs()
_HEAD, _TRUNK = 0, 1
_COLOURS = np.array([limb.colours for limb in _LIMBS])
_LIMB_OF_JOINT = np.array(
    [
        next(k for k, limb in enumerate(_LIMBS) if name.startswith(limb.joints))
        for name in JOINT_NAMES
    ],
    np.int8,
)


@dataclass(frozen=True)
class _Figure:
    """One person in the small copy."""

    soft: np.ndarray  # [h, w] float32 0..1
    limb: np.ndarray  # [h, w] int8, of _LIMBS, -1 beside the body
    supported: np.ndarray  # [h, w] bool, the body where it was seen
    doubt: np.ndarray  # [limbs] log-odds against a pixel near each
    depth: np.ndarray  # [h, w] float32 metres, inf beside the body
    height: float  # pixels


def share_out(
    photo: np.ndarray, people: Sequence[Person], layers: Sequence[BodyLayer]
) -> Iterator[np.ndarray]:
    """Soft masks that agree with each other, with the bodies and with the photo.

    Args:
        photo: [H, W, 3] uint8 sRGB.
        people: with soft masks.
        layers: their bodies in the photo.

    Yields:
        One a person, [H, W] float32 0..1.
    """
    if not people:
        return
    height, width = photo.shape[:2]
    tall = float(np.median([layer.height_px for layer in layers]))
    side = np.clip(max(width, height) * _TALL / tall, *_SIDES)
    scale = min(1.0, side / max(width, height))
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    small = cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
    figures = [_figure(*pair, size) for pair in zip(people, layers, strict=True)]
    labels = agree(small, log_odds(small, figures))
    for person, label in zip(people, labels, strict=True):
        soft = person.person_mask.astype(np.float32) / 255
        own = cv2.resize(label, (width, height), interpolation=cv2.INTER_LINEAR)
        sure = np.maximum(soft, 0.5 + (_INSIDE - 0.5) * (2 * own - 1))
        yield np.where(own > 0.5, sure, np.minimum(soft, _OUTSIDE * own))


def _figure(person: Person, layer: BodyLayer, size: tuple[int, int]) -> _Figure:
    scale = size[0] / layer.depth.shape[1]
    small = {
        name: cv2.resize(value, size, interpolation=cv2.INTER_NEAREST)
        for name, value in (("part", layer.part), ("depth", layer.depth))
    }
    limb = np.where(small["part"] >= 0, _LIMB_OF_JOINT[small["part"]], np.int8(-1))
    seen = _seen(person.keypoints)
    height = layer.height_px * scale
    limb = np.where(limb < 0, _strokes(person.keypoints, seen, scale, height, limb.shape), limb)
    soft = cv2.resize(person.person_mask, size, interpolation=cv2.INTER_AREA)
    return _Figure(
        soft.astype(np.float32) / 255,
        limb,
        (limb >= 0) & (seen >= _SUPPORT)[limb],
        _DOUBT * (_DOUBTED[0] - np.clip(seen / max(seen[_TRUNK], 1e-3), *_DOUBTED[::-1])),
        small["depth"],
        height,
    )


def _seen(keypoints: Keypoints) -> np.ndarray:
    """How surely each limb was seen; all are where there are no keypoints.  # [limbs] 0..1"""
    confidence = keypoints.confidence
    if not confidence.any():
        return np.ones(len(_LIMBS))
    seen = np.array([confidence[list(limb.landmarks)].min() for limb in _LIMBS])
    seen[_HEAD] = confidence[list(_LIMBS[_HEAD].landmarks)].max()
    seen[_TRUNK] = confidence[list(_LIMBS[_TRUNK].landmarks)].mean()
    return seen


def _strokes(
    keypoints: Keypoints, seen: np.ndarray, scale: float, height: float, shape: tuple
) -> np.ndarray:
    """Limbs as the landmarks have them.  # [h, w] int8, -1 where none is"""
    drawn = np.full(shape, -1, np.int16)
    if keypoints.confidence.any():
        ends = np.clip(keypoints.xy * scale, -30000, 30000).astype(int)
        for number, limb in enumerate(_LIMBS):
            if limb.width and seen[number] >= _STROKE:
                start, end = (ends[k].tolist() for k in limb.landmarks)
                cv2.line(drawn, start, end, number, max(int(limb.width * height), 1))
    return drawn.astype(np.int8)


def log_odds(photo: np.ndarray, figures: Sequence[_Figure]) -> np.ndarray:
    """Each person's log-odds against the background.  # [P, h, w] float32"""
    colours = _bins(photo)
    softs = np.stack([one.soft for one in figures])
    odds = np.zeros_like(softs)
    for index, one in enumerate(figures):
        soft = np.clip(one.soft, _LEAST_SOFT, 1 - _LEAST_SOFT)
        shape = _shape(one)
        odds[index] = _SOFT * np.log(soft / (1 - soft)) + _SHAPE * shape
        rest = np.delete(softs, index, axis=0).max(axis=0, initial=0.0)
        sure = (one.soft > _MINE) & (one.soft > rest + _APART) & (shape > 0)
        window = _window(one)
        nearest = _nearest_limb(one.limb[window])
        odds[index][window] -= one.doubt[nearest]
        if np.count_nonzero(sure) >= _LEAST_SURE:
            nobody = np.maximum(rest, one.soft)[window] < _NOBODY
            regions = _COLOURS[nearest]
            near = _Colours(colours[window], sure[window], nobody, regions)
            odds[index][window] += _COLOUR * _colour_odds(near, _BESIDE * one.height)
        for other in figures:
            nearer = (other.depth < one.depth - _NEARER) & np.isfinite(one.depth)
            odds[index] -= _COVERED * (nearer & (other.soft > 0.5))
    return odds


def _shape(one: _Figure) -> np.ndarray:
    """Where a pixel lies on, or how far beside, the body that was seen.  # [h, w] float32"""
    outside = _distance(~one.supported) - _SLACK * one.height
    hair = _distance(one.limb != _HEAD) - _HAIR * one.height
    out = np.maximum(np.minimum(outside, hair), 0) / (_FADE * one.height)
    deep = _distance(one.supported) / (_DEEP * one.height)
    return np.minimum(deep, 1) - np.minimum(out, _MOST_OUT)


def _distance(mask: np.ndarray) -> np.ndarray:
    """Distance of true pixels to the nearest false one; far where there is none."""
    if mask.all():
        return np.full(mask.shape, 1e6, np.float32)
    return cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)


def _window(one: _Figure) -> tuple[slice, slice]:
    """Rows and columns around a person."""
    box = box_of((one.limb >= 0) | (one.soft > 0.5))
    if box is None:
        return slice(0, 0), slice(0, 0)
    margin = int(_AROUND * one.height)
    x0, y0 = np.maximum(box[:2].astype(int) - margin, 0)
    x1, y1 = box[2:].astype(int) + margin
    return slice(y0, y1), slice(x0, x1)


def _nearest_limb(limb: np.ndarray) -> np.ndarray:
    """The limb nearest to each pixel; the trunk where there is none.  # int, like limb"""
    if not (limb >= 0).any():
        return np.full(limb.shape, _TRUNK)
    _, place = cv2.distanceTransformWithLabels(
        (limb < 0).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    table = np.zeros(place.max() + 1, int)
    table[place[limb >= 0]] = limb[limb >= 0]
    return table[place]


def _bins(photo: np.ndarray) -> np.ndarray:
    """The place of each pixel's colour and busyness in a histogram.  # [h, w] int64"""
    lab = cv2.cvtColor(photo, cv2.COLOR_RGB2LAB).astype(np.float32)
    place = ((lab - [0, 64, 64]) / [256, 128, 128] * _BINS).astype(np.int64).clip(0, _BINS - 1)
    square = (_BUSY_SIDE, _BUSY_SIDE)
    variance = cv2.blur(lab[..., 0] ** 2, square) - cv2.blur(lab[..., 0], square) ** 2
    spread = np.sqrt(np.maximum(variance, 0))
    busy = cv2.erode(spread, np.ones(square, np.uint8))  # so that an outline alone is not busy
    place = np.dstack([np.digitize(busy, _BUSY), place])
    return np.ravel_multi_index(tuple(np.moveaxis(place, -1, 0)), _CUBE)


def _histogram(bins: np.ndarray, where: np.ndarray) -> np.ndarray:
    """How often each colour is, smoothed over like ones, as a share.  # [bins] float32"""
    counts = np.bincount(bins[where], minlength=int(np.prod(_CUBE))).astype(np.float32)
    cube = counts.reshape(_CUBE)
    for axis in (1, 1, 2, 2, 3, 3):
        cube = 0.5 * cube + 0.25 * (np.roll(cube, 1, axis) + np.roll(cube, -1, axis))
    return cube.ravel() / max(float(cube.sum()), 1e-6)


@dataclass(frozen=True)
class _Colours:
    """What the pixels around a person say about their colours."""

    bins: np.ndarray  # [h, w] int64, see _bins
    sure: np.ndarray  # [h, w] bool, surely the person's
    nobody: np.ndarray  # [h, w] bool, surely no person's
    regions: np.ndarray  # [h, w] int, the set of colours of the nearest limb


def _colour_odds(near: _Colours, beside: float) -> np.ndarray:
    """Log-odds of each pixel's colour: that of its region of the body, or of what is around.

    Args:
        near: the person.
        beside: how far around a region its surroundings reach, pixels.

    Returns:
        [h, w] float32.
    """
    own, around = _histogram(near.bins, near.sure), _histogram(near.bins, near.nobody)
    odds = np.zeros(near.bins.shape, np.float32)
    for region in np.unique(near.regions):
        here = near.regions == region
        like = here | (near.regions == _FACE) if region == _HANDS else here
        wide = cv2.dilate(here.astype(np.uint8), disc(beside)) > 0
        mine = _with_prior(near.bins, near.sure & like, own)
        theirs = _with_prior(near.bins, near.nobody & wide, around)
        ratio = np.log((mine + _RARE) / (theirs + _RARE))
        odds[here] = ratio[near.bins[here]]
    return cv2.GaussianBlur(np.clip(odds, -_CLIP, _CLIP), (0, 0), _GRAIN)


def _with_prior(bins: np.ndarray, where: np.ndarray, prior: np.ndarray) -> np.ndarray:
    count = np.count_nonzero(where)
    return (_histogram(bins, where) * count + _PRIOR * prior) / (count + _PRIOR)


def agree(photo: np.ndarray, odds: np.ndarray) -> np.ndarray:
    """How surely each person has each pixel, once neighbours of like colour agree.

    Args:
        photo: [h, w, 3] uint8 sRGB.
        odds: [P, h, w] log-odds against the background.

    Returns:
        [P, h, w] float32 0..1; at a pixel the sum is at most 1.
    """
    scores = np.concatenate([np.zeros_like(odds[:1]), odds])
    links = list(_links(photo))
    owner = softmax(scores, axis=0)
    for _ in range(_ROUNDS):
        total = scores.copy()
        for mine, before in zip(total, owner, strict=True):
            for first, second, weight in links:
                mine[first] += weight * before[second]
                mine[second] += weight * before[first]
        owner = softmax(total, axis=0)
    return owner[1:]


def _links(photo: np.ndarray) -> Iterator[tuple[tuple, tuple, np.ndarray]]:
    """Pairs of neighbouring pixels, as slices, and how much they want one owner."""
    lab = cv2.cvtColor(photo, cv2.COLOR_RGB2LAB).astype(np.float32)
    here, there, every = slice(None, -1), slice(1, None), slice(None)
    pairs = (
        ((every, here), (every, there)),
        ((here, every), (there, every)),
        ((here, here), (there, there)),
        ((here, there), (there, here)),
    )
    apart = [((lab[a] - lab[b]) ** 2).sum(axis=-1) for a, b in pairs]
    contrast = 2 * float(np.mean([one.mean() for one in apart])) + 1e-6
    for (first, second), squared, length in zip(pairs, apart, (1, 1, 2**0.5, 2**0.5)):
        like = _ACROSS + (1 - _ACROSS) * np.exp(-squared / contrast)
        yield first, second, (_SMOOTH * like / length).astype(np.float32)
