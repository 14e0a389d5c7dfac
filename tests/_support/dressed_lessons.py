# SPDX-License-Identifier: Apache-2.0
"""Made-up people for the completion network: a shirt over trousers, plain, seen from the front."""

from pathlib import Path

import numpy as np
from crowdgaussian.completion.layout import open_sheet

SKIN, UPPER, LOWER = 1, 3, 4
LOOKS, VIEWS = 2, 2


def write_people(folder: Path, count: int) -> Path:
    """Places, and `count` people of other colours and hems, as `data completion` writes them."""
    sheet = open_sheet()
    np.savez(folder / "places.npz", face=sheet.face, bary=sheet.barycentric.astype(np.float32))
    for number in range(count):
        np.savez(folder / f"people_{number:05d}.npz", **person(number))
    return folder


def person(number: int) -> dict[str, np.ndarray]:
    sheet, rng = open_sheet(), np.random.default_rng(number)
    height = sheet.position[:, 1]
    waist, neck = np.quantile(height, rng.uniform(0.4, 0.5)), np.quantile(height, 0.8)
    material = np.where(height > neck, SKIN, np.where(height > waist, UPPER, LOWER))
    palettes = rng.integers(20, 235, (LOOKS, 6, 3))
    albedo = palettes[:, material].astype(np.uint8)
    front = (255 * np.clip(sheet.normal[:, 2] / 0.4, 0, 1)).astype(np.uint8)
    seen = np.tile(front, (VIEWS, 1))
    places = (sheet.position[:, :2] - sheet.position[:, :2].min(0)) / 2.0
    texels = len(sheet)
    return {
        "valid": np.ones(texels, bool),
        "albedo": albedo,
        "seen": seen,
        "pixel": np.tile((255 * places).astype(np.uint8), (VIEWS, 1, 1)),
        "shown": np.where(front[:, None] > 0, albedo, 0)[None].repeat(VIEWS, 0),
        "light": np.ones((VIEWS, texels), np.float16),
        "tint": np.ones((VIEWS, 3), np.float16),
        "guess": np.zeros((VIEWS, texels), np.float16),
        "label": np.tile(material.astype(np.uint8), (VIEWS, 1)),
    }
