# SPDX-License-Identifier: Apache-2.0
"""Paint cloth: one square tile per garment, 1 m high, once around the trunk (u = 0.5 in front)."""

import numpy as np

from .paint_skin import _mix, _step, noise

SIZE = 1024


def _grid() -> tuple[np.ndarray, np.ndarray]:
    """u across (0..1 once around), v upwards in metres.  # [SIZE, SIZE] each"""
    rows = 1 - (np.arange(SIZE) + 0.5) / SIZE
    v, u = np.meshgrid(rows, (np.arange(SIZE) + 0.5) / SIZE, indexing="ij")
    return u, v


def _plain(u, v, colours, rng):
    return np.broadcast_to(np.asarray(colours[0]), (*u.shape, 3)).copy()


def _stripes(u, v, colours, rng, bands=14):
    image = _plain(u, v, colours, rng)
    wave = (v * bands) % 1.0
    return _mix(image, colours[1], _step(0.24 - np.abs(wave - 0.5), 0.03))


def _plaid(u, v, colours, rng):
    image = _plain(u, v, colours, rng)
    for position, count in ((u, 12), (v, 12)):
        wave = (position * count) % 1.0
        image = _mix(image, colours[1], 0.6 * _step(0.2 - np.abs(wave - 0.5), 0.02))
        image = _mix(image, colours[2], 0.85 * _step(0.035 - np.abs(wave - 0.08), 0.015))
    return image


def _denim(u, v, colours, rng):
    image = _plain(u, v, colours, rng)
    twill = 0.5 + 0.5 * np.sin((u + v) * SIZE * 1.1)
    fade = np.clip(0.25 + 0.22 * noise(u.shape, 170, rng), 0, 0.7)
    image = _mix(image, np.asarray(colours[1]), fade + 0.12 * twill)
    return image * (1 + 0.05 * noise(u.shape, 2.5, rng))[..., None]


def _dots(u, v, colours, rng, count=26):
    image = _plain(u, v, colours, rng)
    row = np.floor(v * count)
    x, y = (u * count + 0.5 * (row % 2)) % 1 - 0.5, (v * count) % 1 - 0.5
    return _mix(image, colours[1], _step(0.2 - np.hypot(x, y), 0.03))


def _floral(u, v, colours, rng, flowers=170, reach=28):
    image = _plain(u, v, colours, rng)
    span = np.arange(-reach, reach + 1)
    dx, dy = np.meshgrid(span / SIZE, span / SIZE)
    radius, angle = np.hypot(dx, dy), np.arctan2(dy, dx) * 5
    for k in range(flowers):
        row, column = rng.integers(0, SIZE, 2)
        size, turn = 0.012 + 0.014 * rng.random(), rng.random() * 6.28
        place = np.ix_((row + span) % SIZE, (column + span) % SIZE)
        petals = _step(size * (0.72 + 0.28 * np.cos(angle + turn)) - radius, 0.0015)
        flower = _mix(image[place], colours[1 + k % (len(colours) - 1)], petals)
        image[place] = _mix(flower, (0.95, 0.80, 0.25), _step(size * 0.25 - radius, 0.0015))
    return image


def _print(u, v, colours, rng):
    """A sun over waves on the chest, small letters-like marks below."""
    image = _plain(u, v, colours, rng)
    x, y = (u - 0.5), v - (colours[3] if len(colours) > 3 else 0.25)
    inside = _step(0.085 - np.hypot(x, y), 0.002)
    image = _mix(image, colours[1], inside)
    wave = y + 0.02 + 0.012 * np.sin(x * 90)
    for k in range(3):
        band = _step(0.007 - np.abs(wave + 0.026 * k), 0.002) * inside
        image = _mix(image, colours[0], band)
    marks = _step(np.sin(x * 330) * np.sin(x * 143 + 1.0) - 0.05, 0.05)
    text = marks * _step(0.012 - np.abs(y + 0.115), 0.002) * _step(0.08 - np.abs(x), 0.002)
    return _mix(image, colours[2], text)


def _block(u, v, colours, rng):
    """Two halves of different colours with a bright chest band: the left differs from the right."""
    image = _plain(u, v, colours, rng)
    level = (v - 0.13) % 1.0
    image = _mix(image, colours[1], _step(level - 0.12, 0.002) * _step(0.62 - level, 0.002))
    band = _step(0.022 - np.abs(level - 0.12), 0.002)
    return _mix(image, colours[2], band)


def _knit(u, v, colours, rng):
    image = _plain(u, v, colours, rng)
    ribs = 0.5 + 0.5 * np.sin(u * 2 * np.pi * 110)
    rows = 0.5 + 0.5 * np.sin(v * 2 * np.pi * 130 + 2.0 * np.sin(u * 2 * np.pi * 110))
    return image * (0.86 + 0.14 * ribs * (0.6 + 0.4 * rows))[..., None]


def _shoe(u, v, colours, rng):
    """u along the foot, v metres above the ground: sole, toe cap, laces."""
    image = _plain(u, v, colours, rng)
    image = _mix(image, colours[2], _step(0.020 - np.abs(u - 0.5), 0.004) * _step(v - 0.05, 0.003))
    cap = _step(u - 0.80, 0.004) * _step(0.06 - v, 0.004)
    image = _mix(image, colours[2], 0.8 * cap)
    laces = _step(np.sin(u * 190) - 0.2, 0.1) * _step(u - 0.5, 0.01) * _step(0.74 - u, 0.01)
    image = _mix(image, colours[1], laces * _step(v - 0.062, 0.003))
    return _mix(image, colours[1], _step(0.026 - v, 0.0015))


PATTERNS = {
    "plain": _plain,
    "stripes": _stripes,
    "plaid": _plaid,
    "denim": _denim,
    "dots": _dots,
    "floral": _floral,
    "print": _print,
    "block": _block,
    "knit": _knit,
    "shoe": _shoe,
}


def paint_cloth(pattern: str, colours: tuple, seed: int) -> np.ndarray:
    """One garment's tile.  # [SIZE, SIZE, 3] uint8 sRGB"""
    rng = np.random.default_rng(seed)
    u, v = _grid()
    image = PATTERNS[pattern](u, v, colours, rng)
    worn = 1 + 0.02 * noise(u.shape, 120, rng) + 0.03 * noise(u.shape, 1.7, rng)
    return (np.clip(image * worn[..., None], 0, 1) * 255 + 0.5).astype(np.uint8)
