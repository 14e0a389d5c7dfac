# SPDX-License-Identifier: Apache-2.0
"""Paint a person's skin on the body's UV map: tone, lips, brows, lashes, cheeks, stubble, freckles.

The UV map is MakeHuman's (CC0). On it a face lies sideways: u grows from the forehead to the chin,
v runs across the face; v here is measured downwards, and one unit is about 0.95 m of skin.
"""

from dataclasses import dataclass

import cv2
import numpy as np

SIZE = 2048
MIDLINE = 0.5168
FACE_WINDOW = ((0.40, 0.633), (0.75, 1.0))  # v and u that the face fills
EYES = (0.4833, 0.5500)  # v of the two eyes
EYE_U, UPPER_LID, LOWER_LID = 0.8390, 0.8352, 0.8442
MOUTH_U, MOUTH_HALF = 0.9085, 0.0180


@dataclass(frozen=True)
class Face:
    """What is painted. Colours are sRGB 0..1."""

    skin: tuple[float, float, float]
    lips: tuple[float, float, float]
    brow: tuple[float, float, float]
    brow_width: float = 0.0042
    blush: float = 0.5
    stubble: float = 0.0
    freckles: float = 0.0
    age: float = 0.0  # 0..1: lines and spots
    makeup: float = 0.0


def noise(shape: tuple[int, int], cell: float, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise of unit variance, features about `cell` pixels wide."""
    small = rng.normal(size=[max(int(side / cell) + 1, 4) for side in shape])
    return cv2.resize(small, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)


def _bump(u, v, centre, size):
    return np.exp(-0.5 * (((u - centre[0]) / size[0]) ** 2 + ((v - centre[1]) / size[1]) ** 2))


def _step(value, width):
    """0 below -width, 1 above width, smooth between."""
    t = np.clip(value / (2 * width) + 0.5, 0, 1)
    return t * t * (3 - 2 * t)


def _mix(image, colour, mask):
    return image + (np.asarray(colour) - image) * np.clip(mask, 0, 1)[..., None]


def _lips(u, v) -> tuple[np.ndarray, np.ndarray]:
    """Masks of the red of the lips and of the line between them."""
    across = np.clip(np.abs(v - MIDLINE) / MOUTH_HALF, 0, 1)
    bow = 0.0022 * np.exp(-((across / 0.16) ** 2))
    upper = 0.9085 - 0.0118 * (1 - across**2.2) + bow
    lower = 0.9085 + 0.0138 * np.sqrt(np.clip(1 - across**2, 0, 1))
    wide = _step(MOUTH_HALF - np.abs(v - MIDLINE), 0.0008)
    red = _step(u - upper, 0.0008) * _step(lower - u, 0.0012) * wide
    line = _step(u - 0.9045, 0.0008) * _step(0.9130 - u, 0.0008) * wide
    return red, line


def _brows(u, v, face: Face, rng) -> np.ndarray:
    """Soft strokes along an arch above each eye."""
    mask = np.zeros_like(u)
    for eye in EYES:
        out = (v - MIDLINE) * np.sign(eye - MIDLINE)  # metres-like distance from the midline
        share = np.clip((out - 0.0125) / 0.040, 0, 1)
        arch = (
            0.8185
            - 0.0052 * np.sin(np.clip(share * 1.15, 0, 1) * np.pi * 0.62)
            + (0.010 * np.clip(share - 0.65, 0, 1) ** 1.2)
        )
        width = face.brow_width * (1.0 - 0.75 * share**1.6)
        inside = _step(width - np.abs(u - arch), 0.0016)
        ends = _step(out - 0.0125, 0.002) * _step(0.0535 - out, 0.003)
        mask = np.maximum(mask, inside * ends)
    strokes = noise(u.shape, 2.2, rng)
    return mask * np.clip(0.85 + 0.35 * strokes, 0, 1)


def _eyes(u, v) -> tuple[np.ndarray, np.ndarray]:
    """Masks of the lash lines and of the shaded lids."""
    lash, lid = np.zeros_like(u), np.zeros_like(u)
    for eye in EYES:
        across = (v - eye) / 0.0125
        bend = 0.0022 * across**2
        near = _step(1.15 - np.abs(across), 0.12)
        lash = np.maximum(
            lash, near * _bump(u, v, (UPPER_LID + 0.0006 + 0 * bend, eye), (0.0011, 1.0))
        )
        lash = np.maximum(lash, 0.45 * near * _bump(u, v, (LOWER_LID, eye), (0.0008, 1.0)))
        lid = np.maximum(lid, _bump(u, v, (0.8315, eye), (0.0045, 0.014)))
        lid = np.maximum(lid, 0.5 * _bump(u, v, (0.8500, eye), (0.0035, 0.012)))
    return lash, lid


def _complexion(image, u, v, face: Face, rng) -> np.ndarray:
    """Blotches, blush, stubble, freckles and lines."""
    tone = np.asarray(face.skin)
    warm = tone * [1.0, 0.72, 0.68]
    image = image * (1 + 0.02 * noise(u.shape, 2.5, rng))[..., None]
    cheeks = sum(_bump(u, v, (0.868, MIDLINE + s * 0.045), (0.016, 0.016)) for s in (-1, 1))
    nose = _bump(u, v, (0.873, MIDLINE), (0.008, 0.009))
    image = _mix(image, warm, face.blush * (0.55 * cheeks + 0.5 * nose))
    low = _step(u - 0.887, 0.006) * _step(0.070 - np.abs(v - MIDLINE), 0.012)
    sides = _step(np.abs(v - MIDLINE) - 0.060, 0.008) * _step(0.085 - np.abs(v - MIDLINE), 0.006)
    sides = sides * _step(u - 0.862, 0.01)
    grain = np.clip(0.62 + 0.4 * noise(u.shape, 1.6, rng), 0, 1)
    beard = np.clip(low + sides, 0, 1) * grain * _step(0.972 - u, 0.01)
    image = _mix(image, np.asarray(face.brow) * 0.75, face.stubble * beard)
    spots = np.clip(noise(u.shape, 3.5, rng) - 1.5, 0, 1)
    near = sum(_bump(u, v, (0.862, MIDLINE + s * 0.035), (0.018, 0.03)) for s in (-1, 1))
    image = _mix(image, tone * [0.72, 0.55, 0.45], face.freckles * spots * near * 1.6)
    lines = sum(_bump(u, v, (0.786 + 0.0075 * k, MIDLINE), (0.0009, 0.03)) for k in range(4))
    folds = sum(
        _bump(u, v - s * 0.9 * (u - 0.89), (0.89, MIDLINE + s * 0.0225), (0.012, 0.0014))
        for s in (-1, 1)
    )
    return _mix(image, tone * [0.66, 0.52, 0.47], face.age * (0.40 * lines + 0.55 * folds))


def _paint_face(image, u, v, face: Face, rng) -> np.ndarray:
    """Everything that only the face has.  # [h, w, 3]"""
    tone = np.asarray(face.skin)
    image = _complexion(image, u, v, face, rng)
    red, line = _lips(u, v)
    lash, lid = _eyes(u, v)
    image = _mix(image, np.asarray(face.lips), red * 0.85)
    image = _mix(image, np.asarray(face.lips) * 0.35, line)
    image = _mix(image, tone * [0.74, 0.58, 0.56], lid * (0.35 + 0.4 * face.makeup))
    image = _mix(image, np.array([0.06, 0.04, 0.035]), lash * (0.75 + 0.25 * face.makeup))
    image = _mix(image, np.asarray(face.brow), _brows(u, v, face, rng) * 0.92)
    nostrils = sum(_bump(u, v, (0.8786, MIDLINE + s * 0.0086), (0.0022, 0.0022)) for s in (-1, 1))
    image = _mix(image, tone * 0.25, nostrils)
    return cv2.GaussianBlur(image, (0, 0), 0.5)


def paint_skin(face: Face, seed: int) -> np.ndarray:
    """The skin texture of one person.  # [SIZE, SIZE, 3] uint8 sRGB"""
    rng = np.random.default_rng(seed)
    mottled = 1 + 0.030 * noise((SIZE, SIZE), 60, rng) + 0.03 * noise((SIZE, SIZE), 9, rng)
    image = np.asarray(face.skin) * mottled[..., None]
    rows, columns = (np.arange(int(a * SIZE), int(b * SIZE)) for a, b in FACE_WINDOW)
    v, u = np.meshgrid((rows + 0.5) / SIZE, (columns + 0.5) / SIZE, indexing="ij")
    window = np.ix_(rows, columns)
    image[window] = _paint_face(image[window], u, v, face, rng)
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
